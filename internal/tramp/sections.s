//go:build linux && !android && cgo && (amd64 || arm64)

#include "textflag.h"

// The critical sections read their arguments where the caller put them, since
// the jump leaves no frame behind, and return to the caller. Each entry has a line of
// the instruction cache for itself: an AMD EPYC predicted two jumps in one line badly,
// which made an add that followed pushes 1.6 times slower.

// func Add(cells unsafe.Pointer, delta int64) int32
TEXT ·Add(SB), NOSPLIT|NOFRAME, $0-20
	PCALIGN $64
	JMP rseqgo_v1_cs_add_cpu_id(SB)

// func AddMMCID(cells unsafe.Pointer, delta int64) int32
TEXT ·AddMMCID(SB), NOSPLIT|NOFRAME, $0-20
	PCALIGN $64
	JMP rseqgo_v1_cs_add_mm_cid(SB)

// func LoadCBNEStore(x uint8, v *int64, expect, newv int64, i int) int32
TEXT ·LoadCBNEStore(SB), NOSPLIT|NOFRAME, $0-44
	PCALIGN $64
	JMP rseqgo_v1_cs_load_cbne_store_cpu_id(SB)

// func LoadAddStore(x uint8, v *int64, count int64, i int) int32
TEXT ·LoadAddStore(SB), NOSPLIT|NOFRAME, $0-36
	PCALIGN $64
	JMP rseqgo_v1_cs_load_add_store_cpu_id(SB)

// func LoadCBEQStoreAddLoadStore(x uint8, v *int64, expectnot int64, voffp uintptr, i int) (load int64, status int32)
TEXT ·LoadCBEQStoreAddLoadStore(SB), NOSPLIT|NOFRAME, $0-52
	PCALIGN $64
	JMP rseqgo_v1_cs_load_cbeq_store_add_load_store_cpu_id(SB)

// func LoadAddLoadLoadAddStore(x uint8, ptr *uintptr, off uintptr, inc int64, i int) int32
TEXT ·LoadAddLoadLoadAddStore(SB), NOSPLIT|NOFRAME, $0-44
	PCALIGN $64
	JMP rseqgo_v1_cs_load_add_load_load_add_store_cpu_id(SB)

// func LoadCBNELoadCBNEStore(x uint8, v *int64, expect int64, v2 *int64, expect2, newv int64, i int) int32
TEXT ·LoadCBNELoadCBNEStore(SB), NOSPLIT|NOFRAME, $0-60
	PCALIGN $64
	JMP rseqgo_v1_cs_load_cbne_load_cbne_store_cpu_id(SB)

// func LoadCBNEStoreStore(x uint8, v *int64, expect int64, v2 *int64, newv2, newv int64, i int) int32
TEXT ·LoadCBNEStoreStore(SB), NOSPLIT|NOFRAME, $0-60
	PCALIGN $64
	JMP rseqgo_v1_cs_load_cbne_store_store_cpu_id(SB)

// func LoadCBNEStoreStoreRelease(x uint8, v *int64, expect int64, v2 *int64, newv2, newv int64, i int) int32
TEXT ·LoadCBNEStoreStoreRelease(SB), NOSPLIT|NOFRAME, $0-60
	PCALIGN $64
	JMP rseqgo_v1_cs_load_cbne_store_store_release_cpu_id(SB)

// func LoadCBNEMemcpyStore(x uint8, v *int64, expect int64, dst, src unsafe.Pointer, n uintptr, newv int64, i int) int32
TEXT ·LoadCBNEMemcpyStore(SB), NOSPLIT|NOFRAME, $0-68
	PCALIGN $64
	JMP rseqgo_v1_cs_load_cbne_memcpy_store_cpu_id(SB)

// func LoadCBNEMemcpyStoreRelease(x uint8, v *int64, expect int64, dst, src unsafe.Pointer, n uintptr, newv int64, i int) int32
TEXT ·LoadCBNEMemcpyStoreRelease(SB), NOSPLIT|NOFRAME, $0-68
	PCALIGN $64
	JMP rseqgo_v1_cs_load_cbne_memcpy_store_release_cpu_id(SB)

// The operations on the thread's own index find in BX or R9 where to go on where the
// section cannot do it. (Not in a variable that package rseq sets: in a plugin whose
// host has the package too, its init is not run.)
#ifdef GOARCH_amd64
#define OTHERWISE(slow) LEAQ slow(SB), BX
#else
#define OTHERWISE(slow) MOVD $slow(SB), R9
#endif

// func Count(counter unsafe.Pointer, delta int64)
TEXT ·Count(SB), NOSPLIT|NOFRAME, $0-16
	PCALIGN $64
	OTHERWISE(·slowCount)
	JMP rseqgo_v1_cs_count_cpu_id(SB)

// func Push(list unsafe.Pointer, v uint64, status uint32) bool
TEXT ·Push(SB), NOSPLIT|NOFRAME, $0-25
	PCALIGN $64
	OTHERWISE(·slowPush)
	JMP rseqgo_v1_cs_push_cpu_id(SB)

// func Pop(list unsafe.Pointer, status uint32) (v uint64, ok bool)
TEXT ·Pop(SB), NOSPLIT|NOFRAME, $0-25
	PCALIGN $64
	OTHERWISE(·slowPop)
	JMP rseqgo_v1_cs_pop_cpu_id(SB)

// func PushBatch(list unsafe.Pointer, v *uint64, n int, status uint32) int
TEXT ·PushBatch(SB), NOSPLIT|NOFRAME, $0-40
	PCALIGN $64
	OTHERWISE(·slowPushBatch)
	JMP rseqgo_v1_cs_push_batch_cpu_id(SB)

// func PopBatch(list unsafe.Pointer, v *uint64, n int, status uint32) int
TEXT ·PopBatch(SB), NOSPLIT|NOFRAME, $0-40
	PCALIGN $64
	OTHERWISE(·slowPopBatch)
	JMP rseqgo_v1_cs_pop_batch_cpu_id(SB)
