//go:build linux && !android && cgo && !purego && (amd64 || arm64)

package rseq

/*
#include "internal.h"

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
extern char rseqgo_v1_gate[] RSEQGO_HIDDEN;
*/
import "C"

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/section"
)

// The sections find the fields of Cells, and say their statuses, as internal/abi has them;
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
}

// gates are those of the host and of plugins, whose sections are other copies; under
// learning. The first is the one beside this code.
var gates = []*section.Gate{&section.Own}

// setGates says to the readers and the critical sections where the areas are, or that
// they must not look.
func setGates(i *Info) {
	for _, g := range gates {
		setGate(g, i)
	}
}

func setGate(g *section.Gate, i *Info) {
	area := func(open bool) uintptr {
		if !open || section.Convention() != nil {
			return 0
		}
		return uintptr(i.Offset)
	}
	set := atomic.StoreUintptr
	if i.CriticalSections { // first, and it stays: see _range in cs_arm64.s
		atomic.StoreUint64(&g.Possible, uint64(PossibleCPUs()))
	}
	set(&g.ReadNodeID, area(i.Features.Has(FeatureNodeID)))
	set(&g.ReadMMCID, area(i.Features.Has(FeatureMMCID)))
	set(&g.ReadCPUID, area(i.Owner != OwnerNone))
	set(&g.CSMMCID, area(i.CriticalSections && i.Features.Has(FeatureMMCID)))
	set(&g.CSCPUID, area(i.CriticalSections))
}

// adopt opens the gate of a plugin's copy of the sections as far as the host's is open.
func adopt(g *section.Gate) {
	if g == nil || g == &section.Own || section.Convention() != nil {
		return
	}
	learning.Lock()
	defer learning.Unlock()
	if !slices.Contains(gates, g) {
		setGate(g, &known.Load().info)
		gates = append(gates, g)
	}
}

// The linker takes a section from the C part if cgo names it here. Where the compiler has
// another convention than the sections expect, their calls end up in the portable functions.
func init() {
	_, _ = unsafe.Pointer(C.rseqgo_v1_convention), &C.rseqgo_v1_gate
	section.Adopt = adopt
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

// mayAsk says why rseq(2) must not be called now, nil if it may be.
func mayAsk() error {
	switch e := C.rseqgo_kills(); e {
	case 0:
		return nil
	case C.RSEQGO_KILLED:
		return errors.New("a seccomp filter kills a thread that calls rseq(2)")
	default:
		return fmt.Errorf("there may be a seccomp filter that kills, and no child process can find that out now: %w", syscall.Errno(e))
	}
}

// sectionsRefused says why critical sections must not run on the areas of i, nil if
// they may, and whether that is so for good.
func sectionsRefused(i *Info) (why error, conclusive bool) {
	if err := section.Convention(); err != nil {
		return notSupportedError("critical sections: %v", err), true
	}
	if i.Owner == OwnerForeign && i.Confirmed != Confirmed && i.RegisteredLen == 0 {
		return errors.New("rseq: critical sections: another library registers threads, but no thread was seen that it registered"), false
	}
	// Of the C library's own areas the signature is known by its documents; of
	// others, and once the kernel confirmed, it was asked.
	asked := i.Owner == OwnerForeign || i.Via == vias[C.RSEQGO_VIA_KERNEL] || i.Confirmed == Confirmed
	if asked && i.Signature == 0 {
		return notSupportedError("critical sections: the areas are registered with another signature than %#x, the kernel would kill", C.RSEQGO_SIG), true
	}
	if mustWatch && !aborts {
		if i.Confirmed != Confirmed {
			// A filter: threads that are made here may end the process, since the C
			// library registers them.
			return fmt.Errorf("rseq: critical sections: the kernel could not be asked about the calling thread, "+
				"and is not watched then (Linux %s)", kernel.Release()), false
		}
		if err := kernel.Survives(watchCalls...); err != nil {
			return fmt.Errorf("rseq: critical sections: what the kernel (Linux %s) does cannot be watched: sched_setaffinity: %w",
				kernel.Release(), err), false
		}
		why, conclusive = judge(liveCheck(section.Preempted, 3, false))
		aborts = why == nil
		return why, conclusive
	}
	return nil, true
}

// mustWatch: on arm64 the kernel is watched before a section may run. Linux 6.19 to
// 7.0.13 let sections run on (39a167560a61, fixed by 411c1cf43039), and no version tells:
// distributions keep theirs when they backport. A variable for the tests.
var mustWatch = runtime.GOARCH == "arm64"

// watchCalls is what a live check calls that a seccomp filter may kill for.
var watchCalls = []kernel.Call{{Number: unix.SYS_SCHED_GETAFFINITY}, {Number: unix.SYS_SCHED_SETAFFINITY}, {Number: unix.SYS_SCHED_SETSCHEDULER}}

// aborts: the kernel was seen to abort a section whose thread was preempted. A
// signal would not tell: Linux 7.0.13 aborts for those. Under learning.
var aborts bool

// judge says what a live check that preempts means.
func judge(aborted, survived int, err error) (why error, conclusive bool) {
	switch {
	case survived > 0:
		return notSupportedError("critical sections: this kernel (Linux %s) does not abort them when a thread is preempted, "+
			"so updates would be lost: it needs the fix 411c1cf43039 (Linux 7.0.14, 7.1)", kernel.Release()), true
	case aborted > 0:
		return nil, true
	case err == nil:
		err = errors.New("no thread was preempted in time")
	}
	return fmt.Errorf("rseq: critical sections: it could not be seen whether this kernel (Linux %s) aborts them "+
		"when a thread is preempted, which 6.19 to 7.0.13 do not on arm64: %w", kernel.Release(), err), false
}

func init() { section.LiveCheck = liveCheck }

// liveCheck is rseqgo_live_check; a variable for the tests.
var liveCheck = func(how section.Disturbance, rounds int, unarmed bool) (aborted, survived int, err error) {
	u := C.int(0)
	if unarmed {
		u = 1
	}
	l := C.rseqgo_live_check(C.enum_rseqgo_disturbance(how), C.int(rounds), u)
	switch l.error {
	case 0:
	case C.RSEQGO_LIVE_NOT_REGISTERED:
		err = errLiveNotRegistered
	case C.RSEQGO_LIVE_OTHER_SIGNATURE:
		err = errors.New("rseq: live check: the area of the thread made for it is registered with another signature")
	default:
		err = fmt.Errorf("rseq: live check: %w", syscall.Errno(l.error))
	}
	return int(l.aborted), int(l.survived), err
}

var errLiveNotRegistered = errors.New("rseq: live check: the thread made for it has no area: " +
	"the library that owns the areas did not register it, though it allocated memory, or its registration was refused")
