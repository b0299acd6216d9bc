package main

// #include "unicorn.h"
import "C"

import "debug/elf"

func init() {
	a := &arch{
		name: "amd64", machine: elf.EM_X86_64, compiler: "x86_64-linux-gnu-gcc", source: "cs_amd64.s",
		unicorn: [2]int{C.UC_ARCH_X86, C.UC_MODE_64},
		registers: []register{
			{"rax", C.UC_X86_REG_RAX}, {"rbx", C.UC_X86_REG_RBX}, {"rcx", C.UC_X86_REG_RCX}, {"rdx", C.UC_X86_REG_RDX},
			{"rsi", C.UC_X86_REG_RSI}, {"rdi", C.UC_X86_REG_RDI}, {"rbp", C.UC_X86_REG_RBP}, {"rsp", C.UC_X86_REG_RSP},
			{"r8", C.UC_X86_REG_R8}, {"r9", C.UC_X86_REG_R9}, {"r10", C.UC_X86_REG_R10}, {"r11", C.UC_X86_REG_R11},
			{"r12", C.UC_X86_REG_R12}, {"r13", C.UC_X86_REG_R13}, {"r14", C.UC_X86_REG_R14}, {"r15", C.UC_X86_REG_R15},
			{"xmm0", C.UC_X86_REG_XMM0}, {"flags", C.UC_X86_REG_EFLAGS}, {"rip", C.UC_X86_REG_RIP},
		},
		nop: []byte{0x90}, signature: 7, firstFlags: 2, threadPointer: C.UC_X86_REG_FS_BASE, zeroVector: C.UC_X86_REG_XMM15, link: -1,
	}
	a.sp, a.pc, a.flags = a.place("rsp"), a.place("rip"), a.place("flags")
	a.arguments = a.places("rax", "rbx", "rcx", "rdi", "rsi", "r8", "r9", "r10", "r11")
	a.context = a.place("rdx")
	a.kept = a.places("rbp", "r14", "r15") // r15 is the GOT in dynamically linked Go programs
	a.opening = a.places("rdx", "flags")
	a.cArguments = a.places("rdi", "rsi", "rdx", "rcx", "r8", "r9")
	a.cResult = a.place("rax")
	a.cKept = a.places("rbx", "rbp", "r12", "r13", "r14", "r15")
	arches = append(arches, a)
}
