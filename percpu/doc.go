// Package percpu has what [sync] and [sync/atomic] have, for many CPUs: counters, histograms, a
// reader/writer lock and pools that goroutines on different CPUs use without contention. An
// operation is a restartable critical section on data of the CPU that it runs on: a function
// call, without a lock, an atomic instruction or a cgo transition.
//
// # What to use
//
//	instead of                              use
//	atomic.Int64, expvar.Int                Counter
//	atomic.Uint64                           UintCounter
//	a float64 under a lock, expvar.Float    FloatCounter
//	[]atomic.Int64, counters with labels    Counters
//	a histogram of a metrics library        Histogram
//	sync.RWMutex                            RWMutex
//	sync.Pool                               Pool
//	a channel or a stack of free handles    FreeList
//	a map or a cache for each CPU           Slots
//
// A zero Counter, UintCounter, FloatCounter, RWMutex or Pool is ready to use, as a variable or as a
// field of a struct. All types are exact and may be used from any goroutine at any time: no
// update is lost, no handle is in two places.
//
// # When not to
//
//   - One goroutine alone adds to an atomic.Int64 in about the time that it adds to a Counter.
//     The gain begins with the second CPU.
//   - A counter that is read as often as it is added to: Value reads a word for each CPU,
//     where an atomic is one load. The types here are for what is written often and read
//     seldom; an RWMutex is for what is locked for reading often.
//   - A number that must not pass a limit, or decides something: nobody can look at the sum of
//     a Counter and change it in one step.
//   - Very many objects: see Memory.
//   - Without cgo (CGO_ENABLED=0), outside Linux and on other architectures than amd64, arm64
//     and riscv64 critical sections do not run. Everything works there, by atomics and locks that are
//     spread over shares, as in other libraries; where few CPUs contend a plain atomic or a
//     lock is faster then. [Status] says whether sections run, and why not. [SlowPaths] counts
//     operations that had to do without them.
//
// # Without sections
//
// An operation does without a section on a thread that has no rseq area and wherever [Status]
// is an error; on free lists and pools also where [rseq.Index.Fence] fails. It then uses data
// of another kind, shares: one for each CPU where the processor tells the CPU's number quickly
// (RDPID), and else as many as goroutines run at one moment. Nothing has to be set up. The
// first [NewFreeList] or [NewPool] of a process takes some 20 milliseconds, since it registers
// for fences. A lock and a zero Pool have that done in the background.
//
// # Memory
//
// Memory for a CPU is allocated when that CPU first uses an object. A [Counter] takes some 150
// bytes and 8 more for each CPU that adds; one that was never used takes 64. The types say what
// they take. The size of a [Pool] is how many values may wait in it: as many as have users at
// the busiest moment. A program whose threads are few and roam over many CPUs may prefer [Compact].
//
// A size that a caller gives, of handles per CPU, counters, bounds or values, is at most 1<<30,
// and no object takes more than 1 TiB at a time (1 GiB where an int has 32 bits). More is an
// error or a panic that names the limit, and nothing has changed then. Within the limits memory
// that cannot be had ends the process, as it does for everything that Go allocates. Only
// counters and histograms do without the words that they map for each CPU, and work as without
// sections.
//
// # Reading
//
// Reading a counter takes some 3 ns for each CPU number up to the highest one that added, and
// the time of a cache miss for each CPU that added since the last reading. [Counters.Values]
// reads eight counters at once from each of these cache lines.
//
// # Order
//
// For the race detector and the Go memory model: a [FreeList.Push] of a handle, or
// PushBatch, happens before the [FreeList.Pop], PopBatch, Drain or Resize that returns
// it, and a [Pool.Put] of a value before the [Pool.Get] that does. An [RWMutex] orders what a
// [sync.RWMutex] does. Counters and histograms order nothing, but a [Counter.Value] or
// [Histogram.Snapshot] that happens after an Add or Observe counts it.
package percpu

import (
	"errors"
	"math"
	"slices"

	"github.com/rseq-go/rseq"
)

// Option says how per-CPU data is laid out.
type Option uint8

// Compact lays data out by concurrency id, [rseq.ByConcurrencyID], instead of by CPU. There
// are no more concurrency ids than threads. That saves memory where few threads roam over many
// CPUs, and costs one comparison more. Before Linux 6.3 it changes nothing.
const Compact Option = 1

// indexes returns the kind of index for data with these options and the number of indexes,
// which is zero if sections cannot run.
func indexes(options []Option) (rseq.Index, int) {
	if slices.Contains(options, Compact) && !errors.Is(rseq.CriticalSections(rseq.ByConcurrencyID), rseq.ErrNotSupported) {
		return rseq.ByConcurrencyID, rseq.PossibleCPUs()
	}
	// Any other error may go away, or be for the calling thread alone.
	if errors.Is(rseq.CriticalSections(rseq.ByCPU), rseq.ErrNotSupported) {
		return rseq.ByCPU, 0
	}
	return rseq.ByCPU, rseq.PossibleCPUs()
}

// sizeLimit returns the largest number of elements of so many bytes that a caller may ask for.
func sizeLimit(bytes uintptr) int {
	const tebibyte = 1 << 40
	return int(min(1<<30, min(tebibyte, math.MaxInt/2+1)/uint64(max(bytes, 1))))
}

// split returns n as a number of CPUs and a number of concurrency ids, one of which is zero.
func split(index rseq.Index, n int) (cpus, ids int) {
	if index == rseq.ByConcurrencyID {
		return 0, n
	}
	return n, 0
}
