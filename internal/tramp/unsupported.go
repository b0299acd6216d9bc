//go:build !(linux && !android && cgo && (amd64 || arm64))

package tramp

import "unsafe"

// CPU returns what Slow.CPU says.
func CPU() int32 { return slowCPU() }

// NodeID returns what Slow.NodeID says.
func NodeID() int32 { return slowNodeID() }

// ConcurrencyID returns what Slow.ConcurrencyID says.
func ConcurrencyID() int32 { return slowConcurrencyID() }

// ThreadPointer returns nil: this build has no C library to ask.
func ThreadPointer() unsafe.Pointer { return nil }

// Empty returns zero.
//
//go:noinline
func Empty() int32 { return 0 }

// There are no critical sections.

const refused = 4 // rseq.NotRegistered

func Add(cells unsafe.Pointer, delta int64) int32                      { return refused }
func AddMMCID(cells unsafe.Pointer, delta int64) int32                 { return refused }
func LoadCBNEStore(x uint8, v *int64, expect, newv int64, i int) int32 { return refused }
func LoadAddStore(x uint8, v *int64, count int64, i int) int32         { return refused }
func LoadCBEQStoreAddLoadStore(x uint8, v *int64, expectnot int64, voffp uintptr, i int) (load int64, status int32) {
	return expectnot, refused
}
func LoadAddLoadLoadAddStore(x uint8, ptr *uintptr, off uintptr, inc int64, i int) int32 {
	return refused
}
func LoadCBNELoadCBNEStore(x uint8, v *int64, expect int64, v2 *int64, expect2, newv int64, i int) int32 {
	return refused
}
func LoadCBNEStoreStore(x uint8, v *int64, expect int64, v2 *int64, newv2, newv int64, i int) int32 {
	return refused
}
func LoadCBNEStoreStoreRelease(x uint8, v *int64, expect int64, v2 *int64, newv2, newv int64, i int) int32 {
	return refused
}
func LoadCBNEMemcpyStore(x uint8, v *int64, expect int64, dst, src unsafe.Pointer, n uintptr, newv int64, i int) int32 {
	return refused
}
func LoadCBNEMemcpyStoreRelease(x uint8, v *int64, expect int64, dst, src unsafe.Pointer, n uintptr, newv int64, i int) int32 {
	return refused
}

func Count(counter unsafe.Pointer, delta int64)             { slowCount(counter, delta) }
func Push(list unsafe.Pointer, v uint64, _ uint32) bool     { return slowPush(list, v, refused) }
func Pop(list unsafe.Pointer, _ uint32) (v uint64, ok bool) { return slowPop(list, refused) }
func PushBatch(list unsafe.Pointer, v *uint64, n int, _ uint32) int {
	return slowPushBatch(list, v, n, refused)
}
func PopBatch(list unsafe.Pointer, v *uint64, n int, _ uint32) int {
	return slowPopBatch(list, v, n, refused)
}
