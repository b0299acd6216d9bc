package rseq

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/section"
)

// Index says which number names a thread's share of the data: the operations
// below take effect only while the thread that runs them has that number. They
// are librseq's per-CPU operations, under its names (include/rseq/pseudocode.h).
//
// An operation is one critical section. It runs on the calling goroutine's
// thread at the price of a function call, without a lock or an atomic
// instruction, and either its last store happens, with no other thread of the
// process having had that index since its first load, or the store does not happen
// and the Status says why. Raced is not rare: a signal in between is enough, and Go
// sends signals. The usual loop is
//
//	for {
//		i, err := rseq.ByCPU.Current()
//		if err != nil {
//			return portable()
//		}
//		head := atomic.LoadInt64(&cells[i].head)
//		...
//		switch rseq.ByCPU.LoadCBNEStore(&cells[i].head, head, newHead, i) {
//		case rseq.Done:
//			return
//		case rseq.NotRegistered:
//			if err := rseq.CriticalSections(rseq.ByCPU); err != nil {
//				return portable()
//			}
//		case rseq.OutOfRange:
//			return portable()
//		}
//	}
//
// with cells for [PossibleCPUs] indexes, which is more than any index, unless the
// process was moved to a larger machine. What portable does must not touch the
// same words: an atomic update by a thread without rseq and a plain one by a
// critical section lose each other. Other threads may read the words, by atomic
// loads.
//
// # Memory
//
// Every word is 8 bytes at a multiple of 8. Words hold numbers: counts, handles,
// offsets. No Go pointer may be stored by these operations, which know nothing
// of the garbage collector's write barrier, and an address in a word keeps
// nothing alive: memory reached through one must stay where it is and be kept by
// something else (it is not Go's, or the program holds it elsewhere). A pointer
// argument may point to anything, the stack included.
//
// A nil pointer is an ordinary Go panic in the caller, and so is any other bad one
// where [runtime/debug.SetPanicOnFault] asks for that. Nothing was committed then.
//
// # Order
//
// Where a comparison follows a load, the load acquires. The last store is
// relaxed, or releases in the functions that say so. Operations on the same
// index are ordered among themselves by the kernel, which preempts in between.
// The race detector does not see any of this.
type Index uint8

const (
	// ByCPU: by CPU number, what [CPU] says.
	ByCPU Index = iota
	// ByConcurrencyID: by concurrency id, what [ConcurrencyID] says; Linux 6.3.
	ByConcurrencyID
)

func (x Index) String() string { return name(x, "cpu_id", "mm_cid") }

// Status is what became of an operation.
type Status int32

const (
	// Done: the operation took effect.
	Done Status = iota
	// CompareFailed: a word was not what was expected (CBNE), or was (CBEQ).
	CompareFailed
	// Raced: the thread was preempted, migrated or sent a signal meanwhile, or
	// has another index than i. Read the index again and retry.
	Raced
	// OutOfRange: i cannot be an index here: it is negative or not below
	// [PossibleCPUs], or Cells has no word for the thread's.
	OutOfRange
	// NotRegistered: the thread has no area, or the area no such index, or critical
	// sections are refused here. [CriticalSections] does what can be done and says
	// why not.
	NotRegistered
)

func (s Status) String() string {
	return name(uint8(s), "done", "compare failed", "raced", "out of range", "not registered")
}

// Current returns the index of the thread that the goroutine runs on.
func (x Index) Current() (int, error) {
	i := section.Index(uint8(x), slowIndex)
	if i < 0 {
		return -1, errIndex[min(x, ByConcurrencyID)]
	}
	return int(i), nil
}

// Cells are words, one for each index, to which threads add.
type Cells struct {
	Base   *int64  // the word of index 0
	N      int     // number of words, at most 1<<31-1
	Stride uintptr // bytes from one to the next; 128 keeps CPUs out of each other's way
}

// Add adds delta to the word of the CPU that the calling goroutine runs on,
// whichever that is:
//
//	i := current CPU
//	if i >= c.N { return OutOfRange }
//	word(i) += delta
//
// It is a critical section as [Index] describes them. It starts again where it is
// interrupted, so Raced means that this happened 128 times in a row, as under a
// debugger that steps. After NotRegistered call [CriticalSections] and try again, once;
// if that fails, add to a word of another kind, by atomics.
func (c *Cells) Add(delta int64) Status { return Status(section.Add(unsafe.Pointer(c), delta)) }

// AddByConcurrencyID is Add to the word of the thread's concurrency id.
func (c *Cells) AddByConcurrencyID(delta int64) Status {
	return Status(section.AddMMCID(unsafe.Pointer(c), delta))
}

// LoadCBNEStore compares and stores:
//
//	if *v != expect { return CompareFailed }
//	*v = newv
func (x Index) LoadCBNEStore(v *int64, expect, newv int64, i int) Status {
	return Status(section.LoadCBNEStore(uint8(x), v, expect, newv, i))
}

// LoadAddStore adds:
//
//	*v += count
func (x Index) LoadAddStore(v *int64, count int64, i int) Status {
	return Status(section.LoadAddStore(uint8(x), v, count, i))
}

// LoadCBEQStoreAddLoadStore takes the first node off a list whose head is *v;
// the word voffp bytes from where a node begins names the next one:
//
//	load := *v
//	if load == expectnot { return load, CompareFailed }
//	*v = *(*int64)(load + voffp)
//
// A node's name may be its address and voffp the distance of its link, or the
// name a distance from some base and voffp that base's address plus the link's.
// If the status is not Done, load means nothing.
func (x Index) LoadCBEQStoreAddLoadStore(v *int64, expectnot int64, voffp uintptr, i int) (load int64, s Status) {
	load, status := section.LoadCBEQStoreAddLoadStore(uint8(x), v, expectnot, voffp, i)
	return load, Status(status)
}

// LoadAddLoadLoadAddStore adds to what is found through a word that others may
// replace: who publishes a new *ptr and then calls [Index.Fence] knows that no
// section still writes through the old one.
//
//	p := *(**int64)(*ptr + off)
//	*p += inc
func (x Index) LoadAddLoadLoadAddStore(ptr *uintptr, off uintptr, inc int64, i int) Status {
	return Status(section.LoadAddLoadLoadAddStore(uint8(x), ptr, off, inc, i))
}

// LoadCBNELoadCBNEStore compares two words and stores:
//
//	if *v != expect { return CompareFailed }
//	if *v2 != expect2 { return CompareFailed }
//	*v = newv
func (x Index) LoadCBNELoadCBNEStore(v *int64, expect int64, v2 *int64, expect2, newv int64, i int) Status {
	return Status(section.LoadCBNELoadCBNEStore(uint8(x), v, expect, v2, expect2, newv, i))
}

// LoadCBNEStoreStore stores to a place that counts for nothing until the last
// store:
//
//	if *v != expect { return CompareFailed }
//	*v2 = newv2 // may happen though the status is Raced
//	*v = newv
func (x Index) LoadCBNEStoreStore(v *int64, expect int64, v2 *int64, newv2, newv int64, i int) Status {
	return Status(section.LoadCBNEStoreStore(uint8(x), v, expect, v2, newv2, newv, i))
}

// LoadCBNEStoreStoreRelease is LoadCBNEStoreStore whose last store releases:
// who loads newv atomically, on any CPU, sees newv2.
func (x Index) LoadCBNEStoreStoreRelease(v *int64, expect int64, v2 *int64, newv2, newv int64, i int) Status {
	return Status(section.LoadCBNEStoreStoreRelease(uint8(x), v, expect, v2, newv2, newv, i))
}

// LoadCBNEMemcpyStore copies n bytes, which must not overlap, to a place that
// counts for nothing until the last store:
//
//	if *v != expect { return CompareFailed }
//	memcpy(dst, src, n) // may happen, in part, though the status is Raced
//	*v = newv
//
// Copy little: one that takes as long as a slice of the scheduler, some
// milliseconds, races each time.
func (x Index) LoadCBNEMemcpyStore(v *int64, expect int64, dst, src unsafe.Pointer, n uintptr, newv int64, i int) Status {
	return Status(section.LoadCBNEMemcpyStore(uint8(x), v, expect, dst, src, n, newv, i))
}

// LoadCBNEMemcpyStoreRelease is LoadCBNEMemcpyStore whose last store releases:
// who loads newv atomically, on any CPU, sees the copy.
func (x Index) LoadCBNEMemcpyStoreRelease(v *int64, expect int64, dst, src unsafe.Pointer, n uintptr, newv int64, i int) Status {
	return Status(section.LoadCBNEMemcpyStoreRelease(uint8(x), v, expect, dst, src, n, newv, i))
}

// CriticalSections makes critical sections that are indexed by x work on the thread
// that the calling goroutine runs on, if they can, and returns nil, or says why not.
// Until it or [Query] was first called in a process every operation answers
// NotRegistered. The first call decides for the process whether the kernel and the
// owner of the areas permit them; it has the kernel confirm the calling thread's
// area, by system calls that change nothing; under a seccomp filter a child process
// calls rseq(2) first, and if that is killed for it this process does not.
// Where a thread registers an area of its own (OwnerSelf), each thread's first call
// does that.
//
// On arm64, Linux 6.19 to 7.0.13 do not abort a section when its thread is preempted
// or migrated, so updates would be lost. There the first call watches, for some
// milliseconds, what the kernel does, whatever its version is said to be.
//
// The error matches [ErrNotSupported] where nothing can be done about it; any other
// may go away. What could not be found out is remembered, and tried again after 50 ms at
// first and a minute at most. A debugger that steps a thread through a section aborts it at each
// step; then the error says so.
func CriticalSections(x Index) error { return criticalSections(x, &section.Own) }

// criticalSections is CriticalSections for the sections behind a gate: in code that was
// inlined into a plugin, the plugin's.
func criticalSections(x Index, gate *section.Gate) error {
	adopt(gate)
	if k := known.Load(); k.err != nil && (k.final || k.refused && !ownerAgain.due()) {
		return k.err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	k := known.Load()
	if k.info.Owner == OwnerNone || k.mayRegister() && atomic.LoadInt32(field(abi.OffsetCPUID)) == section.Uninitialized {
		register(false)
		k = known.Load()
	}
	if k.err == nil && !k.decided && atomic.LoadInt32(field(abi.OffsetCPUID)) < 0 {
		return errNotRegistered // this thread can decide nothing
	}
	k = decide()
	switch {
	case k.err != nil:
		return k.err
	case k.sections != nil:
		return k.sections
	case x == ByConcurrencyID && !k.info.Features.Has(FeatureMMCID):
		return errConcurrencyID
	case atomic.LoadInt32(field(abi.OffsetCPUID)) < 0:
		return errNotRegistered
	}
	// A word of this thread's own, whatever its index: does any section end?
	var word int64
	c := Cells{Base: &word, N: math.MaxInt32}
	add := c.Add
	if x == ByConcurrencyID {
		add = c.AddByConcurrencyID
	}
	switch s := add(1); s {
	case Done:
		return nil
	default:
		return fmt.Errorf("rseq: critical sections: none ended without an interruption (%v): does a debugger step this thread?", s)
	}
}

var errNotRegistered = errors.New("rseq: critical sections: the calling thread is not registered: it was refused, or it is ending, " +
	"or it is for another library of the program to register it (with librseq, call rseq_register_current_thread on it)")

// decide finds out whether critical sections may run, if there is an owner: once, and
// after a while again where that could not be seen. The goroutine is locked to its
// thread.
func decide() *knowledge {
	stands := func(k *knowledge) bool {
		return k.decided || k.err != nil || k.sections != nil && !sectionsAgain.due()
	}
	if k := known.Load(); stands(k) {
		return k
	}
	learning.Lock()
	defer learning.Unlock()
	if k := known.Load(); stands(k) {
		return k
	}
	k, _ := known.Load().settle()
	return &k
}
