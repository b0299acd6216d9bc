package percpu

import (
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/section"
)

// Counter is a sum to which every CPU adds in a word of its own. Make one by
// [NewCounter]; the zero Counter counts by atomics. It must not be copied.
//
// A counter takes some 150 bytes and 8 for each CPU that added to it. The words of a
// CPU lie side by side in pages that it alone writes, a page at least.
type Counter struct {
	cells    rseq.Cells // first: cs_common.h
	ids      int        // if it goes by concurrency id: then cells are so many; cs_common.h
	portable stripes[atomic.Int64]

	mu   sync.Mutex
	base int64 // what the sum was at the last Reset
}

// NewCounter returns a counter of zero.
func NewCounter(options ...Option) *Counter { return &newCounters(1, options)[0] }

// Add adds delta, which may be negative. The sum wraps around as an int64 does.
func (c *Counter) Add(delta int64) { section.Count(unsafe.Pointer(c), delta, slowCount) }

// Inc adds 1.
func (c *Counter) Inc() { c.Add(1) }

// Dec subtracts 1.
func (c *Counter) Dec() { c.Add(-1) }

// Value returns the sum of what was added since the last Reset. It counts every Add
// that happened before, and of those that happen meanwhile some. It takes as long as
// reading a word that each possible CPU may just have written.
func (c *Counter) Value() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sum() - c.base
}

// String returns the value in decimal, so that a Counter is an expvar.Var.
func (c *Counter) String() string { return strconv.FormatInt(c.Value(), 10) }

// Reset returns what Value would and starts again from zero. Each Add is in the result of
// exactly one Reset, or in what Value returns after the last one. No CPU's word is written.
func (c *Counter) Reset() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := c.sum()
	since := sum - c.base
	c.base = sum
	return since
}

func (c *Counter) sum() (sum int64) {
	for i := range c.cells.N + c.ids {
		sum += atomic.LoadInt64((*int64)(unsafe.Add(unsafe.Pointer(c.cells.Base), uintptr(i)*c.cells.Stride)))
	}
	shares := c.portable.all()
	for i := range shares.n() {
		if share := shares.at(i); share != nil {
			sum += share.Load()
		}
	}
	return sum
}

// slowCount is for a thread's first Add, or one that was always interrupted.
func slowCount(counter unsafe.Pointer, delta int64, gate *section.Gate) {
	c := (*Counter)(counter)
	if gate == nil { // there are no sections, or none may be called
		c.portable.own().Add(delta)
		return
	}
	section.Adopt(gate)
	if c.cells.N > 0 && rseq.CriticalSections(rseq.ByCPU) == nil && c.cells.Add(delta) == rseq.Done {
		return
	}
	if c.ids > 0 && rseq.CriticalSections(rseq.ByConcurrencyID) == nil {
		cells := rseq.Cells{Base: c.cells.Base, N: c.ids, Stride: c.cells.Stride}
		if cells.AddByConcurrencyID(delta) == rseq.Done {
			return
		}
	}
	c.portable.own().Add(delta)
}

// Counters is a vector of counters, for metrics with labels. The counters' words lie side by
// side, so a CPU's words for eight counters are on one cache line. Make one by [NewCounters];
// the zero Counters has none. It must not be copied.
//
// A method that takes an index i panics, as a slice does, unless 0 <= i < Len().
type Counters struct {
	list []Counter
	_    noCopy
}

// noCopy makes go vet report copies of a struct that has it.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// NewCounters returns n counters of zero. A negative n panics, and so does one beyond the
// package's limits.
func NewCounters(n int, options ...Option) *Counters {
	if limit := sizeLimit(unsafe.Sizeof(Counter{})); n < 0 || n > limit {
		panic(fmt.Sprintf("percpu.NewCounters: %d counters: expected at least 0 and at most %d", n, limit))
	}
	return &Counters{list: newCounters(n, options)}
}

// Len returns the number of counters.
func (c *Counters) Len() int { return len(c.list) }

// At returns counter i.
func (c *Counters) At(i int) *Counter { return &c.list[i] }

// Add adds delta to counter i.
func (c *Counters) Add(i int, delta int64) { c.list[i].Add(delta) }

// Values returns the value of each counter, as [Counter.Value] does, one after the other. The
// result is dst[:Len()] if dst has the capacity, and a new slice if not.
func (c *Counters) Values(dst []int64) []int64 {
	dst = slices.Grow(dst[:0], len(c.list))[:len(c.list)]
	for i := range c.list {
		dst[i] = c.list[i].Value()
	}
	return dst
}

// All iterates over the counters: the index and the value of each.
func (c *Counters) All() iter.Seq2[int, int64] {
	return func(yield func(int, int64) bool) {
		for i := range c.list {
			if !yield(i, c.list[i].Value()) {
				return
			}
		}
	}
}

// newCounters makes n counters that lie side by side in each CPU's words. Without
// words they count by atomics.
func newCounters(n int, options []Option) []Counter {
	index, cpus := indexes(options)
	return makeCounters(&words[index], n, index, cpus)
}

func makeCounters(from *arena, n int, index rseq.Index, cpus int) []Counter {
	list := make([]Counter, n)
	if n == 0 || cpus == 0 {
		return list
	}
	s, reused := from.get(cpus, n)
	if s.base == nil {
		return list
	}
	for i := range list {
		c := &list[i]
		c.cells = rseq.Cells{Base: (*int64)(unsafe.Add(unsafe.Pointer(s.base), 8*i)), Stride: s.stride}
		c.cells.N, c.ids = split(index, cpus)
		if reused {
			c.base = c.sum()
		}
	}
	runtime.AddCleanup(&list[0], from.put, s)
	return list
}
