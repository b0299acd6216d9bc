package percpu

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/tramp"
)

// FreeList is a bounded stack of handles for each CPU. A handle is any 64-bit number:
// an index, an offset, an address of memory that is not Go's (a handle keeps nothing
// alive; for Go values there is [Pool]). Make one by [NewFreeList]; it must not be
// copied.
//
// Push and Pop work on the list of the CPU that the goroutine runs on, so what is
// pushed on one CPU and popped on another collects on the first: whoever finds its list
// full or empty may take a batch elsewhere, as [Pool] does, or [FreeList.Drain] others.
//
// A list takes 8 bytes for each handle that it has room for and 144 more, from when
// its CPU first pushes; there are 8 bytes for each possible CPU.
type FreeList struct {
	blocks unsafe.Pointer // first: *block of each index; cs.h
	cpus   int            // how many there are, if by CPU number
	perCPU int            // what new blocks have room for
	ids    int            // how many, if by concurrency id
	n      int            // of whichever kind
	index  rseq.Index

	// mu is for whoever replaces blocks, but in the sections' way: a section loads its
	// block each time, so who swaps it and fences has the old one alone.
	mu      sync.Mutex
	retired map[int][]*block // swapped, not yet fenced, by index

	apart keys
	// Threads without sections have lists of their own, shared ones.
	shared       stripes[shared]
	sharedCount  atomic.Int64 // handles in all of them
	sharedPerOne atomic.Int64 // room in each
}

// block is a CPU's list: as many words as cap says follow. Sections alone write it,
// until it is retired. cs.h.
type block struct{ count, cap int64 }

// none is the block of a CPU that has none yet: empty and full. Nothing beside it is
// written.
var none = &new(struct {
	_ [128]byte
	block
	_ [128]byte
}).block

func newBlock(room int) *block {
	// Not in a cache line with another CPU's.
	const line = 128
	words := make([]uint64, int(unsafe.Sizeof(block{}))/8+room+line/8)
	p := unsafe.Pointer(unsafe.SliceData(words))
	b := (*block)(unsafe.Add(p, -uintptr(p)%line))
	b.cap = int64(room)
	return b
}

// handles returns those in the block, the last one pushed last.
func (b *block) handles() []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Add(unsafe.Pointer(b), unsafe.Sizeof(*b))), b.count)
}

type shared struct {
	mu      sync.Mutex
	handles []uint64
}

// batch is how many handles a section moves: copying must take less than a slice of
// the scheduler.
const batch = 256

// NewFreeList returns empty lists with room for perCPU handles each, at least one.
func NewFreeList(perCPU int, options ...Option) *FreeList {
	if perCPU < 1 {
		panic(fmt.Sprintf("percpu.NewFreeList: room for %d handles per CPU: expected at least 1", perCPU))
	}
	index, cpus := indexes(options)
	if cpus > 0 && !canFence.Load() {
		if index.Fence(-1) != nil {
			cpus = 0 // no CPU's list could be drained
		} else {
			canFence.Store(true)
		}
	}
	return newFreeList(perCPU, index, cpus)
}

var canFence atomic.Bool

func newFreeList(perCPU int, index rseq.Index, cpus int) *FreeList {
	l := &FreeList{n: cpus, perCPU: perCPU, index: index, retired: map[int][]*block{}}
	l.cpus, l.ids = split(index, cpus)
	l.sharedPerOne.Store(int64(perCPU))
	blocks := make([]*block, cpus)
	for i := range blocks {
		blocks[i] = none
	}
	l.blocks = unsafe.Pointer(unsafe.SliceData(blocks))
	return l
}

// Push puts a handle on the list of the CPU that the goroutine runs on, and returns
// false if there is no room. It may wait for a Drain or Resize that goes on.
func (l *FreeList) Push(handle uint64) bool {
	if racing {
		release(l.apart.of(handle))
	}
	return tramp.Push(unsafe.Pointer(l), handle, 0)
}

// Pop takes the handle that was pushed last off the list of the CPU that the goroutine
// runs on, and returns false if there is none.
func (l *FreeList) Pop() (handle uint64, ok bool) {
	handle, ok = tramp.Pop(unsafe.Pointer(l), 0)
	if racing && ok {
		acquire(l.apart.of(handle))
	}
	return handle, ok
}

// PushBatch pushes handles in their order, while there is room, and returns how many.
// Up to 256 go on the same list at once.
func (l *FreeList) PushBatch(handles []uint64) (n int) {
	if racing {
		for _, h := range handles {
			release(l.apart.of(h))
		}
	}
	for n < len(handles) {
		some := tramp.PushBatch(unsafe.Pointer(l), &handles[n], min(len(handles)-n, batch), 0)
		if some == 0 {
			break
		}
		n += some
	}
	return n
}

// PopBatch pops handles until they are as many as there is room for or there is none
// left, and returns how many. Up to 256 come off the same list at once.
func (l *FreeList) PopBatch(handles []uint64) (n int) {
	for n < len(handles) {
		some := tramp.PopBatch(unsafe.Pointer(l), &handles[n], min(len(handles)-n, batch), 0)
		if some == 0 {
			break
		}
		n += some
	}
	if racing {
		for _, h := range handles[:n] {
			acquire(l.apart.of(h))
		}
	}
	return n
}

// Lists returns how many lists there are: one for each possible CPU, or concurrency
// id, and a last one that threads without critical sections share.
func (l *FreeList) Lists() int { return l.n + 1 }

// Len returns how many handles are on the lists, those that come and go meanwhile
// counted or not.
func (l *FreeList) Len() int {
	n := int(l.sharedCount.Load())
	for i := range l.n {
		n += int(atomic.LoadInt64(&(*block)(atomic.LoadPointer(l.entry(i))).count))
	}
	return n
}

// Drain takes all handles off list i, below [FreeList.Lists], from any CPU: also one
// that this process may not use any more. Others push and pop meanwhile. It takes some
// microseconds, see [rseq.Index.Fence], whose error it returns; nothing is lost then,
// another Drain or Resize returns those handles.
func (l *FreeList) Drain(i int) ([]uint64, error) {
	if i < 0 || i > l.n {
		return nil, fmt.Errorf("percpu: drain list %d: expected 0 to %d", i, l.n)
	}
	return l.drain(i, i+1)
}

// DrainAll is Drain of all lists.
func (l *FreeList) DrainAll() ([]uint64, error) { return l.drain(0, l.n+1) }

// Resize makes room for perCPU handles on each list, at least one. It returns
// handles that are on no list then: those that no longer have room, the first pushed,
// and the like. The error is Drain's.
func (l *FreeList) Resize(perCPU int) (surplus []uint64, err error) {
	if perCPU < 1 {
		return nil, fmt.Errorf("percpu: room for %d handles per CPU: expected at least 1", perCPU)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.perCPU
	l.perCPU = perCPU
	l.retire(0, l.n)
	if err := l.fence(0, l.n); err != nil {
		l.perCPU = before
		return nil, err
	}
	for i := range l.n {
		var b *block
		for _, old := range l.retired[i] {
			handles := old.handles()
			if b == nil {
				b = newBlock(perCPU)
				kept := min(len(handles), perCPU)
				b.count = int64(kept)
				copy(b.handles(), handles[len(handles)-kept:])
				handles = handles[:len(handles)-kept]
			}
			surplus = append(surplus, handles...)
		}
		delete(l.retired, i)
		if b != nil {
			atomic.StorePointer(l.entry(i), unsafe.Pointer(b))
		}
	}
	l.sharedPerOne.Store(int64(perCPU))
	for s := range l.shared.all() {
		s.mu.Lock()
		if over := len(s.handles) - perCPU; over > 0 {
			surplus = append(surplus, s.handles[:over]...)
			s.handles = append([]uint64(nil), s.handles[over:]...)
			l.sharedCount.Add(int64(-over))
		}
		s.mu.Unlock()
	}
	l.acquired(surplus)
	return surplus, nil
}

// drain takes all handles off the lists from first up to end.
func (l *FreeList) drain(first, end int) (handles []uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	blocks := min(end, l.n)
	l.retire(first, blocks)
	if err := l.fence(first, blocks); err != nil {
		return nil, err
	}
	for i := first; i < blocks; i++ {
		for _, old := range l.retired[i] {
			handles = append(handles, old.handles()...)
			atomic.StoreInt64(&old.count, 0)
			if old.cap == int64(l.perCPU) { // back to where it was
				atomic.StorePointer(l.entry(i), unsafe.Pointer(old))
			}
		}
		delete(l.retired, i)
	}
	if end > l.n {
		for s := range l.shared.all() {
			s.mu.Lock()
			handles = append(handles, s.handles...)
			l.sharedCount.Add(int64(-len(s.handles)))
			s.handles = s.handles[:0]
			s.mu.Unlock()
		}
	}
	l.acquired(handles)
	return handles, nil
}

func (l *FreeList) acquired(handles []uint64) {
	if racing {
		for _, h := range handles {
			acquire(l.apart.of(h))
		}
	}
}

// retire takes the blocks away from the sections; mu is held, so that no CPU gets
// another meanwhile.
func (l *FreeList) retire(first, end int) {
	for i := first; i < end; i++ {
		if b := (*block)(atomic.SwapPointer(l.entry(i), unsafe.Pointer(none))); b != none {
			l.retired[i] = append(l.retired[i], b)
		}
	}
}

// fence waits until no section uses what is retired.
func (l *FreeList) fence(first, end int) error {
	if len(l.retired) == 0 {
		return nil
	}
	if end-first == 1 {
		return l.index.Fence(first)
	}
	return l.index.Fence(-1)
}

// entry returns where the block of an index is published.
func (l *FreeList) entry(i int) *unsafe.Pointer {
	return (*unsafe.Pointer)(unsafe.Add(l.blocks, uintptr(i)*unsafe.Sizeof(l.blocks)))
}

// grow gives the CPU that the goroutine runs on its block, and reports whether it had
// none.
func (l *FreeList) grow() bool {
	i, err := l.index.Current()
	if err != nil || i >= l.n || atomic.LoadPointer(l.entry(i)) != unsafe.Pointer(none) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if atomic.LoadPointer(l.entry(i)) == unsafe.Pointer(none) {
		atomic.StorePointer(l.entry(i), unsafe.Pointer(newBlock(l.perCPU)))
	}
	return true
}

func init() {
	tramp.Slow.Push = slowPush
	tramp.Slow.Pop = slowPop
	tramp.Slow.PushBatch = slowPushBatch
	tramp.Slow.PopBatch = slowPopBatch
}

// again reports whether a section that did not push or pop may be tried again, and
// portable whether the shared lists have to do instead.
func (l *FreeList) again(status uint32, push bool) (again, portable bool) {
	if rseq.Status(status) == rseq.CompareFailed {
		return push && l.grow(), false
	}
	return l.n > 0 && retry(status, l.index), true
}

func slowPush(list unsafe.Pointer, v uint64, status uint32) bool {
	l := (*FreeList)(list)
	again, portable := l.again(status, true)
	return again && tramp.Push(list, v, 0) || !again && portable && l.pushShared(unsafe.Slice(&v, 1)) == 1
}

func slowPushBatch(list unsafe.Pointer, v *uint64, n int, status uint32) int {
	l := (*FreeList)(list)
	again, portable := l.again(status, true)
	switch {
	case again:
		return tramp.PushBatch(list, v, n, 0)
	case portable:
		return l.pushShared(unsafe.Slice(v, n))
	}
	return 0
}

func slowPop(list unsafe.Pointer, status uint32) (v uint64, ok bool) {
	l := (*FreeList)(list)
	if again, _ := l.again(status, false); again {
		return tramp.Pop(list, 0)
	}
	n := l.popShared(unsafe.Slice(&v, 1))
	return v, n == 1
}

func slowPopBatch(list unsafe.Pointer, v *uint64, n int, status uint32) int {
	l := (*FreeList)(list)
	if again, _ := l.again(status, false); again {
		return tramp.PopBatch(list, v, n, 0)
	}
	return l.popShared(unsafe.Slice(v, n))
}

// pushShared pushes on the goroutine's shared list while there is room.
func (l *FreeList) pushShared(handles []uint64) int {
	s := l.shared.own()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := max(min(len(handles), int(l.sharedPerOne.Load())-len(s.handles)), 0)
	s.handles = append(s.handles, handles[:n]...)
	l.sharedCount.Add(int64(n))
	return n
}

// popShared pops from the goroutine's shared list, or else from another.
func (l *FreeList) popShared(handles []uint64) int {
	if l.sharedCount.Load() == 0 {
		return 0
	}
	for s := range l.shared.all() {
		s.mu.Lock()
		n := min(len(handles), len(s.handles))
		for i := range n {
			handles[i] = s.handles[len(s.handles)-1-i]
		}
		s.handles = s.handles[:len(s.handles)-n]
		l.sharedCount.Add(int64(-n))
		s.mu.Unlock()
		if n > 0 {
			return n
		}
	}
	return 0
}
