package percpu

import (
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/section"
)

// RWMutex is a reader/writer mutual exclusion lock with the methods, the zero value and the
// rules of [sync.RWMutex]. While it is read often and written seldom, RLock and RUnlock add to
// words of the CPU that they run on, so readers do not contend.
//
// The lock is an ordinary one, a sync.RWMutex, until it is read some hundred times within a
// millisecond. Then it is open: readers use the words. The next Lock makes it ordinary again,
// which takes a fence of all CPUs, [rseq.Index.Fence], some microseconds. For how long it then
// stays ordinary depends on what that took, so a lock that is written often is ordinary nearly
// all the time. While it is ordinary a read lock takes a little longer than that of a
// sync.RWMutex, and a write lock as long. Where sections cannot run the lock is always
// ordinary. If a fence fails although one worked before, Lock runs a garbage collection in its
// place.
//
// As in sync, an Unlock of a lock that is not locked and an RUnlock without a reader are fatal
// errors that cannot be recovered. If the lock is open, an RUnlock without a reader becomes
// one in the next Lock, whose caller is then in the traceback. If there are other readers
// nothing notices it, also as in sync.
//
// A lock takes 48 bytes. One that was ever open takes some 270 more, and 16 for each CPU that
// reads. It must not be copied.
type RWMutex struct {
	readers atomic.Pointer[readers] // first: internal/abi; nil until the lock is first open
	w       sync.Mutex              // held by a writer until it has rw, and while the lock is opened
	rw      sync.RWMutex            // the ordinary lock
	reads   uint32                  // about how many read locks the ordinary lock had
	looked  atomic.Uint32           // when reads was last compared with the time, in ticks
}

// The protocol. Readers are counted in three places: rw, the words of each CPU, and rest. A
// reader may be added in one place and taken off in another one; the number of readers is the
// sum. A CPU has a word for RLock and one for RUnlock, since adding to one word again and again
// takes longer than adding to two in turn. A writer can wait for rw and rest only, so it moves
// what the words count there before it owns the lock.
//
//	state     where readers count
//	ordinary  RLock and RUnlock: rw. The words and rest are zero.
//	open      the words, by sections, and rest on threads that have none.
//	draining  RLock: rw, where a writer waits. RUnlock: rest while that is not zero, then rw.
//
//	ordinary → open      a reader that holds w and holds rw for reading. So no writer owns the
//	                     lock, waits for rw, or begins to before it sees the change.
//	open → draining      a writer that holds w. It holds fold from before the change until it
//	                     has fenced all CPUs and added what the words count to rest. If rest
//	                     is negative then, rw counts that many readers too many, and they are
//	                     taken off rw.
//	draining → ordinary  that writer, when it has rw for writing and rest is zero.
//	draining → open      that writer, in a TryLock that found readers.
//
// A writer owns the lock when it has rw for writing and has unlocked w. The state is ordinary
// then, and stays so, since opening the lock takes rw for reading. A reader must not open the
// lock while a writer waits for rw: the reader's RUnlock would not be taken off rw any more.
//
// Why no reader is lost: a section loads the state, and adds only if it is open. After the
// fence no section goes on that loaded the state before the change. So the words do not change
// any more, they have every add that a section made, and all that readers did before is visible
// to the writer. An RUnlock that finds the lock draining waits for fold, and so for the fence.
// Then it is taken off rest, or off rw if rest is zero; both together count at least the readers
// that have not left. An RUnlock that finds the lock ordinary is taken off rw: its reader is
// counted there, and no other RUnlock took it off, since every other reader is counted in rw,
// rest or the words too. An RUnlock that makes rest zero wakes the writer that waits for that;
// sync does the same for rw.
//
// Order: what a writer does happens before a section that finds the lock open again, which
// loads the state with acquire. What a reader does happens before its RUnlock's section, in
// program order, and so before the fence.

// readers is the part of a lock that was ever open.
type readers struct {
	gatedWords       // first: internal/abi; RUnlock's, to which sections add -1, and RLock's
	moved      int64 // the readers that the words count but that were moved from there; under w

	// w guards these.
	opened time.Duration // when the lock was opened, since epoch
	until  time.Duration // the end of the time in which the lock stays ordinary
	pause  time.Duration // the length of that time

	fold sync.Mutex   // guards rest, and the changes of state that move readers there
	gone sync.Cond    // signalled when rest becomes zero
	rest atomic.Int64 // readers without sections, and those that were moved from the words

	_ [40]byte // readers are whole cache lines, which nobody writes to while the lock is open
}

const (
	ordinary = closed
	draining = 2
)

// A lock opens when it was read readsPerLook times within hotTicks, 1 ms, and its pause is over.
// The pause is ten times as long as closing the lock took, so writers spend at most a tenth of
// the time on that. If the lock was open for a short time only, opening it did not pay, and the
// pause is at least twice the last one.
const (
	readsPerLook = 256
	tick         = 1 << 16 // ns
	hotTicks     = 16
	pauseTimes   = 10                     // of what closing took
	worthTimes   = 16                     // of what closing took: opening paid
	longestPause = 100 * time.Millisecond // that doubling leads to
)

var epoch = time.Now()

func now() time.Duration { return time.Since(epoch) }

// RLock locks l for reading. As in sync it waits for a writer that waits, so a goroutine that
// holds a read lock must not call it again.
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

// unlocked and runlocked return keys for the race detector, which nothing else uses.
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

// ordinary reports whether all readers are counted in rw.
func (r *readers) ordinary() bool { return r == nil || r.state.Load() == ordinary }

// open reports whether sections count.
func (r *readers) open() bool { return r != nil && r.state.Load() == open }

// close stops the sections and moves the readers that the words count to rest and rw. w is
// held.
func (r *readers) close(l *RWMutex) {
	begin := now()
	r.fold.Lock()
	r.state.Store(draining)
	outlast(r.index()) // sections that loaded the state before may still add
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

// count counts a reader of an ordinary lock, and reports whether it is time to see how long the
// last ones took. One more atomic operation would take as long as the lock, so it is none, and
// some readers are not counted.
//
//go:norace
func (l *RWMutex) count() bool {
	l.reads++
	return l.reads%readsPerLook == 0
}

// hot reports whether the last readers came in a short time.
func (l *RWMutex) hot() bool {
	disable() // this does not order readers
	defer enable()
	ticks := uint32(now() / tick)
	return ticks-l.looked.Swap(ticks) <= hotTicks
}

// open opens the lock if that is possible now. The caller holds rw for reading.
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

// newReaders returns readers in state ordinary, or nil if there is no memory.
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

// mayFence reports whether a fence worked in this process. If none did yet it tries one in the
// background, which takes some 20 milliseconds since it has to register. After a failure the
// next attempt is a minute later.
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

// again reports whether a section of an open lock that did not add may be tried again: its only
// failure was that the thread had not been set up yet.
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
	l.rw.RLock()
	if l.count() && l.hot() {
		l.open()
	}
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
	if !l.rw.TryRLock() {
		return false
	}
	if l.count() && l.hot() {
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

// lastRLock, lastTryRLock and lastRUnlock do without sections. The lock was ever open.

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

// enter counts a reader that does without a section in rest if the lock is open, and reports
// whether it did.
func (r *readers) enter() bool {
	disable() // this does not order readers
	defer enable()
	r.fold.Lock()
	defer r.fold.Unlock()
	if r.state.Load() != open {
		return false
	}
	r.rest.Add(1)
	return true
}

// leave takes a reader off rest, and reports whether it did. If not the reader is counted in rw.
func (r *readers) leave() bool {
	disable() // this does not order readers
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
