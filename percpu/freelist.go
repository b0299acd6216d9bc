package percpu

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/section"
)

// FreeList is a bounded stack of handles for each CPU. A handle is any 64-bit number: an
// index, an offset, or an address of memory that is not Go's. It keeps nothing alive; for Go
// values there is [Pool]. Make one by [NewFreeList]; it must not be copied.
//
// Push and Pop work on the list of the CPU that the goroutine runs on. Handles that are
// popped on one CPU and pushed on another one collect there. A goroutine that finds its list
// full or empty may use another place, as [Pool] does, or [FreeList.Drain] the other lists.
//
// A list takes 144 bytes, and 8 for each handle that it has room for, from when its CPU first
// pushes. The lists together take 8 bytes for each possible CPU.
type FreeList struct {
	blocks unsafe.Pointer // first: internal/abi; the *block of each index
	cpus   int            // the number of lists, if they are by CPU; else zero
	perCPU atomic.Int64   // room in each list, the shared ones too
	ids    int            // the number of lists, if they are by concurrency id; else zero
	n      int            // the number of lists: the sum of both
	index  rseq.Index

	// mu guards block replacement. Sections load the pointer to their block on every attempt,
	// so after a swap and a fence nobody else uses the old block.
	mu sync.Mutex

	raceKeys keys
	shared   stripes[shared] // the lists of operations that do without sections
}

// block is a CPU's list. It is followed by cap words. Only sections write to it until it is
// replaced: internal/abi.
type block struct{ count, cap int64 }

// none stands for a block that was not made: it is empty and full. Nothing is written to its
// cache lines.
var none = &new(struct {
	_ [128]byte
	block
	_ [128]byte
}).block

func newBlock(room int) *block {
	// Two CPUs' blocks are on different cache lines.
	const line = 128
	words := make([]uint64, int(unsafe.Sizeof(block{}))/8+room+line/8)
	p := unsafe.Pointer(unsafe.SliceData(words))
	b := (*block)(unsafe.Add(p, -uintptr(p)%line))
	b.cap = int64(room)
	return b
}

// handles returns the handles in the block, in the order in which they were pushed.
func (b *block) handles() []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Add(unsafe.Pointer(b), unsafe.Sizeof(*b))), b.count)
}

type shared struct {
	mu      sync.Mutex
	handles []uint64
	n       atomic.Int64 // len(handles)
}

// batch is the largest number of handles that one section moves. A section that takes longer
// than a time slice of the scheduler never ends.
const batch = 256

// NewFreeList returns empty lists with room for perCPU handles each. It panics if perCPU is
// below one or above the package's limits. Without sections there is a shared list for each
// CPU or, where reading the CPU's number takes long, [runtime.GOMAXPROCS] of them, up to 64.
// Each has the same room.
func NewFreeList(perCPU int, options ...Option) *FreeList {
	if err := checkRoom(perCPU); err != nil {
		panic(fmt.Sprint("percpu.NewFreeList: ", err))
	}
	index, cpus := indexes(options)
	if cpus > 0 && !canFence.Load() {
		if fence(index, -1) != nil {
			cpus = 0 // no CPU's list could be drained
		} else {
			canFence.Store(true)
		}
	}
	return newFreeList(perCPU, index, cpus)
}

// checkRoom returns an error if no list can have room for perCPU handles.
func checkRoom(perCPU int) error {
	if limit := sizeLimit(8); perCPU < 1 || perCPU > limit {
		return fmt.Errorf("room for %d handles per CPU: expected at least 1 and at most %d", perCPU, limit)
	}
	return nil
}

var canFence atomic.Bool

func newFreeList(perCPU int, index rseq.Index, cpus int) *FreeList {
	l := &FreeList{n: cpus, index: index}
	l.cpus, l.ids = split(index, cpus)
	l.perCPU.Store(int64(perCPU))
	blocks := make([]*block, cpus)
	for i := range blocks {
		blocks[i] = none
	}
	l.blocks = unsafe.Pointer(unsafe.SliceData(blocks))
	return l
}

// Push pushes a handle onto the list of the CPU that the goroutine runs on, or returns false
// if there is no room. It may wait for a Drain or Resize.
func (l *FreeList) Push(handle uint64) bool {
	if racing {
		release(l.raceKeys.of(handle))
	}
	return section.Push(unsafe.Pointer(l), handle, slowPush, 0)
}

// Pop removes the handle that was pushed last from the list of the CPU that the goroutine
// runs on. If that list is empty it removes one that was pushed without sections. It returns
// false if there is none of these either.
func (l *FreeList) Pop() (handle uint64, ok bool) {
	handle, ok = section.Pop(unsafe.Pointer(l), slowPop, 0)
	if racing && ok {
		acquire(l.raceKeys.of(handle))
	}
	return handle, ok
}

// PushBatch pushes handles in their order, while there is room, and returns how many.
// Up to 256 go on the same list at once.
func (l *FreeList) PushBatch(handles []uint64) (n int) {
	if racing {
		for _, h := range handles {
			release(l.raceKeys.of(h))
		}
	}
	for n < len(handles) {
		some := section.PushBatch(unsafe.Pointer(l), &handles[n], min(len(handles)-n, batch), slowPushBatch, 0)
		if some == 0 {
			break
		}
		n += some
	}
	return n
}

// PopBatch pops handles into the slice until it is full or no handle is left, and returns their
// number. Up to 256 come off the same list at once. The rest of the slice may have been written
// to.
func (l *FreeList) PopBatch(handles []uint64) (n int) {
	for n < len(handles) {
		some := section.PopBatch(unsafe.Pointer(l), &handles[n], min(len(handles)-n, batch), slowPopBatch, 0)
		if some == 0 {
			break
		}
		n += some
	}
	l.acquired(handles[:n])
	return n
}

// Lists returns the number of lists: one for each possible CPU or concurrency id, and a last
// one for all handles that were pushed without sections.
func (l *FreeList) Lists() int { return l.n + 1 }

// Len returns the number of handles on the lists. Handles that are pushed or popped meanwhile
// may be counted or not.
func (l *FreeList) Len() (n int) {
	for i := range l.n {
		n += int(atomic.LoadInt64(&(*block)(atomic.LoadPointer(l.entry(i))).count))
	}
	lists := l.shared.all()
	for i := range lists.n() {
		if s := lists.at(i); s != nil {
			n += int(s.n.Load())
		}
	}
	return n
}

// Drain removes all handles from list i, which is below [FreeList.Lists]. It works on any CPU's
// list, also on that of a CPU that this process may not use any more, while other goroutines
// push and pop. For some microseconds Pop may find the list empty. If the error of
// [rseq.Index.Fence] is returned nothing has changed.
func (l *FreeList) Drain(i int) ([]uint64, error) {
	if i < 0 || i > l.n {
		return nil, fmt.Errorf("percpu: drain list %d: expected 0 to %d", i, l.n)
	}
	return l.drain(i, i+1)
}

// DrainAll is Drain of all lists.
func (l *FreeList) DrainAll() ([]uint64, error) { return l.drain(0, l.n+1) }

// Resize makes room for perCPU handles on each list, within the limits of [NewFreeList]. It
// returns the handles that no longer have room, which are those that were pushed first. Other
// goroutines push and pop meanwhile, as during a Drain. After an error the lists are as they
// were.
func (l *FreeList) Resize(perCPU int) (surplus []uint64, err error) {
	if err := checkRoom(perCPU); err != nil {
		return nil, fmt.Errorf("percpu: resize: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// What may fail is done first. While mu is held no CPU gets a block.
	made := l.made(0, l.n, 0)
	fresh := make([]*block, len(made))
	for n := range fresh {
		fresh[n] = newBlock(perCPU)
	}
	taken, err := l.take(made)
	if err != nil {
		return nil, err
	}
	l.perCPU.Store(int64(perCPU))
	for n, old := range taken {
		handles := old.handles()
		over := max(len(handles)-perCPU, 0)
		surplus = append(surplus, handles[:over]...)
		b := fresh[n]
		b.count = int64(len(handles) - over)
		copy(b.handles(), handles[over:])
		atomic.StorePointer(l.entry(made[n]), unsafe.Pointer(b))
	}
	lists := l.shared.all()
	for i := range lists.n() {
		s := lists.at(i)
		if s == nil {
			continue
		}
		s.mu.Lock()
		over := max(len(s.handles)-perCPU, 0)
		surplus = append(surplus, s.handles[:over]...)
		s.handles = append([]uint64(nil), s.handles[over:]...)
		s.n.Store(int64(len(s.handles)))
		s.mu.Unlock()
	}
	l.acquired(surplus)
	return surplus, nil
}

// drain removes all handles from the lists from first up to end.
func (l *FreeList) drain(first, end int) (handles []uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	filled := l.made(first, min(end, l.n), 1)
	taken, err := l.take(filled)
	if err != nil {
		return nil, err
	}
	for n, b := range taken {
		handles = append(handles, b.handles()...)
		atomic.StoreInt64(&b.count, 0)
		atomic.StorePointer(l.entry(filled[n]), unsafe.Pointer(b))
	}
	if end > l.n {
		lists := l.shared.all()
		for i := range lists.n() {
			s := lists.at(i)
			if s == nil {
				continue
			}
			s.mu.Lock()
			handles = append(handles, s.handles...)
			s.handles = s.handles[:0]
			s.n.Store(0)
			s.mu.Unlock()
		}
	}
	l.acquired(handles)
	return handles, nil
}

func (l *FreeList) acquired(handles []uint64) {
	if racing {
		for _, h := range handles {
			acquire(l.raceKeys.of(h))
		}
	}
}

// made returns the indexes from first up to end that have a block with at least so many
// handles. mu is held, so that no block is made or replaced.
func (l *FreeList) made(first, end int, least int64) (indexes []int) {
	for i := first; i < end; i++ {
		if b := (*block)(atomic.LoadPointer(l.entry(i))); b != none && atomic.LoadInt64(&b.count) >= least {
			indexes = append(indexes, i)
		}
	}
	return indexes
}

// take replaces the blocks of these indexes by none, and returns them when no section uses them
// any more. mu is held, so that no CPU gets another block meanwhile. If the fence fails the
// blocks are put back, which is safe since each is used by the sections of one index only.
func (l *FreeList) take(indexes []int) ([]*block, error) {
	taken := make([]*block, len(indexes))
	for n, i := range indexes {
		taken[n] = (*block)(atomic.SwapPointer(l.entry(i), unsafe.Pointer(none)))
	}
	var err error
	switch len(indexes) {
	case 0:
	case 1:
		err = fence(l.index, indexes[0])
	default:
		err = fence(l.index, -1)
	}
	if err != nil {
		for n, b := range taken {
			atomic.StorePointer(l.entry(indexes[n]), unsafe.Pointer(b))
		}
	}
	return taken, err
}

// fence is a variable for tests.
var fence = rseq.Index.Fence

// outlast waits until no section is under way that began before, and what was done before
// on every CPU is visible.
func outlast(index rseq.Index) {
	if fence(index, -1) != nil {
		// A goroutine in a section is at no safe point. A whole collection finds each at one.
		canFence.Store(false)
		runtime.GC()
	}
}

// room returns the number of handles that each list has room for.
func (l *FreeList) room() int { return int(l.perCPU.Load()) }

// entry returns where the block of an index is published.
func (l *FreeList) entry(i int) *unsafe.Pointer {
	return (*unsafe.Pointer)(unsafe.Add(l.blocks, uintptr(i)*unsafe.Sizeof(l.blocks)))
}

// grow makes a block for the CPU that the goroutine runs on, if it has none, and reports whether
// there is room in the block.
func (l *FreeList) grow() bool {
	i, err := l.index.Current()
	if err != nil || i >= l.n {
		return false
	}
	if b := (*block)(atomic.LoadPointer(l.entry(i))); b != none {
		return atomic.LoadInt64(&b.count) < b.cap // it was being drained
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if atomic.LoadPointer(l.entry(i)) == unsafe.Pointer(none) {
		atomic.StorePointer(l.entry(i), unsafe.Pointer(newBlock(l.room())))
	}
	return true
}

// again reports whether a section that did not push or pop may be tried again or, if not,
// whether the shared lists are to be used.
func (l *FreeList) again(gate *section.Gate, status uint32, push bool) (again, portable bool) {
	section.Adopt(gate)
	if rseq.Status(status) == rseq.CompareFailed {
		return push && l.grow(), false
	}
	return l.n > 0 && retry(status, l.index), true
}

func slowPush(list unsafe.Pointer, v uint64, gate *section.Gate, status uint32) bool {
	l := (*FreeList)(list)
	again, portable := l.again(gate, status, true)
	return again && section.Push(list, v, slowPush, 0) || !again && portable && l.pushShared(unsafe.Slice(&v, 1)) == 1
}

func slowPushBatch(list unsafe.Pointer, v *uint64, n int, gate *section.Gate, status uint32) int {
	l := (*FreeList)(list)
	again, portable := l.again(gate, status, true)
	switch {
	case again:
		return section.PushBatch(list, v, n, slowPushBatch, 0)
	case portable:
		return l.pushShared(unsafe.Slice(v, n))
	}
	return 0
}

func slowPop(list unsafe.Pointer, gate *section.Gate, status uint32) (v uint64, ok bool) {
	l := (*FreeList)(list)
	if again, _ := l.again(gate, status, false); again {
		return section.Pop(list, slowPop, 0)
	}
	n := l.popShared(unsafe.Slice(&v, 1))
	return v, n == 1
}

func slowPopBatch(list unsafe.Pointer, v *uint64, n int, gate *section.Gate, status uint32) int {
	l := (*FreeList)(list)
	if again, _ := l.again(gate, status, false); again {
		return section.PopBatch(list, v, n, slowPopBatch, 0)
	}
	return l.popShared(unsafe.Slice(v, n))
}

// pushShared pushes onto the goroutine's shared list while there is room.
func (l *FreeList) pushShared(handles []uint64) int {
	s := l.shared.own()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := max(min(len(handles), l.room()-len(s.handles)), 0)
	s.handles = append(s.handles, handles[:n]...)
	s.n.Store(int64(len(s.handles)))
	return n
}

// popShared pops from the goroutine's shared list or, if that is empty, from another one. It
// uses no closure, which might escape together with handles, which may be on the caller's stack:
// see PopBatch in internal/section.
func (l *FreeList) popShared(handles []uint64) int {
	lists := l.shared.all()
	n := lists.n()
	if n == 0 {
		return 0
	}
	own := max(lists.own(), 0)
	for i := range n {
		s := lists.at((own + i) % n)
		if s == nil || s.n.Load() == 0 {
			continue
		}
		s.mu.Lock()
		n := min(len(handles), len(s.handles))
		left := len(s.handles) - n
		for i := range n {
			handles[i] = s.handles[left+n-1-i]
		}
		s.handles = s.handles[:left]
		s.n.Store(int64(left))
		s.mu.Unlock()
		if n > 0 {
			return n
		}
	}
	return 0
}
