// Package tramp reads the calling thread's rseq area from Go assembly: no cgo
// transition, one load relative to the thread pointer. A reader that finds no
// field jumps to the slow way, Slow, with its caller none the wiser; that keeps
// the Go function around it small enough to be inlined. It also has the entries
// of package rseq's critical sections, so a program that uses this package must
// link that one.
//
// It is a package of its own because the go command refuses Go assembly in a
// package that uses cgo. Assembly functions are not preempted asynchronously,
// so the thread cannot change between two loads of one call.
//
// On a platform without the assembly every reader goes the slow way.
package tramp

import (
	"sync/atomic"
	"unsafe"
)

// Uninitialized is the kernel's cpu_id of an area that is not registered
// (RSEQ_CPU_ID_UNINITIALIZED). Any negative cpu_id means that.
const Uninitialized = -1

// Distances in bytes from the thread pointer to the field, the same in every
// thread. Package rseq sets cpuID before anything can call a reader, always to
// a cpu_id: where nobody registered, to one that is negative. Zero for the
// others means that the field may not be read; no area can begin where it would
// make a field's distance zero, because the thread control block is there on
// both architectures.
var cpuID, nodeID, mmCID uintptr

// SetOffsets tells the readers where the fields are. node_id and mm_cid are
// read only together with cpu_id.
func SetOffsets(cpu, node, cid uintptr) {
	atomic.StoreUintptr(&nodeID, node)
	atomic.StoreUintptr(&mmCID, cid)
	atomic.StoreUintptr(&cpuID, cpu)
}

// Slow is what is called instead, with the same arguments; set before the first use.
var Slow struct {
	// The readers', where this thread has no area, or the area no such field. A
	// negative result means "not known".
	CPU, NodeID, ConcurrencyID func() int32

	// Package percpu's, where the section could not do it: status says why.
	Count     func(counter unsafe.Pointer, delta int64)
	Push      func(list unsafe.Pointer, v uint64, status uint32) bool
	Pop       func(list unsafe.Pointer, status uint32) (v uint64, ok bool)
	PushBatch func(list unsafe.Pointer, v *uint64, n int, status uint32) int
	PopBatch  func(list unsafe.Pointer, v *uint64, n int, status uint32) int
}

// The assembly jumps to these.
var _ = []any{slowCPU, slowNodeID, slowConcurrencyID, slowCount, slowPush, slowPop, slowPushBatch, slowPopBatch}

func slowCPU() int32           { return Slow.CPU() }
func slowNodeID() int32        { return Slow.NodeID() }
func slowConcurrencyID() int32 { return Slow.ConcurrencyID() }

func slowCount(counter unsafe.Pointer, delta int64)                  { Slow.Count(counter, delta) }
func slowPush(list unsafe.Pointer, v uint64, status uint32) bool     { return Slow.Push(list, v, status) }
func slowPop(list unsafe.Pointer, status uint32) (v uint64, ok bool) { return Slow.Pop(list, status) }
func slowPushBatch(list unsafe.Pointer, v *uint64, n int, status uint32) int {
	return Slow.PushBatch(list, v, n, status)
}
func slowPopBatch(list unsafe.Pointer, v *uint64, n int, status uint32) int {
	return Slow.PopBatch(list, v, n, status)
}

// Disturbance is what befalls a thread inside a critical section in a live check:
// enum rseqgo_disturbance of internal.h.
type Disturbance int

const (
	Preempted Disturbance = iota
	Signalled
	Migrated
)

// LiveCheck disturbs a thread made for the purpose in a critical section, so many
// times, and counts how often the section was aborted, as it must be, and how
// often it ran on. Unarmed, the section is none, so that nothing aborts it. The
// error says why a round could not be played. Package rseq sets it; nil where
// there are no critical sections.
var LiveCheck func(how Disturbance, rounds int, unarmed bool) (aborted, survived int, err error)
