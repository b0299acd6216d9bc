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

// Pool keeps values of one type for reuse, some on each CPU: buffers, encoders, and others that
// take long to make. The garbage collector does not empty it, as it does a [sync.Pool]. Get
// makes a value if it finds none. So a value that is never put back is replaced, and the pool
// leaves it to the garbage collector, at the latest when some hundred others, or as many as the
// size and those in use, were made after it.
//
// The size is the number of values that the pool keeps. Make it the number of users at the
// busiest moment. Then Get makes hardly any value once there are as many. About half of them may
// wait on the lists of CPUs, at most 64 on each, but each list has room for one. So a pool
// whose size is twice the number of CPUs or more is fast on each CPU. While the lists fill up
// there may be half as many values more than the size, or one for each CPU.
//
// The zero Pool is ready to use. Its size is 128 for each CPU; [NewPool] makes a pool of another
// size. A Pool must not be copied after first use.
//
// T may have pointers, since the values are in Go's heap. A value takes 128 bytes more than a T,
// so that no two are in one cache line.
type Pool[T any] struct {
	// New, if not nil, is called with each value that the pool makes, which is zero, before
	// Get returns it. If New panics, so does Get, and the pool is as it was. It must not be
	// changed after first use.
	New func(*T)

	// Keep, if not nil, is called with each value that is put back. It may reset the value, and
	// reports whether the pool may keep it. A buffer that has grown too large is an example
	// of one that it may not. If Keep panics, so does Put, and the value is still the
	// caller's. It must not be changed after first use.
	Keep func(*T) bool

	pool
}

// The protocol. A list has addresses, which keep nothing from the collector, so the pool has a
// set of its values. Put looks a pointer up in the set, and ignores it if it is not there. A
// value stays in the set while a user has it, so that Get and Put need not change the set.
//
// But a user may never put it back. So when the set has grown to its limit, sweep makes a new
// set. It has the values that are free. The pool keeps weak pointers to the others: Put finds a
// value by its weak pointer, and adds it to the set again; one that no user has any more is
// collected.
//
// Sweep must not leave out a value that is on a list, or that Put is about to push. Put marks the
// value as free, then looks whether the set is still the one in which it found the value, and
// pushes it if so. Sweep publishes the new set, fences all CPUs, and then reads the marks. So
// either sweep reads that the value is free, or Put sees another set and takes the pool's lock.
// A Get that has popped a value but not marked it yet does no harm: the value is in the new set.

// value is how a T lies in memory.
type value[T any] struct {
	header
	v T
	_ [128 - unsafe.Sizeof(header{})]byte
}

// header stands before each T.
type header struct {
	state state // only the user of the value writes it, or Get and Put for the user
	_     uint32
}

type state uint32

const (
	isFree state = iota
	isOut
)

// pool is what does not depend on the type.
type pool struct {
	list atomic.Pointer[FreeList] // free values' addresses; nil until a fence is known to work
	set  atomic.Pointer[set]      // nil until there is a value

	mu     sync.Mutex
	size   int                              // 0: not yet set
	room   int                              // in each list
	spare  []uint64                         // addresses of free values, for any CPU whose list is empty
	limit  int                              // the size of the set that makes join sweep
	gone   map[uintptr]weak.Pointer[header] // values that a sweep left out, by address
	misses int                              // Gets that found nothing since the lists were drained
}

const (
	poolPerCPU  = 128 // the zero Pool's size, for each CPU
	listAtMost  = 64  // the most values on a CPU's list
	fewestSweep = 64  // the least size of a set that is worth a sweep
)

// NewPool returns a pool of size n whose New is init, which may be nil. It panics if n is below
// one or beyond the package's limits.
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

// Get returns a value that no one else has: usually the one that was put back last on the CPU
// that the goroutine runs on. If there is none, Get makes one; also, now and then, if there are
// some on other CPUs' lists only.
func (p *Pool[T]) Get() *T {
	if l := p.list.Load(); l != nil {
		if h, ok := section.Take(unsafe.Pointer(l), slowTake, 0); ok {
			return p.out((*header)(h))
		}
	}
	return p.miss()
}

// miss is Get if the CPU's list has no value.
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
	if s := p.set.Load(); s != nil && s.list != nil {
		h := s.find(p.header(v))
		if h != nil && h.state == isOut {
			if p.Keep != nil && !p.Keep(v) {
				p.forget(h)
				return
			}
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

// put is the slow path of Put.
func (p *Pool[T]) put(v *T) {
	at := p.header(v)
	h := p.set.Load().find(at)
	if h == nil {
		if h = p.known(at); h == nil {
			return
		}
	}
	if h.state != isOut {
		panic("percpu: Put of a value that is in the pool already")
	}
	if p.Keep != nil && !p.Keep(v) {
		p.forget(h)
		return
	}
	// After an atomic store sweep needs no fence to read it.
	release(unsafe.Pointer(h))
	atomic.StoreUint32((*uint32)(&h.state), uint32(isFree))
	l := p.list.Load()
	if l == nil || p.set.Load().find(at) == nil || !l.Push(uint64(uintptr(unsafe.Pointer(h)))) {
		p.spill(h)
	}
}

// header returns where the header of v is, if v is one of the pool's.
func (p *Pool[T]) header(v *T) uintptr {
	return uintptr(unsafe.Pointer(v)) - unsafe.Offsetof(value[T]{}.v)
}

// slowTake is slowPop of an address. The value is marked as free until Get has it in hand, so it
// stays in the set.
func slowTake(list unsafe.Pointer, gate *section.Gate, status uint32) (unsafe.Pointer, bool) {
	v, ok := slowPop(list, gate, status)
	return pointer(v), ok
}

// pointer returns a handle as the address that it is.
func pointer(handle uint64) unsafe.Pointer {
	at := uintptr(handle)
	return *(*unsafe.Pointer)(unsafe.Pointer(&at))
}

// resize sets the size, and how many values may wait on each list, of a pool that was not used
// yet.
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

// refill returns a free value, if there is one, and pushes others on the CPU's list.
func (p *pool) refill() *header {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begin()
	l := p.list.Load()
	if len(p.spare) == 0 {
		// Draining the other lists takes a fence, so it is not done each time.
		if p.misses++; l == nil || p.misses < p.room || l.Len() == 0 {
			return nil
		}
		p.misses = 0
		if p.spare, _ = l.DrainAll(); len(p.spare) == 0 {
			return nil // also if the fence failed: then they are still on the lists
		}
	}
	last := len(p.spare) - 1
	h := (*header)(pointer(p.spare[last]))
	p.spare = p.spare[:last]
	if l != nil {
		some := p.spare[last-min(last, (p.room-1)/2):]
		// Those for which there was no room stay.
		p.spare = append(p.spare[:last-len(some)], some[l.PushBatch(some):]...)
	}
	return h
}

// spill moves half of the CPU's list and one more free value to where any CPU finds them, and
// drops those beyond the pool's size.
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
	waiting := len(p.spare)
	if l != nil && waiting > p.size/2 { // else all fits
		waiting += l.Len()
	}
	if over := min(waiting-p.size, len(p.spare)); over > 0 {
		for _, h := range p.spare[:over] {
			p.set.Load().remove((*header)(pointer(h)))
		}
		p.spare = append(p.spare[:0], p.spare[over:]...)
	}
}

// join adds a new value to the set.
func (p *pool) join(h *header) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.set.Load(); s != nil && s.n >= p.limit {
		p.sweep()
	}
	p.member(h)
}

// known returns the value at an address, or nil if it is not one of the pool's.
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
