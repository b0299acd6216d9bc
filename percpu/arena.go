package percpu

import (
	"math"
	"math/bits"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
)

// An arena allocates words that are replicated once per CPU. It maps memory in which the
// words of one CPU lie together, in pages of their own: a word costs 8 bytes for each CPU
// that uses it, no cache line is written by two CPUs, and a page is there from when its CPU
// first writes to it, on its node. All that it allocates is for the same number of CPUs.
type arena struct {
	mu    sync.Mutex
	chunk span           // the mapping that small spans come from
	left  int            // how many words are left of it, its last ones
	free  map[int][]span // the spans that were given back, by their number of words
}

// arenas has one for each kind of index: two CPUs would write to words that one of them
// finds by its number and the other one by a concurrency id.
var arenas [2]arena

// span is some words for each index.
//
// The arena takes its memory back when the span is collected. So a span is an object of its
// own on the heap, and what has its words, which may be on a stack, in a larger struct or in a
// package-level variable, points to it. No section uses the words by then: while a goroutine
// is in a section no collection ends.
type span struct {
	base   *int64 // index 0's
	stride uintptr
	from   *arena
	cpus   int32 // indexes
	log2   uint8 // of the number of words for each index
	index  rseq.Index
}

// n returns the number of words for each index.
func (s span) n() int { return 1 << s.log2 }

// noSpan is for what gets no words: there are no sections, or no memory.
var noSpan = new(span)

// get returns n zeros for each of so many indexes, or noSpan if there is no memory.
func (a *arena) get(x rseq.Index, cpus, n int) *span {
	s := a.take(cpus, n)
	if s.base == nil {
		return noSpan
	}
	s.index = x
	owner := new(span)
	*owner = s
	runtime.AddCleanup(owner, span.put, s)
	return owner
}

// take returns a span of at least n words: a power of two, so that a span which is given back
// serves for other sizes.
func (a *arena) take(cpus, n int) (s span) {
	a.mu.Lock()
	defer a.mu.Unlock()
	log2 := bits.Len(uint(n - 1))
	n = 1 << log2
	each := max(n, pageWords)
	if cpus < 1 || cpus > math.MaxInt32 || n < 1 || each > math.MaxInt/8/cpus {
		return span{} // more than there are addresses
	}
	if list := a.free[n]; len(list) > 0 {
		s = list[len(list)-1]
		a.free[n] = list[:len(list)-1]
		return s
	}
	s = span{from: a, cpus: int32(cpus), log2: uint8(log2)}
	if s.whole() || a.left < n { // what is left of the chunk is lost, fewer than n words
		memory := kernel.Map(cpus * each * 8)
		if memory == nil {
			return span{}
		}
		s.base, s.stride = (*int64)(unsafe.Pointer(unsafe.SliceData(memory))), uintptr(each*8)
		if s.whole() {
			return s
		}
		a.chunk, a.left = s, pageWords
	}
	s.base, s.stride = (*int64)(unsafe.Add(unsafe.Pointer(a.chunk.base), 8*(pageWords-a.left))), a.chunk.stride
	a.left -= n
	return s
}

var pageWords = os.Getpagesize() / 8

// whole reports whether the span is a mapping of its own.
func (s span) whole() bool { return s.n() > pageWords/2 }

// put gives back what take returned, when nobody writes to it any more, and makes it zero. A
// mapping stays, without its memory: were it unmapped, its neighbours would be two mappings
// where they were one, of which a process may have some 65,000 (vm.max_map_count), Go's own
// included.
func (s span) put() {
	if !s.whole() || !kernel.Discard(unsafe.Slice((*byte)(unsafe.Pointer(s.base)), uintptr(s.cpus)*s.stride)) {
		for i := range uintptr(s.cpus) {
			words := unsafe.Slice((*int64)(unsafe.Add(unsafe.Pointer(s.base), i*s.stride)), s.n())
			for k := range words {
				if atomic.LoadInt64(&words[k]) != 0 { // a page without memory stays so
					atomic.StoreInt64(&words[k], 0)
				}
			}
		}
	}
	a := s.from
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.free == nil {
		a.free = map[int][]span{}
	}
	a.free[s.n()] = append(a.free[s.n()], s)
}
