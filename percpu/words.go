package percpu

import (
	"errors"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/section"
)

// words are some 64-bit words, replicated once per index. Critical sections find them where
// internal/abi says. The zero words are none.
//
// What sections read is stored before the number of indexes, which they load first. Go code
// loads span first.
type words struct {
	base   *int64       // index 0's first word
	cpus   atomic.Int64 // how many CPUs' words are in use, from CPU 0 on
	stride uintptr      // bytes from one index's words to the next one's
	ids    atomic.Int64 // how many concurrency ids' words are in use, if that is the index

	// span has the memory, and keeps it: nil if it was not asked for yet, noSpan if there is
	// none.
	span atomic.Pointer[span]
}

// gatedWords are words that sections use only while state is open.
type gatedWords struct {
	words
	state atomic.Uint64
}

const (
	closed = 0
	open   = abi.WordsOpen
)

// init makes w the words of a span from word first on. None is in use yet.
func (w *words) init(s *span, first int) {
	if s != noSpan {
		w.base = (*int64)(unsafe.Add(unsafe.Pointer(s.base), 8*first))
		w.stride = s.stride
	}
	w.span.Store(s)
}

// made reports whether there are words.
func (w *words) made() bool {
	s := w.span.Load()
	return s != nil && s != noSpan
}

// index returns what the words are indexed by.
func (w *words) index() rseq.Index { return w.span.Load().index }

// used returns how many indexes' words are in use.
func (w *words) used() int { return int(w.cpus.Load() + w.ids.Load()) }

// use takes the words of the first n indexes into use.
func (w *words) use(n int) {
	used := &w.cpus
	if w.index() == rseq.ByConcurrencyID {
		used = &w.ids
	}
	for {
		if now := used.Load(); int64(n) <= now || used.CompareAndSwap(now, int64(n)) {
			return
		}
	}
}

// word returns word k of an index.
func (w *words) word(index, k int) *int64 {
	return (*int64)(unsafe.Add(unsafe.Pointer(w.base), uintptr(index)*w.stride+8*uintptr(k)))
}

// sum returns the sum of all words k.
func (w *words) sum(k int) (sum int64) {
	for i := range w.used() {
		sum += atomic.LoadInt64(w.word(i, k))
	}
	return sum
}

// ready is called by a slow path, with the gate that it got. It readies the words for a
// section on the calling thread, and reports whether one is to be tried. It makes so many
// words if there are none yet. Words are taken into use when a thread first has their index,
// so that reading all of them takes no longer than it must.
func (w *words) ready(gate *section.Gate, n int) bool {
	if gate == nil {
		return false // there are no sections, or none may be called
	}
	section.Adopt(gate)
	s := w.span.Load()
	if s == noSpan {
		return false
	}
	x := rseq.ByCPU
	if s != nil {
		x = s.index
	}
	if err := maySection(x); err != nil {
		if errors.Is(err, rseq.ErrNotSupported) { // which is final
			w.span.CompareAndSwap(nil, noSpan)
		}
		return false
	}
	if s == nil {
		s = w.make(n)
	}
	i, err := x.Current()
	if err != nil || i >= int(s.cpus) {
		return false
	}
	w.use(i + 1)
	return true
}

// make makes n words, if no other goroutine has, and returns the span.
func (w *words) make(n int) *span {
	making.Lock()
	defer making.Unlock()
	if s := w.span.Load(); s != nil {
		return s
	}
	s := arenas[rseq.ByCPU].get(rseq.ByCPU, rseq.PossibleCPUs(), n)
	w.init(s, 0)
	return s
}

var making sync.Mutex
