package rseq

import (
	"fmt"
	"runtime"
	"unsafe"

	"github.com/rseq-go/rseq/internal/kernel"
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

// Fence ends the critical sections that run now on index i, on all if i is negative:
// when it returns, each that began before has committed or will start again or
// answer Raced, and each that begins sees what the caller stored before. So one that
// publishes another word, which every section loads, and then fences has what the
// old one leads to for itself:
//
//	old := atomic.SwapUintptr(&words[i], empty)
//	if err := rseq.ByCPU.Fence(i); err == nil {
//		// no section writes to old any more
//	}
//
// That is how another CPU's data is drained and read exactly. It takes some
// microseconds, by membarrier(2), from Linux 5.10 on; for a concurrency id, which the
// kernel does not know, all CPUs are fenced. The first fence of a process takes longer,
// some 20 milliseconds, to register for it.
//
// Where that is missing or forbidden, a thread of Go's visits the CPU, by
// sched_setaffinity(2), or for all CPUs each that a thread of the process was on last;
// then its affinity is what it was. That takes as long as the scheduler likes, and some
// milliseconds for hundreds of threads. Where it may not visit a CPU it waits, up to two
// seconds, until it has seen all threads elsewhere or switched out.
//
// Under a seccomp filter a child process asks first, once, whether the filter kills for
// these calls. If it does they are not made. If there can be no child, neither are they,
// and the next fence asks again, after a while.
//
// The error says what forbade both ways, and matches [ErrNotSupported] outside Linux;
// sections may still run then.
func (x Index) Fence(i int) error {
	if x == ByConcurrencyID {
		i = -1
	}
	if runtime.GOOS != "linux" {
		return notLinux()
	}
	err := kernel.Membarrier(i)
	if err == nil {
		return nil
	}
	if visit := kernel.Visit(i); visit != nil {
		return fmt.Errorf("rseq: cannot fence critical sections: membarrier: %w; %w", err, visit)
	}
	return nil
}
