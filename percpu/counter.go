package percpu

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync/atomic"
	"unsafe"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/section"
)

// Counter is an int64 to which CPUs add without contention: critical sections add to a word
// of their CPU, and the value is the sum of the words. The zero Counter is zero and ready to
// use, as a variable or a field of a struct. It must not be copied.
//
// A Counter is 64 bytes. Its words are made by the first Add, or by [NewCounter], and take
// some 80 bytes more, and 8 for each CPU that adds. The words of a CPU lie side by side in
// pages that only this CPU writes to. They are used again when the Counter has been collected.
type Counter struct {
	words                          // first: internal/abi; made by the first Add
	portable stripes[atomic.Int64] // what was added without sections
	atReset  atomic.Int64          // the sum at the last Reset
	_        [8]byte               // one cache line in a vector
}

// NewCounter returns a counter of zero that has its words already. A zero Counter does the same
// without options.
func NewCounter(options ...Option) *Counter { return &newCounters(1, options)[0] }

// Add adds delta, which may be negative. The sum wraps around as an int64 does.
func (c *Counter) Add(delta int64) { section.Count(unsafe.Pointer(c), delta, slowCount) }

// Inc adds 1.
func (c *Counter) Inc() { c.Add(1) }

// Dec subtracts 1.
func (c *Counter) Dec() { c.Add(-1) }

// Value returns the sum of what was added since the last Reset. It counts every Add
// that happened before, and of those that happen meanwhile some. It reads one word for each
// CPU number up to the highest one that added.
func (c *Counter) Value() int64 {
	for {
		base := c.atReset.Load()
		if sum := c.sum(); c.atReset.Load() == base {
			return sum - base
		}
	}
}

// String returns the value in decimal, so that a Counter is an expvar.Var.
func (c *Counter) String() string { return strconv.FormatInt(c.Value(), 10) }

// Reset returns what Value would and starts again from zero. Each Add is in the result of
// exactly one Reset, or in what Value returns after the last one. It writes no CPU's word, but
// remembers the sum.
func (c *Counter) Reset() int64 {
	for {
		base := c.atReset.Load()
		if sum := c.sum(); c.atReset.CompareAndSwap(base, sum) {
			return sum - base
		}
	}
}

// sum returns what was ever added.
func (c *Counter) sum() int64 { return c.words.sum(0) + c.shares() }

// shares returns what was ever added without sections.
func (c *Counter) shares() (sum int64) {
	for share := range c.portable.made() {
		sum += share.Load()
	}
	return sum
}

func slowCount(counter unsafe.Pointer, delta int64, gate *section.Gate) {
	c := (*Counter)(counter)
	if c.ready(gate, 1) {
		section.Count(counter, delta, portableCount)
	} else {
		c.portable.own().Add(delta)
	}
}

func portableCount(counter unsafe.Pointer, delta int64, _ *section.Gate) {
	(*Counter)(counter).portable.own().Add(delta)
}

// UintCounter is a [Counter] of a uint64.
type UintCounter struct{ c Counter }

// Add adds delta. The sum wraps around as a uint64 does.
func (c *UintCounter) Add(delta uint64) { c.c.Add(int64(delta)) }

// Inc adds 1.
func (c *UintCounter) Inc() { c.c.Add(1) }

// Value returns the sum of what was added since the last Reset, as [Counter.Value] does.
func (c *UintCounter) Value() uint64 { return uint64(c.c.Value()) }

// String returns the value in decimal, so that a UintCounter is an expvar.Var.
func (c *UintCounter) String() string { return strconv.FormatUint(c.Value(), 10) }

// Reset returns what Value would and starts again from zero, as [Counter.Reset] does.
func (c *UintCounter) Reset() uint64 { return uint64(c.c.Reset()) }

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
// result is dst[:Len()] if dst has the capacity, and a new slice if not. For each CPU number up
// to the highest one that added it reads one cache line for eight counters, where as many calls
// of Value read eight.
func (c *Counters) Values(dst []int64) []int64 {
	dst = slices.Grow(dst[:0], len(c.list))[:len(c.list)]
	for i := 0; i < len(dst); i += lineWords {
		values(c.list[i:min(i+lineWords, len(dst))], dst[i:])
	}
	return dst
}

// All iterates over the counters: the index and the value of each, read as [Counters.Values]
// does.
func (c *Counters) All() iter.Seq2[int, int64] {
	return func(yield func(int, int64) bool) {
		var some [lineWords]int64
		for i := range c.list {
			if i%lineWords == 0 {
				values(c.list[i:min(i+lineWords, len(c.list))], some[:])
			}
			if !yield(i, some[i%lineWords]) {
				return
			}
		}
	}
}

// lineWords is how many words are on a cache line.
const lineWords = 8

// values puts the values of up to lineWords counters of a vector into dst.
func values(list []Counter, dst []int64) {
	var base [lineWords]int64
	used := 0
	for i := range list {
		base[i] = list[i].atReset.Load()
		used = max(used, list[i].used())
		dst[i] = 0
	}
	for index := range used {
		for i := range list {
			dst[i] += atomic.LoadInt64(list[0].word(index, i))
		}
	}
	for i := range list {
		c := &list[i]
		dst[i] += c.shares() - base[i]
		if c.atReset.Load() != base[i] { // a Reset came between
			dst[i] = c.Value()
		}
	}
}

// newCounters makes n counters whose words lie side by side.
func newCounters(n int, options []Option) []Counter {
	index, cpus := indexes(options)
	return makeCounters(&arenas[index], n, index, cpus)
}

func makeCounters(from *arena, n int, x rseq.Index, cpus int) []Counter {
	list := make([]Counter, n)
	if n == 0 {
		return list
	}
	s := from.get(x, cpus, n)
	for i := range list {
		list[i].init(s, i)
	}
	return list
}
