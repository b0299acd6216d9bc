//go:build linux && !android && !purego

// The instructions that Go has no function for: the two that read the number, and CPUID, which
// lists them.

#include "textflag.h"

// func read(w way) uint32
//
// read returns IA32_TSC_AUX, where Linux keeps node << 12 | CPU, or all ones.
TEXT ·read(SB), NOSPLIT, $0-12
	MOVL	w+0(FP), AX
	CMPL	AX, $1 // rdpid
	JNE	other
	RDPID	AX
	MOVL	AX, ret+8(FP)
	RET
other:
	CMPL	AX, $2 // rdtscp
	JNE	none
	RDTSCP // AX, DX: the time; CX: IA32_TSC_AUX
	MOVL	CX, ret+8(FP)
	RET
none:
	MOVL	$0xffffffff, AX
	MOVL	AX, ret+8(FP)
	RET

// func cpuid(leaf, subleaf uint32) (eax, ecx, edx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-20
	MOVL	leaf+0(FP), AX
	MOVL	subleaf+4(FP), CX
	CPUID // BX too
	MOVL	AX, eax+8(FP)
	MOVL	CX, ecx+12(FP)
	MOVL	DX, edx+16(FP)
	RET
