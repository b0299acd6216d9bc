//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package rseq

/*
#include "internal.h"
#include "rseqgo.h"

// What Go calls in cs_<arch>.s.
#define FUNCTION(name, op) \
	extern void rseqgo_v1_##name(void) RSEQGO_HIDDEN; \
	extern uintptr_t rseqgo_v1_portable_##op RSEQGO_HIDDEN;
#define BY_CPU(op) FUNCTION(cs_##op##_cpu_id, op)
FUNCTION(read_cpu_id, read)
FUNCTION(read_node_id, read)
FUNCTION(read_mm_cid, read)
FUNCTION(read_index, read_index)
FUNCTION(cs_add_mm_cid, add)
BY_CPU(add)
BY_CPU(count)
BY_CPU(count_float)
BY_CPU(observe)
BY_CPU(read_lock)
BY_CPU(push)
BY_CPU(pop)
BY_CPU(push_batch)
BY_CPU(pop_batch)
BY_CPU(load_cbne_store)
BY_CPU(load_add_store)
BY_CPU(load_cbeq_store_add_load_store)
BY_CPU(load_add_load_load_add_store)
BY_CPU(load_cbne_load_cbne_store)
BY_CPU(load_cbne_store_store)
BY_CPU(load_cbne_store_store_release)
BY_CPU(load_cbne_memcpy_store)
BY_CPU(load_cbne_memcpy_store_release)
extern void rseqgo_v1_convention(void) RSEQGO_HIDDEN;
*/
import "C"

import (
	"reflect"
	"unsafe"

	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/section"
)

// The sections use the offsets and statuses of internal/abi for Cells and Status;
// a difference does not compile.
var _ = [...][0]int{
	[unsafe.Offsetof(Cells{}.Base) - abi.CellsBase]int{},
	[unsafe.Offsetof(Cells{}.N) - abi.CellsN]int{},
	[unsafe.Offsetof(Cells{}.Stride) - abi.CellsStride]int{},
	[Done - abi.Done]int{},
	[CompareFailed - abi.CompareFailed]int{},
	[Raced - abi.Raced]int{},
	[OutOfRange - abi.OutOfRange]int{},
	[NotRegistered - abi.NotRegistered]int{},

	// So does C, by rseqgo.h.
	[C.RSEQGO_DONE - abi.Done]int{},
	[C.RSEQGO_COMPARE_FAILED - abi.CompareFailed]int{},
	[C.RSEQGO_RACED - abi.Raced]int{},
	[C.RSEQGO_OUT_OF_RANGE - abi.OutOfRange]int{},
	[C.RSEQGO_NOT_REGISTERED - abi.NotRegistered]int{},
	[C.RSEQGO_TRIES - abi.Tries]int{},
	[C.RSEQGO_BY_CPU - ByCPU]int{},
	[C.RSEQGO_BY_CONCURRENCY_ID - ByConcurrencyID]int{},
	[unsafe.Offsetof(C.struct_rseqgo_cells{}.base) - abi.CellsBase]int{},
	[unsafe.Offsetof(C.struct_rseqgo_cells{}.n) - abi.CellsN]int{},
	[unsafe.Offsetof(C.struct_rseqgo_cells{}.stride) - abi.CellsStride]int{},
	[unsafe.Offsetof(C.struct_rseqgo_gate{}.cs_cpu_id) - abi.GateCSCPUID]int{},
	[unsafe.Offsetof(C.struct_rseqgo_gate{}.cs_mm_cid) - abi.GateCSMMCID]int{},
	[unsafe.Offsetof(C.struct_rseqgo_gate{}.possible) - abi.GatePossible]int{},
	[unsafe.Sizeof(C.struct_rseqgo_gate{}) - abi.GateSize]int{},
}

// The linker takes a section from the C part if cgo names it here. Where the compiler has
// another convention than the sections expect, their calls end up in the portable functions.
func init() {
	_, _ = unsafe.Pointer(C.rseqgo_v1_convention), &C.rseqgo_v1_gate
	section.ThreadPointer = func() unsafe.Pointer { return unsafe.Pointer(C.rseqgo_thread_pointer()) }
	for _, s := range []struct {
		function unsafe.Pointer
		portable *C.uintptr_t
		body     any
	}{
		{unsafe.Pointer(C.rseqgo_v1_read_cpu_id), &C.rseqgo_v1_portable_read, section.PortableRead},
		{unsafe.Pointer(C.rseqgo_v1_read_node_id), &C.rseqgo_v1_portable_read, section.PortableRead},
		{unsafe.Pointer(C.rseqgo_v1_read_mm_cid), &C.rseqgo_v1_portable_read, section.PortableRead},
		{unsafe.Pointer(C.rseqgo_v1_read_index), &C.rseqgo_v1_portable_read_index, section.PortableIndex},
		{unsafe.Pointer(C.rseqgo_v1_cs_add_cpu_id), &C.rseqgo_v1_portable_add, section.PortableAdd},
		{unsafe.Pointer(C.rseqgo_v1_cs_add_mm_cid), &C.rseqgo_v1_portable_add, section.PortableAdd},
		{unsafe.Pointer(C.rseqgo_v1_cs_count_cpu_id), &C.rseqgo_v1_portable_count, section.PortableCount},
		{unsafe.Pointer(C.rseqgo_v1_cs_count_float_cpu_id), &C.rseqgo_v1_portable_count_float, section.PortableCountFloat},
		{unsafe.Pointer(C.rseqgo_v1_cs_observe_cpu_id), &C.rseqgo_v1_portable_observe, section.PortableObserve},
		{unsafe.Pointer(C.rseqgo_v1_cs_read_lock_cpu_id), &C.rseqgo_v1_portable_read_lock, section.PortableReadLock},
		{unsafe.Pointer(C.rseqgo_v1_cs_push_cpu_id), &C.rseqgo_v1_portable_push, section.PortablePush},
		{unsafe.Pointer(C.rseqgo_v1_cs_pop_cpu_id), &C.rseqgo_v1_portable_pop, section.PortablePop},
		{unsafe.Pointer(C.rseqgo_v1_cs_push_batch_cpu_id), &C.rseqgo_v1_portable_push_batch, section.PortableBatch},
		{unsafe.Pointer(C.rseqgo_v1_cs_pop_batch_cpu_id), &C.rseqgo_v1_portable_pop_batch, section.PortableBatch},
		{unsafe.Pointer(C.rseqgo_v1_cs_load_cbne_store_cpu_id), &C.rseqgo_v1_portable_load_cbne_store, section.PortableLoadCBNEStore},
		{unsafe.Pointer(C.rseqgo_v1_cs_load_add_store_cpu_id), &C.rseqgo_v1_portable_load_add_store, section.PortableLoadAddStore},
		{unsafe.Pointer(C.rseqgo_v1_cs_load_cbeq_store_add_load_store_cpu_id), &C.rseqgo_v1_portable_load_cbeq_store_add_load_store, section.PortableLoadCBEQStoreAddLoadStore},
		{unsafe.Pointer(C.rseqgo_v1_cs_load_add_load_load_add_store_cpu_id), &C.rseqgo_v1_portable_load_add_load_load_add_store, section.PortableLoadAddLoadLoadAddStore},
		{unsafe.Pointer(C.rseqgo_v1_cs_load_cbne_load_cbne_store_cpu_id), &C.rseqgo_v1_portable_load_cbne_load_cbne_store, section.PortableLoadCBNELoadCBNEStore},
		{unsafe.Pointer(C.rseqgo_v1_cs_load_cbne_store_store_cpu_id), &C.rseqgo_v1_portable_load_cbne_store_store, section.PortableLoadCBNEStoreStore},
		{unsafe.Pointer(C.rseqgo_v1_cs_load_cbne_store_store_release_cpu_id), &C.rseqgo_v1_portable_load_cbne_store_store_release, section.PortableLoadCBNEStoreStore},
		{unsafe.Pointer(C.rseqgo_v1_cs_load_cbne_memcpy_store_cpu_id), &C.rseqgo_v1_portable_load_cbne_memcpy_store, section.PortableLoadCBNEMemcpyStore},
		{unsafe.Pointer(C.rseqgo_v1_cs_load_cbne_memcpy_store_release_cpu_id), &C.rseqgo_v1_portable_load_cbne_memcpy_store_release, section.PortableLoadCBNEMemcpyStore},
	} {
		if section.Convention() != nil {
			*s.portable = C.uintptr_t(reflect.ValueOf(s.body).Pointer())
		}
	}
}
