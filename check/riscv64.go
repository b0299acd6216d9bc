package main

// #include "unicorn.h"
import "C"

import (
	"debug/elf"
	"strconv"
)

func init() {
	a := &arch{
		name: "riscv64", machine: elf.EM_RISCV, compiler: "riscv64-linux-gnu-gcc", source: "cs_riscv64.S",
		unicorn: [2]int{C.UC_ARCH_RISCV, C.UC_MODE_RISCV64},
		nop:     []byte{0x13, 0, 0, 0}, fence: func(code []byte) bool { return code[0] == 0x0f }, signature: 4, reorders: true, threadPointer: C.UC_RISCV_REG_X4, flags: -1,
		floats: [2]int{C.UC_RISCV_REG_MSTATUS, 3 << 13},
	}
	for i := 1; i < 32; i++ {
		if i != 4 { // the thread pointer: the emulator keeps it
			a.registers = append(a.registers, register{"x" + strconv.Itoa(i), C.UC_RISCV_REG_X0 + i})
		}
	}
	a.registers = append(a.registers, register{"f0", C.UC_RISCV_REG_F0}, register{"f1", C.UC_RISCV_REG_F1}, register{"pc", C.UC_RISCV_REG_PC})
	a.sp, a.pc, a.link = a.place("x2"), a.place("pc"), a.place("x1")
	a.arguments = a.places("x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
		"x8", "x9", "x18", "x19", "x20", "x21", "x22", "x23")
	a.context = a.place("x26")
	a.kept = a.places("x1", "x3", "x27")
	a.opening = a.places("x31")
	a.cArguments = a.arguments[:8]
	a.cResult = a.place("x10")
	a.cKept = a.places("x1", "x3", "x8", "x9", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27")
	arches = append(arches, a)
}
