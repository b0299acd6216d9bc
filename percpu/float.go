package percpu

import (
	"math"
	"strconv"
	"sync/atomic"
	"unsafe"

	"github.com/rseq-go/rseq/internal/section"
)

// FloatCounter is a float64 to which CPUs add without contention, as a [Counter] is an int64:
// what is said there of zero values, copies and memory holds here too.
//
// Each Add is added once, but the words of the CPUs are rounded one by one, and their sum is
// rounded, so the last digits of the value depend on which CPU added what. After an Add of NaN
// the value is NaN; after one of an infinity it is that infinity, or NaN if the other infinity
// is added too. There is no Reset, which could not be exact; subtract an earlier Value where
// near enough will do.
type FloatCounter struct {
	words                           // first: internal/abi; made by the first Add
	portable stripes[atomic.Uint64] // what was added without sections: the bits of a float64
	_        [16]byte               // as a Counter: a cache line
}

// Add adds delta, which may be negative.
func (c *FloatCounter) Add(delta float64) {
	section.CountFloat(unsafe.Pointer(c), math.Float64bits(delta), slowCountFloat)
}

// Inc adds 1.
func (c *FloatCounter) Inc() { c.Add(1) }

// Value returns the sum of what was added. It counts every Add that happened before, and of
// those that happen meanwhile some.
func (c *FloatCounter) Value() (sum float64) {
	for i := range c.used() {
		sum += loadFloat((*uint64)(unsafe.Pointer(c.word(i, 0))))
	}
	for share := range c.portable.made() {
		sum += math.Float64frombits(share.Load())
	}
	return sum
}

// String returns the value as JSON, so that a FloatCounter is an expvar.Var: a number, or a
// string if it is NaN or infinite.
func (c *FloatCounter) String() string { return string(appendFloat(nil, c.Value())) }

// loadFloat returns the float64 at p, to which a CPU may be adding.
func loadFloat(p *uint64) float64 { return math.Float64frombits(atomic.LoadUint64(p)) }

// appendFloat appends v as JSON, which has no number for NaN and infinities.
func appendFloat(b []byte, v float64) []byte {
	text := strconv.FormatFloat(v, 'g', -1, 64)
	if v-v != 0 {
		text = strconv.Quote(text)
	}
	return append(b, text...)
}

func slowCountFloat(counter unsafe.Pointer, delta uint64, gate *section.Gate) {
	c := (*FloatCounter)(counter)
	if c.ready(gate, 1) {
		section.CountFloat(counter, delta, portableCountFloat)
	} else {
		portableCountFloat(counter, delta, nil)
	}
}

func portableCountFloat(counter unsafe.Pointer, delta uint64, _ *section.Gate) {
	share := (*FloatCounter)(counter).portable.own()
	for {
		old := share.Load()
		sum := math.Float64frombits(old) + math.Float64frombits(delta)
		if share.CompareAndSwap(old, math.Float64bits(sum)) {
			return
		}
	}
}
