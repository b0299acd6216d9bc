package section

import (
	"unsafe"

	"github.com/rseq-go/rseq/internal/abi"
)

// The operations in builds without sections, and where Convention returned an error. Each
// has the signature of its operation.

func PortableRead(slow ReadSlow) int32 { return slow(nil) }

func PortableIndex(x uint8, slow IndexSlow) int32 { return slow(x, nil) }

func PortableAdd(unsafe.Pointer, int64) int32 { return abi.NotRegistered }

func PortableLoadCBNEStore(uint8, *int64, int64, int64, int) int32 { return abi.NotRegistered }

func PortableLoadAddStore(uint8, *int64, int64, int) int32 { return abi.NotRegistered }

func PortableLoadCBEQStoreAddLoadStore(uint8, *int64, int64, uintptr, int) (load int64, status int32) {
	return 0, abi.NotRegistered
}

func PortableLoadAddLoadLoadAddStore(uint8, *uintptr, uintptr, int64, int) int32 {
	return abi.NotRegistered
}

func PortableLoadCBNELoadCBNEStore(uint8, *int64, int64, *int64, int64, int64, int) int32 {
	return abi.NotRegistered
}

func PortableLoadCBNEStoreStore(uint8, *int64, int64, *int64, int64, int64, int) int32 {
	return abi.NotRegistered
}

func PortableLoadCBNEMemcpyStore(uint8, *int64, int64, unsafe.Pointer, unsafe.Pointer, uintptr, int64, int) int32 {
	return abi.NotRegistered
}

func PortableCount(counter unsafe.Pointer, delta int64, slow CountSlow) { slow(counter, delta, nil) }

func PortableCountFloat(counter unsafe.Pointer, delta uint64, slow FloatSlow) {
	slow(counter, delta, nil)
}

func PortableObserve(histogram unsafe.Pointer, bucket uintptr, v uint64, slow ObserveSlow) {
	slow(histogram, bucket, v, nil)
}

func PortableReadLock(lock unsafe.Pointer, delta int64, slow LockSlow) bool {
	return slow(lock, delta, nil)
}

func PortablePush(list unsafe.Pointer, v uint64, slow PushSlow, _ uint32) bool {
	return slow(list, v, nil, abi.NotRegistered)
}

func PortablePop(list unsafe.Pointer, slow PopSlow, _ uint32) (v uint64, ok bool) {
	return slow(list, nil, abi.NotRegistered)
}

func PortableBatch(list unsafe.Pointer, v *uint64, n int, slow BatchSlow, _ uint32) int {
	return slow(list, v, n, nil, abi.NotRegistered)
}
