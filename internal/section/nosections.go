//go:build !(linux && !android && cgo && !purego && (amd64 || arm64 || riscv64))

package section

import (
	"unsafe"

	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/processor"
)

// Enabled is true in a build that has critical sections.
const Enabled = false

// Here is unused: without sections there is nothing to open.
var Here Gate

// Convention returns nil: the Go compiler makes both sides of each call.
func Convention() error { return nil }

// ThreadPointer returns nil: this build links no C library.
func ThreadPointer() unsafe.Pointer { return nil }

// CPUID and NodeID read the number from the processor, if that is known to be right.

func CPUID(slow ReadSlow) int32 {
	if cpu := processor.CPU(); cpu >= 0 {
		return cpu
	}
	return PortableRead(slow)
}

func NodeID(slow ReadSlow) int32 {
	if node := processor.NodeID(); node >= 0 {
		return node
	}
	return PortableRead(slow)
}

func MMCID(slow ReadSlow) int32 { return PortableRead(slow) }

func Index(x uint8, slow IndexSlow) int32 { return PortableIndex(x, slow) }

func Add(cells unsafe.Pointer, delta int64) int32      { return PortableAdd(cells, delta) }
func AddMMCID(cells unsafe.Pointer, delta int64) int32 { return PortableAdd(cells, delta) }

func LoadCBNEStore(x uint8, v *int64, expect, newv int64, i int) int32 {
	return PortableLoadCBNEStore(x, v, expect, newv, i)
}

func LoadAddStore(x uint8, v *int64, count int64, i int) int32 {
	return PortableLoadAddStore(x, v, count, i)
}

func LoadCBEQStoreAddLoadStore(x uint8, v *int64, expectnot int64, voffp uintptr, i int) (load int64, status int32) {
	return PortableLoadCBEQStoreAddLoadStore(x, v, expectnot, voffp, i)
}

func LoadAddLoadLoadAddStore(x uint8, ptr *uintptr, off uintptr, inc int64, i int) int32 {
	return PortableLoadAddLoadLoadAddStore(x, ptr, off, inc, i)
}

func LoadCBNELoadCBNEStore(x uint8, v *int64, expect int64, v2 *int64, expect2, newv int64, i int) int32 {
	return PortableLoadCBNELoadCBNEStore(x, v, expect, v2, expect2, newv, i)
}

func LoadCBNEStoreStore(x uint8, v *int64, expect int64, v2 *int64, newv2, newv int64, i int) int32 {
	return PortableLoadCBNEStoreStore(x, v, expect, v2, newv2, newv, i)
}

func LoadCBNEStoreStoreRelease(x uint8, v *int64, expect int64, v2 *int64, newv2, newv int64, i int) int32 {
	return PortableLoadCBNEStoreStore(x, v, expect, v2, newv2, newv, i)
}

func LoadCBNEMemcpyStore(x uint8, v *int64, expect int64, dst, src unsafe.Pointer, n uintptr, newv int64, i int) int32 {
	return PortableLoadCBNEMemcpyStore(x, v, expect, dst, src, n, newv, i)
}

func LoadCBNEMemcpyStoreRelease(x uint8, v *int64, expect int64, dst, src unsafe.Pointer, n uintptr, newv int64, i int) int32 {
	return PortableLoadCBNEMemcpyStore(x, v, expect, dst, src, n, newv, i)
}

func Count(counter unsafe.Pointer, delta int64, slow CountSlow) { PortableCount(counter, delta, slow) }

func CountFloat(counter unsafe.Pointer, delta uint64, slow FloatSlow) {
	PortableCountFloat(counter, delta, slow)
}

func Observe(histogram unsafe.Pointer, bucket uintptr, v uint64, slow ObserveSlow) {
	PortableObserve(histogram, bucket, v, slow)
}

func ReadLock(lock unsafe.Pointer, delta int64, slow LockSlow) bool {
	return PortableReadLock(lock, delta, slow)
}

func Push(list unsafe.Pointer, v uint64, slow PushSlow, status uint32) bool {
	return PortablePush(list, v, slow, status)
}

func Pop(list unsafe.Pointer, slow PopSlow, status uint32) (v uint64, ok bool) {
	return PortablePop(list, slow, status)
}

func Take(list unsafe.Pointer, slow TakeSlow, _ uint32) (v unsafe.Pointer, ok bool) {
	return slow(list, nil, abi.NotRegistered)
}

func PushBatch(list unsafe.Pointer, v *uint64, n int, slow BatchSlow, status uint32) int {
	return PortableBatch(list, v, n, slow, status)
}

func PopBatch(list unsafe.Pointer, v *uint64, n int, slow BatchSlow, status uint32) int {
	return PortableBatch(list, v, n, slow, status)
}
