package percpu

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/rseq-go/rseq/internal/section"
)

// Histogram counts observations in buckets with fixed upper bounds, and adds their values up.
// CPUs observe without contention: a critical section adds to words of its CPU. Make one by
// [NewHistogram]; the zero Histogram has one bucket. It must not be copied.
//
// [Histogram.Snapshot] reads it as of one moment: whatever was observed before that moment is
// in the bucket, the count and the sum, and whatever is observed after it is in none.
//
// A histogram takes some 200 bytes, 8 for each bound, and 24 for each bucket and each CPU that
// observes, rounded up to a power of two. Where sections cannot run it takes 16 for each bucket
// of each share, and an observation locks its share.
type Histogram struct {
	gatedWords // first: internal/abi; a bucket for each bound and one above, made by the first Observe
	bounds     []float64
	portable   stripes[observations] // what was observed without sections

	mu sync.Mutex // held by a snapshot
}

// The protocol. Sections write to the words while their state is open. A snapshot
//
//  1. closes the words: a section that begins now takes the slow path, to a share;
//  2. locks the shares, until it holds the locks of all that there are;
//  3. copies the shares and unlocks them;
//  4. reads the words until two passes in turn find the same counts, and opens them.
//
// A bucket in the words has a count and two sums: the first one belongs to an even count, the
// second one to an odd count. A section stores the new sum where it does not count yet, and
// then the new count, by one store. So an observation that is interrupted has not happened. A
// snapshot reads a bucket until the count is the same before and after its sum.
//
// A section that loaded the state before it was closed may still store, and what a section
// stored may still wait in its processor's store buffer. These are few, so the passes end.
// Counts only grow: if two passes find the same, the words had these counts at one moment, M,
// between the passes. An index that was taken into use meanwhile has zeros, or the passes differ.
//
// Why a snapshot is of one moment: if it has an observation Y, it has every observation X that
// happened before Y, in the Go memory model. There are four cases.
//
//   - Both are in the words. Y's count was visible at M, and so was X's, since the store of a count
//     becomes visible after all that happened before it: amd64 keeps the order of stores, and
//     elsewhere it releases.
//   - Both are in shares. Y was there when its share was locked. X's share was made by then, so it
//     was locked too, with X in it.
//   - X is in the words, Y in a share. X was visible when Y's share was locked, and the words are
//     read later.
//   - X is in a share, Y in the words. Y's section found them open. If the snapshot lacked X, X
//     would have come to its share after the snapshot looked for that share or unlocked it, so
//     after the words were closed, and Y's section would have found them closed.

// bucket is one of a CPU's: internal/abi.
type bucket struct {
	count uint64
	sums  [2]uint64 // the bits of float64s
}

// read returns a count and the sum that belongs to it.
func (b *bucket) read() (n uint64, sum float64) {
	for {
		n = atomic.LoadUint64(&b.count)
		sum = loadFloat(&b.sums[n%2])
		if atomic.LoadUint64(&b.count) == n {
			return n, sum
		}
	}
}

// bucketWords is how many words a bucket has.
const bucketWords = int(unsafe.Sizeof(bucket{}) / 8)

// observations are those of one share.
type observations struct {
	mu     sync.Mutex
	counts []uint64 // nil before the first
	sum    float64
}

// HistogramSnapshot is what a [Histogram] had at one moment.
type HistogramSnapshot struct {
	Bounds []float64 // the upper bounds, ascending; the histogram's own, not to be changed
	// Counts has how many values were in each bucket: Counts[i] those at most Bounds[i] and
	// above Bounds[i-1], the last one those above all bounds.
	Counts []uint64
	Count  uint64  // how many values: the sum of Counts
	Sum    float64 // of the values
}

// NewHistogram returns an empty histogram with these upper bounds, and a bucket above the last.
// Bounds that are not finite and ascending, each above the one before, panic, and so do more
// than the package's limits allow. The bounds are copied.
func NewHistogram(bounds []float64) *Histogram {
	if limit := sizeLimit(unsafe.Sizeof(bucket{})) - 1; len(bounds) > limit {
		panic(fmt.Sprintf("percpu.NewHistogram: %d bounds: expected at most %d", len(bounds), limit))
	}
	for i, bound := range bounds {
		switch {
		case bound-bound != 0:
			panic(fmt.Sprintf("percpu.NewHistogram: bound %d is %v: expected a finite number; the bucket above the last bound is always there", i, bound))
		case i > 0 && bound <= bounds[i-1]:
			panic(fmt.Sprintf("percpu.NewHistogram: bound %d is %v, and the one before is %v: expected each above the one before", i, bound, bounds[i-1]))
		}
	}
	return &Histogram{bounds: slices.Clone(bounds)}
}

// Observe counts v in the first bucket whose bound is at least v, and adds it to the sum. NaN
// and infinities panic and change nothing: no later value could mend the sum.
func (h *Histogram) Observe(v float64) {
	if v-v != 0 {
		panic(fmt.Sprintf("percpu.Histogram: Observe(%v): expected a finite number", v))
	}
	section.Observe(unsafe.Pointer(h), uintptr(h.bucket(v))*unsafe.Sizeof(bucket{}), math.Float64bits(v), slowObserve)
}

// bucket returns the bucket that v is counted in.
func (h *Histogram) bucket(v float64) int {
	if len(h.bounds) > 32 { // where halving begins to be faster
		return sort.SearchFloat64s(h.bounds, v)
	}
	for i, bound := range h.bounds {
		if v <= bound {
			return i
		}
	}
	return len(h.bounds)
}

// Snapshot returns the counts and the sum as of one moment between its call and its return. It
// reads the buckets of each CPU number up to the highest one that observed. Observers do not
// wait for that, but meanwhile lock a share.
func (h *Histogram) Snapshot() HistogramSnapshot {
	s := HistogramSnapshot{Bounds: h.bounds, Counts: make([]uint64, len(h.bounds)+1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.made() {
		h.state.Store(closed)
		defer h.state.Store(open)
	}
	shares := h.lockShares()
	for share := range shares {
		for i, n := range share.counts {
			s.Counts[i] += n
		}
		s.Sum += share.sum
	}
	for share := range shares {
		share.mu.Unlock()
	}
	h.addWords(&s)
	for _, n := range s.Counts {
		s.Count += n
	}
	return s
}

// addWords adds what the words had at one moment.
func (h *Histogram) addWords(s *HistogramSnapshot) {
	counts, sum, last := make([]uint64, len(s.Counts)), 0.0, uint64(0)
	for pass := 1; ; pass++ {
		n := uint64(0)
		clear(counts)
		sum = 0
		for index := range h.used() {
			for i := range counts {
				count, x := (*bucket)(unsafe.Pointer(h.word(index, i*bucketWords))).read()
				counts[i] += count
				n += count
				sum += x
			}
		}
		if pass > 1 && n == last { // counts only grow, so none has changed
			break
		}
		last = n
	}
	for i, count := range counts {
		s.Counts[i] += count
	}
	s.Sum += sum
}

// lockShares locks all shares: when it returns it has all locks, and no other share was there
// when it had the last one.
func (h *Histogram) lockShares() map[*observations]bool {
	locked := map[*observations]bool{}
	for {
		n := len(locked)
		for share := range h.portable.made() {
			if !locked[share] {
				share.mu.Lock()
				locked[share] = true
			}
		}
		if len(locked) == n {
			return locked
		}
	}
}

// String returns a snapshot as JSON, so that a Histogram is an expvar.Var.
func (h *Histogram) String() string {
	s := h.Snapshot()
	b := append([]byte(`{"count":`), strconv.FormatUint(s.Count, 10)...)
	b = appendFloat(append(b, `,"sum":`...), s.Sum)
	b = append(b, `,"buckets":{`...)
	for i, n := range s.Counts {
		bound := "+Inf"
		if i < len(s.Bounds) {
			bound = strconv.FormatFloat(s.Bounds[i], 'g', -1, 64)
			b = fmt.Appendf(b, "%q:%d,", bound, n)
		} else {
			b = fmt.Appendf(b, "%q:%d}}", bound, n)
		}
	}
	return string(b)
}

func slowObserve(histogram unsafe.Pointer, b uintptr, v uint64, gate *section.Gate) {
	if h := (*Histogram)(histogram); h.again(gate) {
		section.Observe(histogram, b, v, portableObserve)
	} else {
		portableObserve(histogram, b, v, nil)
	}
}

// again reports whether a section is to be tried again. The first one makes the words, but not
// beside a snapshot, which must not find them open.
func (h *Histogram) again(gate *section.Gate) bool {
	n := bucketWords * (len(h.bounds) + 1)
	if h.span.Load() != nil {
		return h.state.Load() == open && h.ready(gate, n)
	}
	if !h.mu.TryLock() {
		return false
	}
	defer h.mu.Unlock()
	again := h.ready(gate, n)
	if h.made() {
		h.state.Store(open)
	}
	return again
}

func portableObserve(histogram unsafe.Pointer, b uintptr, v uint64, _ *section.Gate) {
	h := (*Histogram)(histogram)
	share := h.portable.own()
	share.mu.Lock()
	defer share.mu.Unlock()
	if share.counts == nil {
		share.counts = make([]uint64, len(h.bounds)+1)
	}
	share.counts[b/unsafe.Sizeof(bucket{})]++
	share.sum += math.Float64frombits(v)
}
