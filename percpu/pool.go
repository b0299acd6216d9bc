package percpu

import (
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
	"weak"

	"github.com/rseq-go/rseq/internal/section"
)

// Pool keeps values of one type for reuse, some on each CPU: buffers, encoders, what is dear
// to make. Unlike a [sync.Pool] it keeps them whatever the garbage collector does, and not
// more than its size. Get makes a value where it finds none, so a value that is never put
// back is replaced, and the pool does not keep it from the collector for ever.
//
// The size is how many values may wait in the pool at one moment. Make it as many as there
// are users at the busiest moment: then, once as many values were made, hardly any Get makes
// another. Half of them may wait on the lists of CPUs, at most 64 on each, and a list has
// room for at least one: so a pool is fastest if its size is at least twice the number of
// CPUs, and one that is smaller may keep a value for each CPU.
//
// The zero Pool is ready to use, and its size is 128 for each CPU; [NewPool] makes one of
// another size. It must not be copied after first use.
//
// The values are Go's, so T may have pointers. A value takes 128 bytes more than a T, which
// keep it out of the cache lines of its neighbours.
type Pool[T any] struct {
	// New, if not nil, readies a value that the pool just made, and that is zero. If it
	// panics, so does Get, and the pool is as it was. It must not be changed after first use.
	New func(*T)

	// Keep, if not nil, readies each value that is put back, and reports whether the pool
	// may keep it: a buffer that grew too large it may not. If Keep panics, so does Put, and
	// the value is still the caller's. It must not be changed after first use.
	Keep func(*T) bool

	pool
}

// How it works. Every value that the pool made is a member until the pool forgets it; the
// set of members is all that keeps those on the lists from the collector, since a list has
// mere addresses. Put asks the set whether a pointer is a member. Most values that are out
// are members too, so that Get and Put need not change the set.
//
// A value that is lost would so be kept for ever. Therefore, when the set has grown to its
// limit, sweep replaces it by one of those values alone that are free, and has weak pointers
// to the others. Put finds a value that is out and comes back by its weak pointer, and makes
// it a member again. One that is lost is the collector's.
//
// Sweep must not miss a value that is just being put back, or the collector would free what is
// on a list. Put marks it as free, then looks whether the set is still the one that it asked,
// and if so pushes it. Sweep publishes the new set, fences all CPUs, then looks at the marks.
// So if Put saw the old set, sweep sees the mark. That sweep sees a mark that was
// out of date, of a value that Get is just taking, does no harm: it stays a member.

// value is how a T lies in memory.
type value[T any] struct {
	header
	v T
	_ [128 - unsafe.Sizeof(header{})]byte
}

// header stands before each T.
type header struct {
	state state // the owner of the value alone writes it
	_     uint32
}

type state uint32

const (
	isFree state = iota
	isOut
)

// pool is what does not depend on the type.
type pool struct {
	list atomic.Pointer[FreeList] // of members' addresses; nil before it can be fenced
	set  atomic.Pointer[set]

	mu     sync.Mutex
	size   int
	room   int                              // in each list
	spare  []uint64                         // free members for whatever CPU runs out
	limit  int                              // how many members there may be before a sweep
	gone   map[uintptr]weak.Pointer[header] // those that are out and no members, by address
	misses int                              // Gets that found nothing since lists were drained
}

const (
	poolPerCPU  = 128 // the zero Pool's size, for each CPU
	listAtMost  = 64  // values on a CPU's list
	fewestSweep = 64  // members that are worth a sweep
)

// NewPool returns a pool of size n, with the New that is given, which may be nil. It panics if
// n is below one or beyond the package's limits.
func NewPool[T any](n int, init func(*T), options ...Option) *Pool[T] {
	if limit := sizeLimit(unsafe.Sizeof(value[T]{})); n < 1 || n > limit {
		panic(fmt.Sprintf("percpu.NewPool: %d values: expected at least 1 and at most %d of %v", n, limit, reflect.TypeFor[T]()))
	}
	return newPool(n, init, NewFreeList(listRoom(n), options...))
}

func newPool[T any](n int, init func(*T), list *FreeList) *Pool[T] {
	p := &Pool[T]{New: init}
	p.resize(n, list.room())
	p.open(list)
	return p
}

// listRoom returns how many values may wait on each CPU's list in a pool of size n.
func listRoom(n int) int { return min(max(n/(2*cpusNow()), 1), listAtMost) }

func cpusNow() int { return max(runtime.NumCPU(), runtime.GOMAXPROCS(0)) }

// Get returns a value that nobody else has: one that was put back, mostly by the CPU that the
// goroutine runs on. If there is none, or now and then if there are some on other CPUs' lists
// only, it makes one.
func (p *Pool[T]) Get() *T {
	if l := p.list.Load(); l != nil {
		if h, ok := section.Take(unsafe.Pointer(l), slowTake, 0); ok {
			return p.out((*header)(h))
		}
	}
	return p.miss()
}

// miss is Get where the CPU's list has no value.
func (p *Pool[T]) miss() *T {
	if h := p.refill(); h != nil {
		return p.out(h)
	}
	made := new(value[T])
	if p.New != nil {
		p.New(&made.v)
	}
	p.join(&made.header)
	return p.out(&made.header)
}

// out hands out a free value.
func (p *Pool[T]) out(h *header) *T {
	acquire(unsafe.Pointer(h))
	h.state = isOut
	return &(*value[T])(unsafe.Pointer(h)).v
}

// Put gives back a value that Get returned. The caller must not use it any more. A pointer
// that no Get of this pool returned is ignored. Put panics if the value is in the pool already.
func (p *Pool[T]) Put(v *T) {
	if s := p.set.Load(); s != nil && s.list != nil && p.Keep == nil {
		h := s.find(p.header(v))
		if h != nil && h.state == isOut {
			h.state = isFree
			release(unsafe.Pointer(h))
			if p.set.Load() != s || !section.Push(unsafe.Pointer(s.list), uint64(uintptr(unsafe.Pointer(h))), slowPush, 0) {
				p.spill(h)
			}
			return
		}
	}
	p.put(v)
}

// put is Put where there is more to do.
func (p *Pool[T]) put(v *T) {
	h := p.known(p.header(v))
	if h == nil {
		return
	}
	if h.state != isOut {
		panic("percpu: Put of a value that is in the pool already")
	}
	if p.Keep != nil && !p.Keep(v) {
		p.forget(h)
		return
	}
	// After an atomic store sweep need not fence.
	atomic.StoreUint32((*uint32)(&h.state), uint32(isFree))
	l := p.list.Load()
	if l == nil || p.set.Load().find(p.header(v)) == nil || !l.Push(uint64(uintptr(unsafe.Pointer(h)))) {
		p.spill(h)
	}
}

// header returns where the header of v is, if v is one of the pool's.
func (p *Pool[T]) header(v *T) uintptr {
	return uintptr(unsafe.Pointer(v)) - unsafe.Offsetof(value[T]{}.v)
}

// slowTake is slowPop of an address. What is there is free, so that it stays a member.
func slowTake(list unsafe.Pointer, gate *section.Gate, status uint32) (unsafe.Pointer, bool) {
	v, ok := slowPop(list, gate, status)
	return pointer(v), ok
}

// pointer returns a handle as the address that it is.
func pointer(handle uint64) unsafe.Pointer {
	at := uintptr(handle)
	return *(*unsafe.Pointer)(unsafe.Pointer(&at))
}

// resize says how many values may wait, and how many of them on each list. The pool was not
// used yet.
func (p *pool) resize(n, room int) {
	p.size, p.room = n, room
	p.limit = max(2*n, fewestSweep)
}

// begin makes the zero pool ready, and gives it lists as soon as a fence is known to work. mu
// is held.
func (p *pool) begin() {
	if p.size == 0 {
		n := poolPerCPU * cpusNow()
		p.resize(n, listRoom(n))
	}
	if p.list.Load() == nil {
		if index, cpus := indexes(nil); cpus == 0 || mayFence() {
			p.open(newFreeList(p.room, index, cpus))
		}
	}
}

// open gives the pool its lists. mu is held.
func (p *pool) open(l *FreeList) {
	p.list.Store(l)
	if s := p.set.Load(); s != nil && l.n > 0 {
		p.set.Store(s.copy(len(s.slots)/2, l))
	}
}

// refill returns a free value, if there is one, and puts others on the CPU's list.
func (p *pool) refill() *header {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begin()
	l := p.list.Load()
	if len(p.spare) == 0 {
		// Others' lists are not worth a fence each time.
		if p.misses++; l == nil || p.misses < p.room || l.Len() == 0 {
			return nil
		}
		p.misses = 0
		if p.spare, _ = l.DrainAll(); len(p.spare) == 0 {
			return nil // also if the fence failed: then they are where they were
		}
	}
	last := len(p.spare) - 1
	h := (*header)(pointer(p.spare[last]))
	p.spare = p.spare[:last]
	if l != nil {
		some := p.spare[last-min(last, (p.room-1)/2):]
		// What has no room stays, behind what was not to be pushed.
		p.spare = append(p.spare[:last-len(some)], some[l.PushBatch(some):]...)
	}
	return h
}

// spill puts a free value and half of the CPU's list where others find them, and drops what
// is more than the pool may keep.
func (p *pool) spill(h *header) {
	var some [listAtMost]uint64
	n := 0
	l := p.list.Load()
	if l != nil {
		n = l.PopBatch(some[:min(p.room/2, listAtMost)])
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.member(h)
	p.spare = append(append(p.spare, some[:n]...), uint64(uintptr(unsafe.Pointer(h))))
	over := len(p.spare) - p.size/2
	if over > 0 && l != nil {
		over = len(p.spare) + l.Len() - p.size
	} else if l == nil {
		over = len(p.spare) - p.size
	}
	if over > 0 {
		over = min(over, len(p.spare))
		for _, h := range p.spare[:over] {
			p.set.Load().remove((*header)(pointer(h)))
		}
		p.spare = append(p.spare[:0], p.spare[over:]...)
	}
}

// join makes a new value a member.
func (p *pool) join(h *header) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.set.Load(); s != nil && s.n >= p.limit {
		p.sweep()
	}
	p.member(h)
}

// known returns the value at an address, if the pool made it and did not forget it.
func (p *pool) known(at uintptr) *header {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h := p.set.Load().find(at); h != nil {
		return h
	}
	return p.gone[at].Value()
}

// forget leaves a value to the collector.
func (p *pool) forget(h *header) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set.Load().remove(h)
	delete(p.gone, uintptr(unsafe.Pointer(h)))
}

// member makes a value a member, if it is none. mu is held.
func (p *pool) member(h *header) {
	at := uintptr(unsafe.Pointer(h))
	s := p.set.Load()
	if s.find(at) != nil {
		return
	}
	delete(p.gone, at)
	p.set.Store(s.with(h, p.sectioned()))
}

// sectioned returns the pool's lists if sections push on them.
func (p *pool) sectioned() *FreeList {
	if l := p.list.Load(); l != nil && l.n > 0 {
		return l
	}
	return nil
}

// sweep leaves values that are out to their users and to the collector. mu is held.
func (p *pool) sweep() {
	old, l := p.set.Load(), p.sectioned()
	s := newSet(p.size, l)
	p.set.Store(s)
	if l != nil {
		outlast(l.index)
	}
	for at, w := range p.gone {
		if w.Value() == nil {
			delete(p.gone, at)
		}
	}
	if p.gone == nil {
		p.gone = map[uintptr]weak.Pointer[header]{}
	}
	for _, h := range old.all() {
		if h.peek() == isOut {
			p.gone[uintptr(unsafe.Pointer(h))] = weak.Make(h)
		} else {
			s = s.with(h, l)
		}
	}
	p.set.Store(s)
	p.limit = max(2*p.size, p.size+s.n+len(p.gone), fewestSweep)
}

// peek returns the state of a value that another goroutine may own, in one order with the
// atomic operations on the set. (The race detector would complain of an atomic load.)
//
//go:norace
func (h *header) peek() state {
	if racing {
		return h.state
	}
	return state(atomic.LoadUint32((*uint32)(&h.state)))
}
