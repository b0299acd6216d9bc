package rseq

import (
	"fmt"
	"runtime"
	"unsafe"

	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/section"
)

// Index is a kind of number by which per-CPU data is indexed. An operation takes effect
// only while the thread that runs it has the number that was given. The operations are
// librseq's, under its names (include/rseq/pseudocode.h).
//
// An operation is one critical section. It runs on the calling goroutine's thread and
// costs a function call, without a lock or an atomic instruction. Either its last store
// happens, and no other thread of the process had that index since its first load, or the
// store does not happen and the Status says why. Raced is not rare: a signal is enough,
// and the Go runtime sends signals. The usual loop is
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
// process was moved to a larger machine. The function portable must not write the same
// words: of an atomic update by an unregistered thread and a plain one by a critical
// section, one may be lost. Other threads may read the words, by atomic loads.
//
// # Memory
//
// Every word is 8 bytes at a multiple of 8. Words hold numbers: counts, handles,
// offsets. These operations must not store a Go pointer, because they have no write
// barrier for the garbage collector. An address in a word keeps nothing alive: memory
// reached through it must not be Go's, or must be held by the program elsewhere. A
// pointer argument may point to anything, the stack included.
//
// A nil pointer panics in the caller, and so does any other bad pointer if
// [runtime/debug.SetPanicOnFault] is on. Nothing was committed then.
//
// # Order
//
// A load whose value is compared is an acquire. The last store is relaxed, or a release
// in the functions whose names say so. The kernel orders operations on the same index,
// since it switches threads between them. The race detector sees none of this.
type Index uint8

const (
	// ByCPU: the CPU number, as [CPU] returns it.
	ByCPU Index = iota
	// ByConcurrencyID: the concurrency id, as [ConcurrencyID] returns it; Linux 6.3.
	ByConcurrencyID
)

func (x Index) String() string { return name(x, "cpu_id", "mm_cid") }

// Status is the result of an operation.
type Status int32

const (
	// Done: the operation took effect.
	Done Status = iota
	// CompareFailed: a word was not equal to what was given (CBNE), or was equal (CBEQ).
	CompareFailed
	// Raced: the thread was preempted, migrated or sent a signal during the operation,
	// or its index is not i. Read the index again and retry.
	Raced
	// OutOfRange: i is negative or not below [PossibleCPUs], or Cells has no word for the
	// thread's index.
	OutOfRange
	// NotRegistered: the thread has no area, or the area no such index, or critical
	// sections are refused. [CriticalSections] registers the thread if it can be, and says
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

// Cells are words, one for each index.
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
// It is a critical section, as described at [Index]. It starts again when it is
// interrupted, so Raced means that it was interrupted 128 times in a row, as by a
// debugger that steps. After NotRegistered call [CriticalSections] and try again, once;
// if that fails, add to another word, by an atomic operation.
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

// LoadCBEQStoreAddLoadStore takes the first node off a list whose head is *v. The word
// voffp bytes behind the start of a node names the next node:
//
//	load := *v
//	if load == expectnot { return load, CompareFailed }
//	*v = *(*int64)(load + voffp)
//
// A node's name may be its address; then voffp is the offset of the link in a node. Or it
// may be the node's distance from some base; then voffp is that offset plus the base's
// address. load is valid only if the status is Done.
func (x Index) LoadCBEQStoreAddLoadStore(v *int64, expectnot int64, voffp uintptr, i int) (load int64, s Status) {
	load, status := section.LoadCBEQStoreAddLoadStore(uint8(x), v, expectnot, voffp, i)
	return load, Status(status)
}

// LoadAddLoadLoadAddStore adds to a word that is reached through *ptr, which other
// threads may replace: once one has published a new *ptr and called [Index.Fence], no
// section writes through the old one.
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

// LoadCBNEStoreStore stores two words, of which the first is not used until the second
// is stored:
//
//	if *v != expect { return CompareFailed }
//	*v2 = newv2 // may happen though the status is Raced
//	*v = newv
func (x Index) LoadCBNEStoreStore(v *int64, expect int64, v2 *int64, newv2, newv int64, i int) Status {
	return Status(section.LoadCBNEStoreStore(uint8(x), v, expect, v2, newv2, newv, i))
}

// LoadCBNEStoreStoreRelease is LoadCBNEStoreStore whose last store is a release: a thread
// that loads newv atomically, on any CPU, sees newv2.
func (x Index) LoadCBNEStoreStoreRelease(v *int64, expect int64, v2 *int64, newv2, newv int64, i int) Status {
	return Status(section.LoadCBNEStoreStoreRelease(uint8(x), v, expect, v2, newv2, newv, i))
}

// LoadCBNEMemcpyStore copies n bytes, which must not overlap, to memory that is not used
// until the last store:
//
//	if *v != expect { return CompareFailed }
//	memcpy(dst, src, n) // may happen, in part, though the status is Raced
//	*v = newv
//
// Copy little: a copy that takes as long as a time slice, some milliseconds, is
// interrupted each time.
func (x Index) LoadCBNEMemcpyStore(v *int64, expect int64, dst, src unsafe.Pointer, n uintptr, newv int64, i int) Status {
	return Status(section.LoadCBNEMemcpyStore(uint8(x), v, expect, dst, src, n, newv, i))
}

// LoadCBNEMemcpyStoreRelease is LoadCBNEMemcpyStore whose last store is a release: a
// thread that loads newv atomically, on any CPU, sees the copy.
func (x Index) LoadCBNEMemcpyStoreRelease(v *int64, expect int64, dst, src unsafe.Pointer, n uintptr, newv int64, i int) Status {
	return Status(section.LoadCBNEMemcpyStoreRelease(uint8(x), v, expect, dst, src, n, newv, i))
}

// Fence ends the critical sections that run now on index i, or on all if i is negative.
// When it returns, each section that began before has committed, or will start again or
// answer Raced, and each later one sees what the caller stored before. So a thread can
// publish a replacement for a word that every section loads; after the fence nothing else
// uses what the old word leads to:
//
//	old := atomic.SwapUintptr(&words[i], empty)
//	if err := rseq.ByCPU.Fence(i); err == nil {
//		// no section writes to old any more
//	}
//
// That is how another CPU's data is drained and read exactly. A fence takes some
// microseconds, by membarrier(2), from Linux 5.10 on, and on riscv64 from 6.9 on. The kernel
// cannot fence one concurrency id, so all CPUs are fenced for it. The first fence of a
// process takes some 20 milliseconds longer, to register for membarrier.
//
// Where membarrier is missing, forbidden, or does not fence, a thread binds itself to the
// CPU, by sched_setaffinity(2); for all CPUs, to each on which a thread of the process ran
// last. Afterwards its affinity is what it was. That takes as long as the scheduler takes,
// and some milliseconds for hundreds of threads. If it may not bind itself to a CPU, it
// waits up to two seconds until it has seen each thread on another CPU or switched out.
//
// Under a seccomp filter a child process makes these calls first, once. If the filter
// kills it, or no child can be made, this process does not make the calls; in the second
// case a later fence tries again.
//
// The error says what prevented both ways, and matches [ErrNotSupported] outside Linux.
// After an error sections may still be running.
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
