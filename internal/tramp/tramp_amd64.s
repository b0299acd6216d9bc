//go:build linux && !android && cgo

#include "textflag.h"

// The thread pointer is the FS base, in Go code on a cgo thread as in C.
// FS is the segment prefix of the instruction behind it.
#define FS BYTE $0x64

// func CPU() int32
//	if *(fs + cpuID) < 0 { return slowCPU() }
//	return *(fs + cpuID)
// The jump leaves no frame behind: slowCPU returns to CPU's caller.
TEXT ·CPU(SB), NOSPLIT, $0-4
	MOVQ  ·cpuID(SB), AX
	FS; MOVL (AX), AX
	TESTL AX, AX
	JL    slow
	MOVL  AX, ret+0(FP)
	RET
slow:
	JMP   ·slowCPU(SB)

// FIELD is the body of a reader of a field that only a registered thread's
// area holds rightly:
//	if offset == 0 || *(fs + cpuID) < 0 { return slow() }
//	return *(fs + offset)
#define FIELD(offset, slow) \
	MOVQ  offset(SB), AX; \
	MOVQ  ·cpuID(SB), CX; \
	TESTQ AX, AX;         \
	JZ    absent;         \
	FS; MOVL (CX), CX;    \
	TESTL CX, CX;         \
	JL    absent;         \
	FS; MOVL (AX), AX;    \
	MOVL  AX, ret+0(FP);  \
	RET;                  \
absent:                       \
	JMP   slow(SB)

// func NodeID() int32
TEXT ·NodeID(SB), NOSPLIT, $0-4
	FIELD(·nodeID, ·slowNodeID)

// func ConcurrencyID() int32
TEXT ·ConcurrencyID(SB), NOSPLIT, $0-4
	FIELD(·mmCID, ·slowConcurrencyID)

// func ThreadPointer() unsafe.Pointer
//	return *(fs + 0), the thread control block's pointer to itself
TEXT ·ThreadPointer(SB), NOSPLIT, $0-8
	XORL AX, AX
	FS; MOVQ (AX), AX
	MOVQ AX, ret+0(FP)
	RET

// func Empty() int32
TEXT ·Empty(SB), NOSPLIT, $0-4
	MOVL $0, ret+0(FP)
	RET
