//go:build linux

//lint:file-ignore SA2001 what is tested is whether somebody can have the lock.

package percpu

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/testutil"
)

// newOpen returns a lock that is open, as if there were so many indexes; without any it
// is never.
func newOpen(x rseq.Index, cpus int) *RWMutex {
	l := new(RWMutex)
	if cpus > 0 {
		l.readers.Store(newReaders(new(arena), x, cpus))
		openAgain(l)
	}
	return l
}

// openAgain opens a lock however little it was read, unless a writer has it or waits. The
// caller is a reader, or nobody uses it.
func openAgain(l *RWMutex) {
	if r := l.readers.Load(); r != nil && l.w.TryLock() {
		if r.ordinary() {
			r.reopen(now())
		}
		l.w.Unlock()
	}
}

// eachLock runs test with a lock in each state that it may begin in.
func eachLock(t *testing.T, test func(t *testing.T, l *RWMutex)) {
	t.Run("ordinary", func(t *testing.T) {
		t.Log("sections:", rseq.CriticalSections(rseq.ByCPU)) // if they run here they look at the lock
		test(t, newOpen(rseq.ByCPU, 0))
	})
	for _, x := range []rseq.Index{rseq.ByCPU, rseq.ByConcurrencyID} {
		t.Run(x.String(), func(t *testing.T) {
			testutil.NeedSections(t, x)
			test(t, newOpen(x, rseq.PossibleCPUs()))
		})
		t.Run(x.String()+", one of the CPUs", func(t *testing.T) {
			testutil.NeedSections(t, x)
			test(t, newOpen(x, 1))
		})
	}
}

// TestRWMutexParallel: readers are in together, and another can come, but no writer.
func TestRWMutexParallel(t *testing.T) {
	eachLock(t, func(t *testing.T, l *RWMutex) {
		var in, out sync.WaitGroup
		leave := make(chan bool)
		const n = 5
		in.Add(n)
		for range n {
			out.Go(func() { l.RLock(); in.Done(); <-leave; l.RUnlock() })
		}
		in.Wait()
		if l.TryLock() {
			t.Fatal("a writer is in beside readers")
		}
		if !l.TryRLock() {
			t.Fatal("no reader can come")
		}
		l.RUnlock()
		close(leave)
		out.Wait()
		if !l.TryLock() {
			t.Fatal("the lock is free, but no writer can come")
		}
		l.Unlock()
	})
}

// TestRWMutexTry: TryLock and TryRLock do what they can at once.
func TestRWMutexTry(t *testing.T) {
	eachLock(t, func(t *testing.T, l *RWMutex) {
		try := func(read, write bool) {
			t.Helper()
			if got := l.TryRLock(); got != read {
				t.Errorf("TryRLock: %v, want %v", got, read)
			} else if got {
				l.RUnlock()
			}
			if got := l.TryLock(); got != write {
				t.Errorf("TryLock: %v, want %v", got, write)
			} else if got {
				if l.TryLock() || l.TryRLock() {
					t.Error("somebody is in beside a writer")
				}
				l.Unlock()
			}
		}
		for range 3 {
			try(true, true)
			l.RLock()
			openAgain(l) // now the reader is in rw, and leaves by the words
			try(true, false)
			l.RLock()
			try(true, false)
			l.RUnlock()
			try(true, false)
			l.RUnlock()
			try(true, true)
			l.Lock()
			try(false, false)
			l.Unlock()
			l.RLock()
			openAgain(l)
			l.RUnlock()
			try(true, true)
		}
		r := l.readers.Load()
		if r == nil {
			return
		}
		// A reader comes in by a section just before the fence. The lock stays open.
		// It finds its way to rest, or makes up for one that is in rw.
		for _, inRW := range []bool{false, true} {
			if inRW {
				l.RLock()
			}
			openAgain(l)
			if inRW {
				l.RUnlock()
			}
			fence = func(x rseq.Index, i int) error {
				atomic.AddInt64(r.word(0, 1), 1)
				return rseq.Index.Fence(x, i)
			}
			got := l.TryLock()
			fence = rseq.Index.Fence
			if got || !r.open() {
				t.Fatalf("TryLock: %v, state %d", got, r.state.Load())
			}
			try(true, false)
			l.RUnlock()
			try(true, true)
		}
	})
}

// TestRLocker: it is for readers.
func TestRLocker(t *testing.T) {
	eachLock(t, func(t *testing.T, l *RWMutex) {
		r := l.RLocker()
		r.Lock()
		r.Lock()
		if l.TryLock() {
			t.Error("a writer is in beside readers")
		}
		r.Unlock()
		r.Unlock()
		if !l.TryLock() {
			t.Error("the lock is free, but no writer can come")
		}
	})
}

// waiting returns when a writer waits for l, or has it.
func waiting(t *testing.T, l *RWMutex) {
	for begin := time.Now(); ; runtime.Gosched() {
		if !l.TryRLock() {
			return
		}
		l.RUnlock()
		if time.Since(begin) > testutil.Patience() {
			t.Fatal("no writer comes")
		}
	}
}

// TestRWMutexTurns: a writer that waits keeps new readers out, and the readers that waited
// come in before the next writer.
func TestRWMutexTurns(t *testing.T) {
	eachLock(t, func(t *testing.T, l *RWMutex) {
		const n = 5
		// Whether a reader waits already cannot be seen, so it is tried until all did.
		for begin, turns := time.Now(), false; !turns; {
			var wg, come sync.WaitGroup
			var order atomic.Int64
			var readers [n]int64
			l.RLock()
			openAgain(l)
			first, next := make(chan int64), make(chan int64)
			go func() { l.Lock(); first <- order.Add(1) }()
			waiting(t, l)
			come.Add(n)
			for i := range n {
				wg.Go(func() { come.Done(); l.RLock(); readers[i] = order.Add(1); l.RUnlock() })
			}
			come.Wait()
			go func() { l.Lock(); v := order.Add(1); l.Unlock(); next <- v }()
			for range 100 {
				testutil.Yield()
			}
			if got := order.Load(); got != 0 {
				t.Fatalf("%d came in before the reader left", got)
			}
			l.RUnlock()
			if got := <-first; got != 1 {
				t.Fatalf("the writer that waited came in as number %d", got)
			}
			for range 100 {
				testutil.Yield()
			}
			l.Unlock()
			turns = <-next == 2+n
			wg.Wait()
			for _, got := range readers {
				if got < 2 {
					t.Fatalf("a reader came in as number %d", got)
				}
			}
			if time.Since(begin) > testutil.Patience() {
				t.Fatal("the next writer never came in behind all readers that waited")
			}
		}
	})
}

// TestRWMutexNotOpened: a reader does not open a lock that a writer waits for: its RUnlock
// would be counted where that writer does not look.
func TestRWMutexNotOpened(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	l := newOpen(rseq.ByCPU, rseq.PossibleCPUs())
	l.Lock()
	l.Unlock()
	defer canFence.Store(canFence.Swap(true))
	l.RLock()
	done := make(chan bool)
	go func() { l.Lock(); l.Unlock(); close(done) }()
	waiting(t, l)
	l.readers.Load().until = 0
	l.open()
	if l.readers.Load().open() {
		t.Error("open, with a writer that waits")
	}
	l.RUnlock()
	<-done
	// Without one it does.
	l.RLock()
	l.readers.Load().until = 0
	l.open()
	if !l.readers.Load().open() {
		t.Error("not open")
	}
	l.RUnlock()
	l.Lock()
}

// TestStormRWMutex: no reader sees what a writer has half done, and no writer another's,
// wherever readers unlock.
func TestStormRWMutex(t *testing.T) {
	storms(t, func(t *testing.T, x rseq.Index, cpus, threads, rounds int) (func(*testutil.Storm), func()) {
		l := newOpen(x, cpus)
		var data [2]int
		var writes atomic.Int64
		work := func(s *testutil.Storm) {
			for round := range s.Rounds {
				switch {
				case round%16 == 0:
					if round%32 == 0 {
						l.Lock()
					} else if !l.TryLock() {
						continue
					}
					data[0]++
					s.Pass()
					data[1]++
					writes.Add(1)
					l.Unlock()
				default:
					l.RLock()
					first := data[0]
					s.Pass()
					if second := data[1]; first != second {
						s.Errorf("a reader saw %d and %d", first, second)
					}
					if round%4 == 1 {
						openAgain(l)
					}
					if round%16 == 9 {
						done := make(chan bool)
						go func() { l.RUnlock(); close(done) }()
						<-done
					} else {
						l.RUnlock()
					}
				}
			}
		}
		return work, func() {
			if !l.TryLock() {
				t.Fatal("the lock is not free in the end")
			}
			if n := int(writes.Load()); data != [2]int{n, n} || n == 0 {
				t.Errorf("%d writes counted as %d", n, data)
			}
		}
	})
}

// TestRWMutexMany is TestStormRWMutex in fine weather, for many read locks, while
// GOMAXPROCS changes.
func TestRWMutexMany(t *testing.T) {
	eachLock(t, func(t *testing.T, l *RWMutex) {
		reads := testutil.Repeat(100_000_000)
		if testutil.Long() {
			reads *= 10
		}
		if testing.Short() || racing || strings.Contains(t.Name(), "one_of") {
			reads /= 100
		}
		if strings.Contains(t.Name(), "ordinary") {
			reads /= 10
		}
		var data [2]int
		var stop atomic.Bool
		var readers, writers sync.WaitGroup
		const n = 16
		for range n {
			readers.Go(func() {
				for i := range reads / n {
					l.RLock()
					if data[0] != data[1] {
						t.Error("torn")
					}
					if i%1000 == 0 {
						openAgain(l)
					}
					l.RUnlock()
				}
			})
		}
		written := 0
		for range 2 {
			writers.Go(func() {
				for more := true; more; testutil.Yield() {
					more = !stop.Load()
					l.Lock()
					data[0]++
					data[1]++
					written++
					l.Unlock()
				}
			})
		}
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
		writers.Go(func() {
			for i := 0; !stop.Load(); i++ {
				runtime.GOMAXPROCS(1 + i%5)
				time.Sleep(time.Millisecond)
			}
		})
		readers.Wait()
		stop.Store(true)
		writers.Wait()
		if data[0] != written || data[1] != written || written == 0 {
			t.Errorf("%d writes counted as %d", written, data)
		}
		t.Logf("%d read locks, %d write locks", reads, written)
	})
}

// TestRWMutexStarvation: beside 63 readers that never pause two writers come in time and
// again, and beside them each reader.
func TestRWMutexStarvation(t *testing.T) {
	eachLock(t, func(t *testing.T, l *RWMutex) {
		const readers, writers = 63, 2
		times := testutil.Repeat(200)
		if testing.Short() || racing {
			times /= 20
		}
		var done atomic.Int64
		var wg sync.WaitGroup
		lives := func(turn func(i int)) {
			wg.Go(func() {
				for i := 0; done.Load() < readers+writers; i++ {
					if turn(i); i == times {
						done.Add(1)
					}
				}
			})
		}
		for range readers {
			lives(func(i int) {
				l.RLock()
				if i%16 == 0 {
					openAgain(l)
				}
				l.RUnlock()
			})
		}
		for range writers {
			lives(func(int) { l.Lock(); l.Unlock() })
		}
		wg.Wait() // or the test ends as one that hangs
	})
}

// TestRWMutexMixed: threads with and without an area share a lock, and each may undo what
// another did.
func TestRWMutexMixed(t *testing.T) {
	eachOption(t, func(t *testing.T, x rseq.Index, _ ...Option) {
		l := newOpen(x, rseq.PossibleCPUs())
		var data [2]int
		var wg sync.WaitGroup
		held := make(chan bool, 16)
		for n := range 8 {
			wg.Go(func() {
				runtime.LockOSThread() // and never unlocked
				if n%2 == 0 {
					testutil.Unregister(t)
				}
				for i := range 2000 {
					switch {
					case n >= 6:
						l.Lock()
						data[0]++
						data[1]++
						l.Unlock()
						testutil.Yield()
					case i%2 == 0: // somebody else unlocks
						l.RLock()
						held <- true
					default:
						if data[0] != data[1] {
							t.Error("torn")
						}
						<-held
						openAgain(l)
						l.RUnlock()
					}
				}
			})
		}
		wg.Wait()
		if !l.TryLock() || data != [2]int{4000, 4000} {
			t.Errorf("not free in the end, or %d", data)
		}
	})
}

// TestRWMutexFenceFails: where a fence fails that worked before, a writer waits for the
// sections in another way, and no lock is opened until one works again.
func TestRWMutexFenceFails(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	defer func(before func(rseq.Index, int) error) { fence = before }(fence)
	defer canFence.Store(canFence.Swap(true))
	fenceAgain.Store(int64(now() + time.Hour))
	defer fenceAgain.Store(0)
	fence = func(rseq.Index, int) error { return errors.New("refused by the test") }
	if inject := testutil.Inject(); inject != nil { // sections take long
		inject[4] = 20000
		defer func() { inject[4] = 0 }()
	}
	l := newOpen(rseq.ByCPU, rseq.PossibleCPUs())
	var data [2]int
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !stop.Load() {
				l.RLock()
				if data[0] != data[1] {
					t.Error("torn")
				}
				openAgain(l)
				l.RUnlock()
			}
		})
	}
	for range 50 {
		for !l.readers.Load().open() {
			runtime.Gosched()
		}
		l.Lock()
		data[0]++
		testutil.Yield()
		data[1]++
		l.Unlock()
	}
	stop.Store(true)
	wg.Wait()
	if canFence.Load() {
		t.Error("a fence is still thought to work")
	}
	l.Lock()
	l.Unlock()
	l.RLock()
	l.readers.Load().until = 0
	l.open()
	if l.readers.Load().open() {
		t.Error("opened, though no fence works")
	}
	l.RUnlock()
}

// TestRWMutexOpens: a lock that is read much opens by itself, and stays ordinary for ever
// longer if that was not worth it.
func TestRWMutexOpens(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	l := new(RWMutex)
	for begin := time.Now(); !l.readers.Load().open(); {
		l.looked.Store(uint32(now() / tick)) // however slow this machine is
		l.RLock()
		l.RUnlock()
		if time.Since(begin) > testutil.Patience() {
			t.Fatal("it was never opened")
		}
	}
	r := l.readers.Load()
	l.Lock()
	l.Unlock()
	l.RLock()
	l.open()
	if paused := now() < r.until; r.open() && paused {
		t.Errorf("opened in its pause of %v", r.pause)
	}
	l.RUnlock()
	before := r.pause
	for range 3 { // it was open for no time at all
		r.reopen(now() + time.Hour)
		l.Lock()
		if l.Unlock(); r.pause < min(2*before, longestPause) {
			t.Errorf("a pause of %v, then %v", before, r.pause)
		}
		before = r.pause
	}
	for begin := time.Now(); r.pause >= longestPause || before != longestPause; { // unless a fence takes long
		before, r.pause = longestPause, longestPause
		r.reopen(now() - time.Hour) // it was open for an hour
		l.Lock()
		if l.Unlock(); time.Since(begin) > testutil.Patience() {
			t.Fatalf("a pause of %v", r.pause)
		}
	}
}

// TestRWMutexMisuse: what sync's lock does not forgive this one does not.
func TestRWMutexMisuse(t *testing.T) {
	misuse := map[string]func(l *RWMutex){
		"Unlock":                      func(l *RWMutex) { l.Unlock() },
		"RLock, Unlock":               func(l *RWMutex) { l.RLock(); l.Unlock() },
		"RUnlock":                     func(l *RWMutex) { l.RUnlock(); l.Lock() },
		"Lock, RUnlock":               func(l *RWMutex) { l.Lock(); l.RUnlock() },
		"RLock, RUnlock and one more": func(l *RWMutex) { l.RLock(); l.RUnlock(); l.RUnlock(); l.TryLock() },
	}
	if child := os.Getenv("RSEQ_CHILD"); child != "" {
		what, state, _ := strings.Cut(child, "/")
		cpus := 0
		if state == "open" {
			cpus = rseq.PossibleCPUs()
		}
		misuse[what](newOpen(rseq.ByCPU, cpus))
		return
	}
	for what := range misuse {
		for _, state := range []string{"ordinary", "open"} {
			t.Run(what+"/"+state, func(t *testing.T) {
				if state == "open" {
					testutil.NeedSections(t, rseq.ByCPU)
				}
				cmd := exec.Command("/proc/self/exe", "-test.run", "^TestRWMutexMisuse$")
				cmd.Env = append(os.Environ(), "RSEQ_CHILD="+what+"/"+state)
				out, err := cmd.CombinedOutput()
				want := "fatal error: sync: Unlock of unlocked RWMutex"
				if strings.Contains(what, "RUnlock") {
					want = "fatal error: sync: RUnlock of unlocked RWMutex"
				}
				if err == nil || !strings.Contains(string(out), want) {
					t.Errorf("%v, want %s:\n%.1000s", err, want, out)
				}
			})
		}
	}
}

// TestRWMutexOrder: the race detector knows that what one does under the lock is ordered
// with what another does, and finds what is done without.
func TestRWMutexOrder(t *testing.T) {
	child := os.Getenv("RSEQ_CHILD")
	if child == "" && racing {
		for _, state := range []string{"ordinary", "cpu_id"} {
			cmd := exec.Command("/proc/self/exe", "-test.run", "^TestRWMutexOrder$/^"+state+"$")
			cmd.Env = append(os.Environ(), "RSEQ_CHILD=1")
			if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "WARNING: DATA RACE") {
				t.Errorf("%s: writes by readers: %v, want a data race:\n%.1000s", state, err, out)
			}
		}
	}
	eachLock(t, func(t *testing.T, l *RWMutex) {
		var data, unlocked int
		var wg sync.WaitGroup
		// A writer, a reader by a section, the writer again, in turns that order nothing.
		turn := [2]chan bool{make(chan bool, 1), make(chan bool, 1)}
		pass := func(c chan<- bool) { disable(); c <- true; enable() }
		take := func(c <-chan bool) { disable(); <-c; enable() }
		wg.Go(func() {
			for range 5 {
				l.Lock()
				data++
				l.Unlock()
				openAgain(l)
				pass(turn[0])
				take(turn[1])
			}
		})
		wg.Go(func() {
			for n := range 5 {
				take(turn[0])
				l.RLock()
				if data != n+1 {
					t.Error(data)
				}
				l.RUnlock()
				pass(turn[1])
			}
		})
		wg.Wait()
		for i := range 4 {
			wg.Go(func() {
				for n := range 200 {
					if child == "" && (i+n)%4 == 0 {
						l.Lock()
						data++
						l.Unlock()
						continue
					}
					l.RLock()
					if data < 0 {
						t.Error(data)
					}
					if child == "" && n%16 == 0 {
						openAgain(l)
					}
					if child != "" {
						unlocked++ // readers do, which nothing orders
					}
					l.RUnlock()
				}
			})
		}
		wg.Wait()
	})
}

// TestRWMutexSize: there may be millions.
func TestRWMutexSize(t *testing.T) {
	if n := unsafe.Sizeof(RWMutex{}); n > 48 {
		t.Errorf("%d bytes", n)
	}
}

// BenchmarkRWMutex: what a lock costs in each state, and the fence beside it.
func BenchmarkRWMutex(b *testing.B) {
	testutil.NeedSections(b, rseq.ByCPU)
	l := newOpen(rseq.ByCPU, rseq.PossibleCPUs())
	b.Run("read, open", func(b *testing.B) {
		for b.Loop() {
			l.RLock()
			l.RUnlock()
		}
	})
	b.Run("write, open", func(b *testing.B) {
		for b.Loop() {
			l.Lock()
			l.Unlock()
			l.readers.Load().reopen(0)
		}
	})
	b.Run("fence", func(b *testing.B) {
		for b.Loop() {
			if err := rseq.ByCPU.Fence(-1); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("write, ordinary", func(b *testing.B) {
		for b.Loop() {
			l.Lock()
			l.Unlock()
		}
	})
}
