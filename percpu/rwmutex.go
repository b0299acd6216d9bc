package percpu

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/section"
)

// RWMutex is a reader/writer mutual exclusion lock with the methods, the zero value and the
// rules of [sync.RWMutex]. While it is much read and seldom written, RLock and RUnlock add to
// words of the CPU that they run on, so readers do not contend.
//
// It is an ordinary lock, a sync.RWMutex, until it is read some hundred times within a
// millisecond, and again for a while after each Lock: then read locks cost a little more than
// those of a sync.RWMutex, and writers cost the same. The first Lock after such a while
// fences all CPUs, [rseq.Index.Fence], some microseconds. How long the lock stays ordinary
// depends on what that took: a lock that is written often stays so nearly all the time. Where
// sections cannot run it is always ordinary. Should a fence fail that worked before, Lock
// runs a garbage collection in its place.
//
// As in sync, an Unlock of a lock that is not locked, or an RUnlock without a reader, is a
// fatal error that cannot be recovered; but an RUnlock without a reader that a section
// does is one in the next Lock, whose caller then shows in the traceback. With other readers
// there it is seen by nobody, also as in sync.
//
// A lock takes 48 bytes; one that was ever read that often takes some 400 more, and 16 for
// each CPU that reads. It must not be copied.
type RWMutex struct {
	readers atomic.Pointer[readers] // first: internal/abi; nil until the lock is first open
	w       sync.Mutex              // for a writer until it has rw, and for who opens the lock
	rw      sync.RWMutex            // the ordinary lock
	reads   uint32                  // how many took it for reading, about
	looked  atomic.Uint32           // when reads was last looked at, in ticks
}

// The protocol. The lock counts its readers in three places: rw's own count, words of each
// CPU, and rest. A read lock may be added in one and taken off in another; the number of
// readers is the sum. A CPU has a word for RLock and one for RUnlock, since adding to one
// word over and over takes longer than adding to two in turn. rw alone can be waited for, so a writer moves all that is in the
// words to rw and rest before it owns the lock.
//
//	state     where readers count
//	ordinary  RLock and RUnlock: rw. The words and rest are zero.
//	open      the words, by sections, and rest on threads that have none.
//	draining  RLock: rw, where a writer waits. RUnlock: rest while that is not zero, then rw.
//
//	ordinary → open      a reader that holds w, so no writer has rw or waits for it, or will
//	                     before it sees the change; by holding rw for reading it knows that no
//	                     writer owns the lock.
//	open → draining      a writer that holds w. It holds fold from before the change until,
//	                     behind a fence of all CPUs, what the words count is in rest. If that
//	                     is negative, rw counts so many readers more than there are: they are
//	                     taken off rw.
//	draining → ordinary  that writer, when it has rw for writing and rest is zero.
//	draining → open      that writer, in a TryLock that found readers.
//
// A writer owns the lock when it has rw for writing and has given back w: then the state is
// ordinary, and stays so, since who opens the lock holds rw for reading. A reader must not
// open it while a writer waits for rw: its RUnlock would not be taken off rw any more.
//
// Why nothing is lost: a section loads the state and adds while the state is open, and the
// fence lets none go on that loaded it before the change; so after the fence the words stay
// as they are, with every add that a section made, and all that readers did before it is
// visible to the writer. An RUnlock that finds the lock not open and not ordinary waits for
// fold, that is for the fence, and then takes itself off rest, or off rw: both are at least
// as many as still come. One that finds it ordinary takes itself off rw, late perhaps: its
// own read lock is in rw, from where no other RUnlock took it, since all others are in rw,
// rest or the words too. When rest becomes zero under fold the writer, which waits for
// that under fold, is woken; for rw sync does the same.
//
// Order: what a writer does happens before a section that finds the lock open again, which
// loads the state with acquire. What a reader does happens before its section's RUnlock,
// in program order, and so before the fence.

// readers is what a lock has that is or was open.
type readers struct {
	gatedWords       // first: internal/abi; RUnlock's, to which sections add -1, and RLock's
	moved      int64 // the readers that the words count but that were moved from there; under w

	// Under the lock's w.
	opened time.Duration // since epoch
	until  time.Duration // until when the lock stays ordinary
	pause  time.Duration // how long it was to stay so

	fold sync.Mutex // for rest and the ways that go there
	gone sync.Cond  // rest became zero
	rest atomic.Int64

	_ [40]byte // whole cache lines, which are only read while the lock is open
}

const (
	ordinary = closed
	draining = 2
)

// When a lock opens: when it was read so many times within some ticks, 1 ms, and paused for
// long enough: ten times what closing it took last, which bounds what writers pay to a tenth
// of the time. If it was open for less than a few times that, it was not worth it, and the
// pause is twice the last one.
const (
	readsPerLook = 256
	tick         = 1 << 16 // ns
	hotTicks     = 16
	pauseTimes   = 10
	worthTimes   = 16
	longestPause = 100 * time.Millisecond // by doubling
)

var epoch = time.Now()

func now() time.Duration { return time.Since(epoch) }

// RLock locks l for reading. As in sync it waits for a writer that waits, so it must not be
// called twice by one goroutine.
func (l *RWMutex) RLock() {
	section.ReadLock(unsafe.Pointer(l), 1, slowRLock)
	if racing {
		acquire(l.unlocked())
	}
}

// TryRLock tries to lock l for reading and reports whether it did.
func (l *RWMutex) TryRLock() bool {
	ok := section.ReadLock(unsafe.Pointer(l), 1, slowTryRLock)
	if racing && ok {
		acquire(l.unlocked())
	}
	return ok
}

// RUnlock undoes one RLock, of whichever goroutine.
func (l *RWMutex) RUnlock() {
	if racing {
		release(l.runlocked())
	}
	section.ReadLock(unsafe.Pointer(l), -1, slowRUnlock)
}

// Lock locks l for writing: it waits until there is no reader and no other writer. New
// readers wait for it meanwhile, and come before the next writer.
func (l *RWMutex) Lock() {
	l.lock()
	if racing {
		acquire(l.unlocked())
		acquire(l.runlocked())
	}
}

// TryLock tries to lock l for writing and reports whether it did.
func (l *RWMutex) TryLock() bool {
	ok := l.tryLock()
	if racing && ok {
		acquire(l.unlocked())
		acquire(l.runlocked())
	}
	return ok
}

// Unlock unlocks l for writing, whichever goroutine locked it.
func (l *RWMutex) Unlock() {
	if racing {
		release(l.unlocked())
	}
	l.rw.Unlock()
}

// RLocker returns a [sync.Locker] whose Lock and Unlock are l's RLock and RUnlock.
func (l *RWMutex) RLocker() sync.Locker { return (*rlocker)(l) }

type rlocker RWMutex

func (r *rlocker) Lock()   { (*RWMutex)(r).RLock() }
func (r *rlocker) Unlock() { (*RWMutex)(r).RUnlock() }

// unlocked and runlocked are keys for the race detector, at which nothing else is.
func (l *RWMutex) unlocked() unsafe.Pointer  { return unsafe.Add(unsafe.Pointer(&l.reads), 1) }
func (l *RWMutex) runlocked() unsafe.Pointer { return unsafe.Add(unsafe.Pointer(&l.reads), 2) }

func (l *RWMutex) lock() {
	l.w.Lock()
	r := l.readers.Load()
	if !r.ordinary() {
		r.close(l)
	}
	l.rw.Lock()
	if !r.ordinary() {
		r.fold.Lock()
		for r.rest.Load() != 0 {
			r.gone.Wait()
		}
		r.state.Store(ordinary)
		r.fold.Unlock()
	}
	l.w.Unlock()
}

func (l *RWMutex) tryLock() bool {
	if !l.w.TryLock() {
		return false // a writer waits, or a reader opens the lock
	}
	defer l.w.Unlock()
	r := l.readers.Load()
	if r.ordinary() {
		return l.rw.TryLock()
	}
	if r.rest.Load()+r.counted() > 0 {
		return false // there are readers, whatever rw says
	}
	r.close(l)
	got := l.rw.TryLock()
	r.fold.Lock()
	defer r.fold.Unlock()
	if got && r.rest.Load() == 0 {
		r.state.Store(ordinary)
		return true
	}
	if got {
		l.rw.Unlock()
	}
	r.reopen(now())
	return false
}

// ordinary reports whether rw alone has all readers.
func (r *readers) ordinary() bool { return r == nil || r.state.Load() == ordinary }

// open reports whether sections count.
func (r *readers) open() bool { return r != nil && r.state.Load() == open }

// close stops the sections and moves the readers that they count to rest and rw. w is held.
func (r *readers) close(l *RWMutex) {
	begin := now()
	r.fold.Lock()
	r.state.Store(draining)
	if fence(r.index(), -1) != nil {
		// Sections that loaded the state before may still add. A goroutine in one is at no
		// safe point, so a whole collection, which finds each at one, outlasts them.
		canFence.Store(false)
		runtime.GC()
	}
	counted := r.counted()
	r.moved += counted
	rest := r.rest.Load() + counted
	for ; rest < 0; rest++ {
		l.rw.RUnlock()
	}
	r.rest.Store(rest)
	r.fold.Unlock()
	end := now()
	took := end - begin
	if r.pause *= 2; begin-r.opened >= worthTimes*took {
		r.pause = 0
	}
	r.pause = max(min(r.pause, longestPause), pauseTimes*took)
	r.until = end + r.pause
}

// counted returns how many readers the words count. w is held.
func (r *readers) counted() int64 { return r.sum(0) + r.sum(1) - r.moved }

// reopen lets sections count. w is held, and no writer has rw.
func (r *readers) reopen(begin time.Duration) {
	r.opened = begin
	r.state.Store(open)
}

// count counts a reader of an ordinary lock and reports whether it is time to look how long
// so many took. It is no atomic operation, of which one more costs as much as the lock: some
// are not counted.
//
//go:norace
func (l *RWMutex) count() bool {
	l.reads++
	return l.reads%readsPerLook == 0
}

// hot reports whether there were many readers of late.
func (l *RWMutex) hot() bool {
	disable() // readers are not ordered by this
	defer enable()
	ticks := uint32(now() / tick)
	return ticks-l.looked.Swap(ticks) <= hotTicks
}

// open opens the lock, unless it must not be now. The caller holds rw for reading.
func (l *RWMutex) open() {
	if !l.w.TryLock() {
		return
	}
	defer l.w.Unlock()
	r := l.readers.Load()
	if r == nil {
		if index, cpus := indexes(nil); cpus > 0 && mayFence() {
			r = newReaders(&arenas[index], index, cpus)
			l.readers.Store(r)
		}
	}
	if begin := now(); r != nil && r.ordinary() && begin >= r.until && mayFence() {
		r.reopen(begin)
	}
}

// newReaders returns what a lock needs to be open, in state ordinary, or nil without memory.
func newReaders(from *arena, index rseq.Index, cpus int) *readers {
	s := from.get(index, cpus, 2)
	if s == noSpan {
		return nil
	}
	r := new(readers)
	r.init(s, 0)
	r.use(cpus)
	r.gone.L = &r.fold
	return r
}

// mayFence reports whether a fence worked in this process. If none did yet one is tried
// in the background, some 20 milliseconds, since it has to register; after a failure again
// after a minute.
func mayFence() bool {
	if canFence.Load() {
		return true
	}
	next, at := fenceAgain.Load(), now()
	if int64(at) >= next && fenceAgain.CompareAndSwap(next, int64(at+time.Minute)) {
		f := fence
		go func() {
			if f(rseq.ByCPU, -1) == nil {
				canFence.Store(true)
			}
		}()
	}
	return false
}

var fenceAgain atomic.Int64

// again reports whether a section of an open lock that did not add may be tried again: it
// is this thread's first.
func (r *readers) again(gate *section.Gate) bool {
	section.Adopt(gate)
	return maySection(r.index()) == nil
}

func slowRLock(lock unsafe.Pointer, _ int64, gate *section.Gate) bool {
	l := (*RWMutex)(lock)
	if r := l.readers.Load(); r.open() {
		if r.again(gate) {
			return section.ReadLock(lock, 1, lastRLock)
		}
		return lastRLock(lock, 1, nil)
	}
	if l.count() && l.hot() {
		l.rw.RLock()
		l.open()
		return true
	}
	l.rw.RLock()
	return true
}

func slowTryRLock(lock unsafe.Pointer, _ int64, gate *section.Gate) bool {
	l := (*RWMutex)(lock)
	if r := l.readers.Load(); r.open() {
		if r.again(gate) {
			return section.ReadLock(lock, 1, lastTryRLock)
		}
		return lastTryRLock(lock, 1, nil)
	}
	hot := l.count() && l.hot()
	if !l.rw.TryRLock() {
		return false
	}
	if hot {
		l.open()
	}
	return true
}

func slowRUnlock(lock unsafe.Pointer, _ int64, gate *section.Gate) bool {
	l := (*RWMutex)(lock)
	r := l.readers.Load()
	if r.ordinary() {
		l.rw.RUnlock()
		return true
	}
	if r.open() && r.again(gate) {
		return section.ReadLock(lock, -1, lastRUnlock)
	}
	return lastRUnlock(lock, -1, nil)
}

// The last ones do without sections. The lock has readers.

func lastRLock(lock unsafe.Pointer, _ int64, _ *section.Gate) bool {
	l := (*RWMutex)(lock)
	if !l.readers.Load().enter() {
		l.rw.RLock()
	}
	return true
}

func lastTryRLock(lock unsafe.Pointer, _ int64, _ *section.Gate) bool {
	l := (*RWMutex)(lock)
	return l.readers.Load().enter() || l.rw.TryRLock()
}

func lastRUnlock(lock unsafe.Pointer, _ int64, _ *section.Gate) bool {
	l := (*RWMutex)(lock)
	if !l.readers.Load().leave() {
		l.rw.RUnlock()
	}
	return true
}

// enter counts a reader of an open lock whose thread has no section in rest, and reports
// whether the lock is open.
func (r *readers) enter() bool {
	disable() // readers are not ordered by this
	defer enable()
	r.fold.Lock()
	defer r.fold.Unlock()
	if r.state.Load() != open {
		return false
	}
	r.rest.Add(1)
	return true
}

// leave takes a reader off rest, and reports whether it did: if not it is in rw.
func (r *readers) leave() bool {
	disable() // readers are not ordered by this
	defer enable()
	r.fold.Lock()
	defer r.fold.Unlock()
	switch {
	case r.state.Load() == open:
		r.rest.Add(-1)
		return true
	case r.rest.Load() == 0:
		return false
	}
	if r.rest.Add(-1) == 0 {
		r.gone.Signal()
	}
	return true
}
