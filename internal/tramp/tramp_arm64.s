//go:build linux && !android && cgo

#include "textflag.h"

// The thread pointer is TPIDR_EL0, in Go code on a cgo thread as in C.

// func CPU() int32
//	if *(tp + cpuID) < 0 { return slowCPU() }
//	return *(tp + cpuID)
// The jump leaves no frame behind: slowCPU returns to CPU's caller.
TEXT ·CPU(SB), NOSPLIT, $0-4
	MOVD ·cpuID(SB), R0
	MRS  TPIDR_EL0, R1
	MOVW (R0)(R1), R0
	TBNZ $31, R0, slow
	MOVW R0, ret+0(FP)
	RET
slow:
	JMP  ·slowCPU(SB)

// FIELD is the body of a reader of a field that only a registered thread's
// area holds rightly:
//	if offset == 0 || *(tp + cpuID) < 0 { return slow() }
//	return *(tp + offset)
#define FIELD(offset, slow) \
	MOVD offset(SB), R0;     \
	MOVD ·cpuID(SB), R2;     \
	CBZ  R0, absent;         \
	MRS  TPIDR_EL0, R1;      \
	MOVW (R2)(R1), R2;       \
	TBNZ $31, R2, absent;    \
	MOVW (R0)(R1), R0;       \
	MOVW R0, ret+0(FP);      \
	RET;                     \
absent:                          \
	JMP  slow(SB)

// func NodeID() int32
TEXT ·NodeID(SB), NOSPLIT, $0-4
	FIELD(·nodeID, ·slowNodeID)

// func ConcurrencyID() int32
TEXT ·ConcurrencyID(SB), NOSPLIT, $0-4
	FIELD(·mmCID, ·slowConcurrencyID)

// func ThreadPointer() unsafe.Pointer
TEXT ·ThreadPointer(SB), NOSPLIT, $0-8
	MRS  TPIDR_EL0, R0
	MOVD R0, ret+0(FP)
	RET

// func Empty() int32
TEXT ·Empty(SB), NOSPLIT, $0-4
	MOVW $0, R0
	MOVW R0, ret+0(FP)
	RET
