//go:build linux && cgo

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

// The critical sections read their arguments where the caller put them, since
// the jump leaves no frame behind, and return to the caller.

// func Add(cells unsafe.Pointer, delta int64) int32
TEXT ·Add(SB), NOSPLIT|NOFRAME, $0-20
	JMP rseqgo_v1_cs_add_cpu_id(SB)

// func AddMMCID(cells unsafe.Pointer, delta int64) int32
TEXT ·AddMMCID(SB), NOSPLIT|NOFRAME, $0-20
	JMP rseqgo_v1_cs_add_mm_cid(SB)

// func LoadCBNEStore(x uint8, v *int64, expect, newv int64, i int) int32
TEXT ·LoadCBNEStore(SB), NOSPLIT|NOFRAME, $0-44
	JMP rseqgo_v1_cs_load_cbne_store_cpu_id(SB)

// func LoadAddStore(x uint8, v *int64, count int64, i int) int32
TEXT ·LoadAddStore(SB), NOSPLIT|NOFRAME, $0-36
	JMP rseqgo_v1_cs_load_add_store_cpu_id(SB)

// func LoadCBEQStoreAddLoadStore(x uint8, v *int64, expectnot int64, voffp uintptr, i int) (load int64, status int32)
TEXT ·LoadCBEQStoreAddLoadStore(SB), NOSPLIT|NOFRAME, $0-52
	JMP rseqgo_v1_cs_load_cbeq_store_add_load_store_cpu_id(SB)

// func LoadAddLoadLoadAddStore(x uint8, ptr *uintptr, off uintptr, inc int64, i int) int32
TEXT ·LoadAddLoadLoadAddStore(SB), NOSPLIT|NOFRAME, $0-44
	JMP rseqgo_v1_cs_load_add_load_load_add_store_cpu_id(SB)

// func LoadCBNELoadCBNEStore(x uint8, v *int64, expect int64, v2 *int64, expect2, newv int64, i int) int32
TEXT ·LoadCBNELoadCBNEStore(SB), NOSPLIT|NOFRAME, $0-60
	JMP rseqgo_v1_cs_load_cbne_load_cbne_store_cpu_id(SB)

// func LoadCBNEStoreStore(x uint8, v *int64, expect int64, v2 *int64, newv2, newv int64, i int) int32
TEXT ·LoadCBNEStoreStore(SB), NOSPLIT|NOFRAME, $0-60
	JMP rseqgo_v1_cs_load_cbne_store_store_cpu_id(SB)

// func LoadCBNEStoreStoreRelease(x uint8, v *int64, expect int64, v2 *int64, newv2, newv int64, i int) int32
TEXT ·LoadCBNEStoreStoreRelease(SB), NOSPLIT|NOFRAME, $0-60
	JMP rseqgo_v1_cs_load_cbne_store_store_release_cpu_id(SB)

// func LoadCBNEMemcpyStore(x uint8, v *int64, expect int64, dst, src unsafe.Pointer, n uintptr, newv int64, i int) int32
TEXT ·LoadCBNEMemcpyStore(SB), NOSPLIT|NOFRAME, $0-68
	JMP rseqgo_v1_cs_load_cbne_memcpy_store_cpu_id(SB)

// func LoadCBNEMemcpyStoreRelease(x uint8, v *int64, expect int64, dst, src unsafe.Pointer, n uintptr, newv int64, i int) int32
TEXT ·LoadCBNEMemcpyStoreRelease(SB), NOSPLIT|NOFRAME, $0-68
	JMP rseqgo_v1_cs_load_cbne_memcpy_store_release_cpu_id(SB)
