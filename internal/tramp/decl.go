//go:build linux && !android && cgo && (amd64 || arm64)

package tramp

import "unsafe"

// CPU returns the calling thread's cpu_id, or what Slow.CPU says.
func CPU() int32

// NodeID returns the calling thread's node_id, or what Slow.NodeID says.
func NodeID() int32

// ConcurrencyID returns the calling thread's mm_cid, or what
// Slow.ConcurrencyID says.
func ConcurrencyID() int32

// ThreadPointer returns what the C library's thread-local storage is relative
// to: the FS base on amd64, TPIDR_EL0 on arm64.
func ThreadPointer() unsafe.Pointer

// Empty returns zero. It has the shape of CPU without its work: the yardstick
// for "the price of a plain function call".
func Empty() int32

// The critical sections of cs_<arch>.s, each one jump into it. Package rseq
// documents them; x is its Index.

//go:noescape
func Add(cells unsafe.Pointer, delta int64) int32

//go:noescape
func AddMMCID(cells unsafe.Pointer, delta int64) int32

//go:noescape
func LoadCBNEStore(x uint8, v *int64, expect, newv int64, i int) int32

//go:noescape
func LoadAddStore(x uint8, v *int64, count int64, i int) int32

//go:noescape
func LoadCBEQStoreAddLoadStore(x uint8, v *int64, expectnot int64, voffp uintptr, i int) (load int64, status int32)

//go:noescape
func LoadAddLoadLoadAddStore(x uint8, ptr *uintptr, off uintptr, inc int64, i int) int32

//go:noescape
func LoadCBNELoadCBNEStore(x uint8, v *int64, expect int64, v2 *int64, expect2, newv int64, i int) int32

//go:noescape
func LoadCBNEStoreStore(x uint8, v *int64, expect int64, v2 *int64, newv2, newv int64, i int) int32

//go:noescape
func LoadCBNEStoreStoreRelease(x uint8, v *int64, expect int64, v2 *int64, newv2, newv int64, i int) int32

//go:noescape
func LoadCBNEMemcpyStore(x uint8, v *int64, expect int64, dst, src unsafe.Pointer, n uintptr, newv int64, i int) int32

//go:noescape
func LoadCBNEMemcpyStoreRelease(x uint8, v *int64, expect int64, dst, src unsafe.Pointer, n uintptr, newv int64, i int) int32

// The operations on the thread's own index, for package percpu. Each begins with a
// structure of its (cs.h) and does what Slow has under its name where the section
// cannot: then status, if there is one, zero in a call, says why, as a Status of
// package rseq.

//go:noescape
func Count(counter unsafe.Pointer, delta int64)

//go:noescape
func Push(list unsafe.Pointer, v uint64, status uint32) bool

//go:noescape
func Pop(list unsafe.Pointer, status uint32) (v uint64, ok bool)

//go:noescape
func PushBatch(list unsafe.Pointer, v *uint64, n int, status uint32) int

//go:noescape
func PopBatch(list unsafe.Pointer, v *uint64, n int, status uint32) int
