package percpu

import (
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"unsafe"
)

// Pool has values of one type for reuse, some on each CPU: buffers, encoders, whatever
// is dear to make. Unlike a [sync.Pool] it keeps what it has, whatever the garbage
// collector does, and never more than it was made for. The values are Go's: T may have
// pointers. Make one by [NewPool]; it must not be copied.
//
// Up to half of a pool's values wait on the lists of other CPUs, of those that the
// process might use when it was made: at most 64 on each, and at least one. So a pool
// that is never to allocate has twice as many values as there are users at one moment,
// and two for each CPU. They lie side by side, T and a byte each: a value may share a
// cache line with its neighbour, which another CPU may just have, and both are slower
// then. Where that matters pad T.
type Pool[T any] struct {
	list   *FreeList  // handles are distances from the first value, in bytes
	values []value[T] // which never move
	init   func(*T)

	mu    sync.Mutex
	fresh int      // values from there on were never handed out
	spare []uint64 // handles for whatever CPU runs out
	// misses counts what was allocated since other CPUs' lists were drained.
	misses, patience int
}

type value[T any] struct {
	v     T
	state state // whoever has the value owns this
}

type state uint8

const (
	isFresh state = iota
	isFree
	isOut
)

// NewPool returns a pool of n values of T, all allocated now; n below one panics, and so does
// one beyond the package's limits. A value is zero when Get first returns it, or what init, if
// not nil, made of it. If init panics, so does Get; the value is zero again, and stays in the
// pool.
func NewPool[T any](n int, init func(*T), options ...Option) *Pool[T] {
	if limit := sizeLimit(unsafe.Sizeof(value[T]{})); n < 1 || n > limit {
		panic(fmt.Sprintf("percpu.NewPool: %d values: expected at least 1 and at most %d of %v", n, limit, reflect.TypeFor[T]()))
	}
	cpus := max(runtime.NumCPU(), runtime.GOMAXPROCS(0))
	perCPU := min(max(n/(2*cpus), 1), 64)
	return newPool(n, init, NewFreeList(perCPU, options...))
}

func newPool[T any](n int, init func(*T), list *FreeList) *Pool[T] {
	return &Pool[T]{list: list, values: make([]value[T], n), init: init, patience: list.room()}
}

// Get returns a value that nobody else has: one that was put back, mostly by the CPU
// that the goroutine runs on, or one that is spare, or a fresh one. Where the pool has
// none left but on other CPUs' lists, it is allocated, and Put leaves it to the garbage
// collector; now and then the others' are called in.
func (p *Pool[T]) Get() *T {
	handle, ok := p.list.Pop()
	if !ok {
		return p.miss()
	}
	value := p.at(handle)
	acquire(unsafe.Pointer(&value.state))
	if value.state != isFree {
		return p.first(handle)
	}
	value.state = isOut
	return &value.v
}

// miss returns a value where the CPU's list has none.
func (p *Pool[T]) miss() *T {
	if handle, ok := p.refill(); ok {
		value := p.at(handle)
		acquire(unsafe.Pointer(&value.state))
		return p.first(handle)
	}
	v := new(T)
	if p.init != nil {
		p.init(v)
	}
	return v
}

// first returns a value, initialised if this is the first time.
func (p *Pool[T]) first(handle uint64) *T {
	value := p.at(handle)
	if value.state == isFresh && p.init != nil {
		p.begin(handle)
	}
	value.state = isOut
	return &value.v
}

// begin has a value initialised, which is not lost if that panics.
func (p *Pool[T]) begin(handle uint64) {
	done := false
	defer func() {
		if !done {
			p.at(handle).v = *new(T)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.spare = append(p.spare, handle)
		}
	}()
	p.init(&p.at(handle).v)
	done = true
}

// Put gives a value back, as it is. The caller must not use it any more. A value that
// is not the pool's is ignored; one that was put back already is a panic, if nobody
// got it since.
func (p *Pool[T]) Put(v *T) {
	handle, mine := p.handle(v)
	if !mine {
		return
	}
	value := p.at(handle)
	if value.state != isOut {
		panic("percpu: Put of a value that is in the pool already")
	}
	value.state = isFree
	release(unsafe.Pointer(&value.state))
	if !p.list.Push(handle) {
		p.spill(handle)
	}
}

// handle returns a value's, if it is one of the pool's.
func (p *Pool[T]) handle(v *T) (handle uint64, mine bool) {
	distance := uintptr(unsafe.Pointer(v)) - uintptr(unsafe.Pointer(unsafe.SliceData(p.values)))
	// There is no T inside a T, so what is among the values is one of them.
	return uint64(distance), distance < unsafe.Sizeof(p.values[0])*uintptr(len(p.values))
}

// at returns the value that has a handle.
func (p *Pool[T]) at(handle uint64) *value[T] {
	return (*value[T])(unsafe.Add(unsafe.Pointer(unsafe.SliceData(p.values)), handle))
}

// spill puts a handle and half of the CPU's list where others find them.
func (p *Pool[T]) spill(handle uint64) {
	var some [batch]uint64
	n := p.list.PopBatch(some[:(p.list.room()+1)/2])
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spare = append(append(p.spare, some[:n]...), handle)
}

// refill returns a handle and puts others on the CPU's list.
func (p *Pool[T]) refill() (handle uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.spare) == 0 && p.fresh == len(p.values) {
		// The rest is out, or on other CPUs' lists, perhaps for good.
		if p.misses++; p.misses < p.patience || p.list.Len() == 0 {
			return 0, false
		}
		p.misses = 0
		if p.spare, _ = p.list.DrainAll(); len(p.spare) == 0 {
			return 0, false // also where the fence failed: then they are where they were
		}
	}
	n := (p.list.room() + 1) / 2
	if len(p.spare) == 0 {
		for end := min(p.fresh+n, len(p.values)); p.fresh < end; p.fresh++ {
			p.spare = append(p.spare, uint64(unsafe.Sizeof(p.values[0]))*uint64(p.fresh))
		}
	}
	n = min(n, len(p.spare))
	left := len(p.spare) - n
	handle = p.spare[left]
	pushed := p.list.PushBatch(p.spare[left+1:])
	// What had no room stays, behind what was not taken.
	p.spare = append(p.spare[:left], p.spare[left+1+pushed:]...)
	return handle, true
}
