package percpu

import (
	"math"
	"math/bits"
	"os"
	"sync"
	"unsafe"

	"github.com/rseq-go/rseq/internal/kernel"
)

// arena has words that there is one of for each CPU. It maps memory in which a CPU's
// words lie together, in pages of its own: a word costs a CPU 8 bytes, no line is
// written by two CPUs, and a page is there from when its CPU first adds, on its node.
type arena struct {
	mu    sync.Mutex
	chunk span           // what is not given out yet: all of one page for each CPU
	free  map[int][]span // what was given back, by number of words
}

// words is where counters' words come from, by what a share goes by: a CPU's and a
// concurrency id's would be written by two CPUs.
var words [2]arena

// span is some words, for each CPU.
type span struct {
	base   *int64 // CPU 0's
	stride uintptr
	n      int
	own    []byte // a mapping that is this span's alone
	zero   bool   // its memory was given back
}

// get returns n words for each CPU, none if there is no memory, and whether they may
// be anything but zero. A power of two is taken, so that what is given back serves
// for others.
func (a *arena) get(cpus, n int) (s span, reused bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	page := os.Getpagesize() / 8
	n = 1 << bits.Len(uint(n-1))
	each := max(n, page)
	if n < 1 || each > math.MaxInt/8/cpus {
		return span{}, false // more than there are addresses
	}
	if list := a.free[n]; len(list) > 0 {
		s = list[len(list)-1]
		a.free[n] = list[:len(list)-1]
		return s, !s.zero
	}
	if n > page/2 {
		if memory := kernel.Map(cpus * each * 8); memory != nil {
			s = span{base: first(memory), stride: uintptr(each * 8), n: n, own: memory}
		}
		return s, false
	}
	if a.chunk.n < n {
		// What is left of it is lost, less than n words.
		memory := kernel.Map(cpus * page * 8)
		if memory == nil {
			return span{}, false
		}
		a.chunk = span{base: first(memory), stride: uintptr(page * 8), n: page}
	}
	s = span{base: a.chunk.base, stride: a.chunk.stride, n: n}
	a.chunk.n -= n
	if a.chunk.n > 0 {
		a.chunk.base = (*int64)(unsafe.Add(unsafe.Pointer(a.chunk.base), 8*n))
	}
	return s, false
}

// put takes back what get returned. Nobody adds to it any more. A mapping stays, without
// its memory: were it unmapped, its neighbours would be two mappings where they were one,
// of which a process may have some 65,000 (vm.max_map_count), Go's own included.
func (a *arena) put(s span) {
	s.zero = s.own != nil && kernel.Discard(s.own)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.free == nil {
		a.free = map[int][]span{}
	}
	a.free[s.n] = append(a.free[s.n], s)
}

func first(memory []byte) *int64 { return (*int64)(unsafe.Pointer(unsafe.SliceData(memory))) }
