// Package percpu has what programs build on per-CPU data: counters that do not
// contend, a reader/writer lock whose readers do not, free lists and pools that each CPU has
// one of. It needs no knowledge of restartable sequences.
//
// Everything here may be used from any goroutine, at any time, and is exact: no
// update is lost, no handle is in two places. An operation is a critical section of
// package rseq on the CPU that the goroutine just runs on: a function call, without a
// lock, an atomic instruction or a cgo transition. Where sections cannot run (without cgo,
// outside Linux, on a thread without an area: [rseq.CriticalSections] says why; for free
// lists and pools also where [rseq.Index.Fence] fails) the same operation works by atomics
// or a lock, on data of its own, spread over some shares: one for each CPU where the processor
// tells the CPU's number quickly (RDPID). Nothing has to be asked or set
// up; the first free list or pool of a process takes some 20 milliseconds to make, to
// register for fences. A lock has that done in the background.
//
// # Memory
//
// What a CPU uses is allocated when it first uses it: see [Counter], [RWMutex] and
// [FreeList] for how much that is. A program whose threads are few and roam over many CPUs may
// prefer [Compact].
//
// A size that a caller gives, of handles per CPU, counters or values, is at most 1<<30, and
// no object takes more than 1 TiB at a time (1 GiB where an int has 32 bits). More is an error
// or a panic that names the limit, and nothing has changed then. Within the limits memory that
// cannot be had ends the process, as it does for everything that Go allocates; only counters
// do without the words that they map for each CPU, and count by atomics.
//
// # Order
//
// For the race detector and the Go memory model: a [FreeList.Push] of a handle, or
// PushBatch, happens before the [FreeList.Pop], PopBatch, Drain or Resize that returns
// it, and a [Pool.Put] of a value before the [Pool.Get] that does. An [RWMutex] orders what a
// [sync.RWMutex] does. Counters order
// nothing. A [Counter.Value] that happens after an Add counts it.
package percpu

import (
	"errors"
	"math"
	"slices"

	"github.com/rseq-go/rseq"
)

// Option says how per-CPU data is laid out.
type Option uint8

// Compact makes shares for the threads that run at one moment instead of for the
// CPUs: by concurrency id, [rseq.ByConcurrencyID], of which there are no more than
// threads. That saves memory where few threads roam over many CPUs, and costs a
// comparison more. Before Linux 6.3 it changes nothing.
const Compact Option = 1

// indexes returns what the sections here go by and how many indexes there are; none
// if sections cannot run.
func indexes(options []Option) (rseq.Index, int) {
	if slices.Contains(options, Compact) && !errors.Is(rseq.CriticalSections(rseq.ByConcurrencyID), rseq.ErrNotSupported) {
		return rseq.ByConcurrencyID, rseq.PossibleCPUs()
	}
	// Anything else may go away, or be the calling thread's alone.
	if errors.Is(rseq.CriticalSections(rseq.ByCPU), rseq.ErrNotSupported) {
		return rseq.ByCPU, 0
	}
	return rseq.ByCPU, rseq.PossibleCPUs()
}

// sizeLimit returns how many elements of so many bytes may be asked for at a time.
func sizeLimit(bytes uintptr) int {
	const tebibyte = 1 << 40
	return int(min(1<<30, min(tebibyte, math.MaxInt/2+1)/uint64(max(bytes, 1))))
}

// split returns how many indexes are CPU numbers and how many concurrency ids: for
// the sections one of them is zero.
func split(index rseq.Index, n int) (cpus, ids int) {
	if index == rseq.ByConcurrencyID {
		return 0, n
	}
	return n, 0
}

// retry reports whether a section that answered with a status may be tried again: its only
// failure was that the thread had not been set up yet.
func retry(status uint32, x rseq.Index) bool {
	return maySection(x) == nil && rseq.Status(status) == rseq.NotRegistered
}
