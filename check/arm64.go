package main

// #include "unicorn.h"
import "C"

import (
	"debug/elf"
	"strconv"
)

func init() {
	a := &arch{
		name: "arm64", machine: elf.EM_AARCH64, compiler: "aarch64-linux-gnu-gcc", source: "cs_arm64.s",
		unicorn: [2]int{C.UC_ARCH_ARM64, C.UC_MODE_ARM},
		nop:     []byte{0x1f, 0x20, 0x03, 0xd5}, signature: 4, reorders: true, threadPointer: C.UC_ARM64_REG_TPIDR_EL0,
	}
	for i := range 29 {
		a.registers = append(a.registers, register{"x" + strconv.Itoa(i), C.UC_ARM64_REG_X0 + i})
	}
	a.registers = append(a.registers, register{"x29", C.UC_ARM64_REG_X29}, register{"x30", C.UC_ARM64_REG_X30},
		register{"sp", C.UC_ARM64_REG_SP}, register{"d0", C.UC_ARM64_REG_D0}, register{"d1", C.UC_ARM64_REG_D1}, register{"flags", C.UC_ARM64_REG_NZCV}, register{"pc", C.UC_ARM64_REG_PC})
	a.sp, a.pc, a.flags, a.link = a.place("sp"), a.place("pc"), a.place("flags"), a.place("x30")
	for i := range 16 {
		a.arguments = append(a.arguments, i)
	}
	a.context = a.place("x26")
	a.kept = a.places("x18", "x28", "x29", "x30")
	a.opening = a.places("x16", "x17", "flags")
	a.cArguments = a.arguments[:8]
	a.cResult = 0
	a.cKept = a.places("x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30")
	arches = append(arches, a)
}
