//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package section

import (
	"fmt"
	"runtime"
	"unsafe"

	"github.com/rseq-go/rseq/internal/abi"
)

// Enabled is true in a build that has critical sections.
const Enabled = true

// The assembly reads the gate's words at the offsets of internal/abi. If they differ from
// the type's, this does not compile.
var _ = [...][0]int{
	[unsafe.Offsetof(Gate{}.ReadCPUID) - abi.GateReadCPUID]int{},
	[unsafe.Offsetof(Gate{}.ReadNodeID) - abi.GateReadNodeID]int{},
	[unsafe.Offsetof(Gate{}.ReadMMCID) - abi.GateReadMMCID]int{},
	[unsafe.Offsetof(Gate{}.CSCPUID) - abi.GateCSCPUID]int{},
	[unsafe.Offsetof(Gate{}.CSMMCID) - abi.GateCSMMCID]int{},
	[unsafe.Offsetof(Gate{}.Possible) - abi.GatePossible]int{},
	[unsafe.Sizeof(Gate{}) - abi.GateSize]int{},
}

// Here is the gate of the program or library that this code is linked into. In code that was
// inlined into a plugin it is the plugin's.
//
//go:linkname Here rseqgo_v1_gate
var Here Gate

// Convention returns nil if the compiler passes arguments and results as cs_<arch>.s
// expects, and an error if not. After an error nothing else here may be called until
// package rseq has set the portable functions.
func Convention() error { return asked }

var asked = func() error {
	if conventionHolds() {
		return nil
	}
	return fmt.Errorf("this package's assembly does not know how %s passes arguments in registers", runtime.Version())
}()

// ThreadPointer returns the address that thread-local storage is relative to: the FS base
// on amd64, TPIDR_EL0 on arm64, tp on riscv64. Package rseq sets it to a C function.
var ThreadPointer func() unsafe.Pointer

// The readers return a field of the calling thread's area. If the thread has no area, or
// the area has no such field, they return what slow returns.

//go:linkname CPUID rseqgo_v1_read_cpu_id
//go:noescape
func CPUID(slow ReadSlow) int32

//go:linkname NodeID rseqgo_v1_read_node_id
//go:noescape
func NodeID(slow ReadSlow) int32

//go:linkname MMCID rseqgo_v1_read_mm_cid
//go:noescape
func MMCID(slow ReadSlow) int32

// Index is CPUID or MMCID. x, an Index of package rseq, selects which.
//
//go:linkname Index rseqgo_v1_read_index
//go:noescape
func Index(x uint8, slow IndexSlow) int32

// The critical sections, which package rseq documents. They return a Status. x is an Index.

//go:linkname Add rseqgo_v1_cs_add_cpu_id
//go:noescape
func Add(cells unsafe.Pointer, delta int64) int32

//go:linkname AddMMCID rseqgo_v1_cs_add_mm_cid
//go:noescape
func AddMMCID(cells unsafe.Pointer, delta int64) int32

//go:linkname LoadCBNEStore rseqgo_v1_cs_load_cbne_store_cpu_id
//go:noescape
func LoadCBNEStore(x uint8, v *int64, expect, newv int64, i int) int32

//go:linkname LoadAddStore rseqgo_v1_cs_load_add_store_cpu_id
//go:noescape
func LoadAddStore(x uint8, v *int64, count int64, i int) int32

//go:linkname LoadCBEQStoreAddLoadStore rseqgo_v1_cs_load_cbeq_store_add_load_store_cpu_id
//go:noescape
func LoadCBEQStoreAddLoadStore(x uint8, v *int64, expectnot int64, voffp uintptr, i int) (load int64, status int32)

//go:linkname LoadAddLoadLoadAddStore rseqgo_v1_cs_load_add_load_load_add_store_cpu_id
//go:noescape
func LoadAddLoadLoadAddStore(x uint8, ptr *uintptr, off uintptr, inc int64, i int) int32

//go:linkname LoadCBNELoadCBNEStore rseqgo_v1_cs_load_cbne_load_cbne_store_cpu_id
//go:noescape
func LoadCBNELoadCBNEStore(x uint8, v *int64, expect int64, v2 *int64, expect2, newv int64, i int) int32

//go:linkname LoadCBNEStoreStore rseqgo_v1_cs_load_cbne_store_store_cpu_id
//go:noescape
func LoadCBNEStoreStore(x uint8, v *int64, expect int64, v2 *int64, newv2, newv int64, i int) int32

//go:linkname LoadCBNEStoreStoreRelease rseqgo_v1_cs_load_cbne_store_store_release_cpu_id
//go:noescape
func LoadCBNEStoreStoreRelease(x uint8, v *int64, expect int64, v2 *int64, newv2, newv int64, i int) int32

//go:linkname LoadCBNEMemcpyStore rseqgo_v1_cs_load_cbne_memcpy_store_cpu_id
//go:noescape
func LoadCBNEMemcpyStore(x uint8, v *int64, expect int64, dst, src unsafe.Pointer, n uintptr, newv int64, i int) int32

//go:linkname LoadCBNEMemcpyStoreRelease rseqgo_v1_cs_load_cbne_memcpy_store_release_cpu_id
//go:noescape
func LoadCBNEMemcpyStoreRelease(x uint8, v *int64, expect int64, dst, src unsafe.Pointer, n uintptr, newv int64, i int) int32

// The operations of package percpu, on the thread's own index. The first argument of each
// is a structure of percpu, whose offsets are in internal/abi. A caller passes status zero;
// slow gets a Status that says why the section did not take effect.

//go:linkname Count rseqgo_v1_cs_count_cpu_id
//go:noescape
func Count(counter unsafe.Pointer, delta int64, slow CountSlow)

// CountFloat adds a float64 to a float64. delta has its bits, since the convention check
// passes integers.
//
//go:linkname CountFloat rseqgo_v1_cs_count_float_cpu_id
//go:noescape
func CountFloat(counter unsafe.Pointer, delta uint64, slow FloatSlow)

// Observe adds 1 to the count of the bucket that is so many bytes behind the CPU's first
// word, and the float64 whose bits v has to the bucket's sum.
//
//go:linkname Observe rseqgo_v1_cs_observe_cpu_id
//go:noescape
func Observe(histogram unsafe.Pointer, bucket uintptr, v uint64, slow ObserveSlow)

//go:linkname ReadLock rseqgo_v1_cs_read_lock_cpu_id
//go:noescape
func ReadLock(lock unsafe.Pointer, delta int64, slow LockSlow) bool

//go:linkname Push rseqgo_v1_cs_push_cpu_id
//go:noescape
func Push(list unsafe.Pointer, v uint64, slow PushSlow, status uint32) bool

//go:linkname Pop rseqgo_v1_cs_pop_cpu_id
//go:noescape
func Pop(list unsafe.Pointer, slow PopSlow, status uint32) (v uint64, ok bool)

// Take is Pop of an address.
//
//go:linkname Take rseqgo_v1_cs_pop_cpu_id
//go:noescape
func Take(list unsafe.Pointer, slow TakeSlow, status uint32) (v unsafe.Pointer, ok bool)

//go:linkname PushBatch rseqgo_v1_cs_push_batch_cpu_id
//go:noescape
func PushBatch(list unsafe.Pointer, v *uint64, n int, slow BatchSlow, status uint32) int

//go:linkname PopBatch rseqgo_v1_cs_pop_batch_cpu_id
//go:noescape
func PopBatch(list unsafe.Pointer, v *uint64, n int, slow BatchSlow, status uint32) int
