//go:build linux

package percpu

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/testutil"
)

// storms runs test in every storm, and without critical sections: cpus is how many
// indexes there are then, none.
func storms(t *testing.T, prepare func(t *testing.T, x rseq.Index, cpus, threads, rounds int) (work func(*testutil.Storm), check func())) {
	t.Run("sections", func(t *testing.T) {
		testutil.Storms(t, func(t *testing.T, x rseq.Index, threads, rounds int) (func(*testutil.Storm), func()) {
			return prepare(t, x, rseq.PossibleCPUs(), threads, rounds)
		})
	})
	// A process that was moved to a machine with more CPUs than it made words for.
	t.Run("one of the CPUs", func(t *testing.T) {
		testutil.Storms(t, func(t *testing.T, x rseq.Index, threads, rounds int) (func(*testutil.Storm), func()) {
			return prepare(t, x, 1, threads, rounds)
		})
	})
	t.Run("portable", func(t *testing.T) {
		threads, rounds := 4*runtime.NumCPU(), testutil.Repeat(2000)
		work, check := prepare(t, rseq.ByCPU, 0, threads, rounds)
		var wg sync.WaitGroup
		for range threads {
			wg.Go(func() { work(&testutil.Storm{T: t, Rounds: rounds}) })
		}
		wg.Wait()
		check()
	})
}

// TestStormCounters: every Add is counted once, by one of the Resets or in the end.
func TestStormCounters(t *testing.T) {
	storms(t, func(t *testing.T, x rseq.Index, cpus, threads, rounds int) (func(*testutil.Storm), func()) {
		const n = 3
		list := Counters{list: makeCounters(new(arena), n, x, cpus)}
		var resets [n]atomic.Int64
		work := func(s *testutil.Storm) {
			for round := range s.Rounds {
				s.Pass()
				for i := range n {
					list.Add(i, int64(i+1))
				}
				switch round % 64 {
				case 0:
					resets[round/64%n].Add(list.At(round / 64 % n).Reset())
				case 1:
					if list.At(2).Value() < 0 {
						s.Error("a sum of what is positive is negative")
					}
				}
			}
		}
		return work, func() {
			for i := range n {
				want := int64(threads * rounds * (i + 1))
				if got := resets[i].Load() + list.At(i).Value(); got != want {
					t.Errorf("counter %d: %d, want %d: %d lost", i, got, want, want-got)
				}
			}
		}
	})
}

// population is handles that are each in one place: with a thread, or on a list.
type population struct {
	*testing.T
	with []atomic.Bool // a thread has it
}

func newPopulation(t *testing.T, n int) *population { return &population{t, make([]atomic.Bool, n)} }

// take and give say that a thread has it now, and no more.
func (p *population) take(handles ...uint64) {
	for _, h := range handles {
		if h >= uint64(len(p.with)) {
			p.Errorf("handle %#x was never pushed", h)
		} else if p.with[h].Swap(true) {
			p.Errorf("handle %d is in two places", h)
		}
	}
}

func (p *population) give(handles ...uint64) {
	for _, h := range handles {
		p.with[h].Store(false)
	}
}

// all checks that what is left, with what threads have, is all.
func (p *population) all(left []uint64) {
	p.take(left...)
	for h := range p.with {
		if !p.with[h].Load() {
			p.Errorf("handle %d is lost", h)
		}
	}
}

// live is what a thread of these tests does: it pops some and pushes them back, or
// keeps them for a while, as it does with what has no room. It returns how many
// handles it moved.
func (p *population) live(l *FreeList, held *[]uint64, round int) (moved int) {
	var some [5]uint64
	if round%4 == 0 {
		n := l.PopBatch(some[:])
		p.take(some[:n]...)
		*held = append(*held, some[:n]...)
		moved += n
	} else if h, ok := l.Pop(); ok {
		p.take(h)
		*held = append(*held, h)
		moved++
	}
	if round%8 == 3 {
		return moved
	}
	if round%4 == 1 {
		p.give(*held...)
		n := l.PushBatch(*held)
		p.take((*held)[n:]...)
		*held = slices.Delete(*held, 0, n)
		return moved + n
	}
	for len(*held) > 0 {
		h := (*held)[len(*held)-1]
		p.give(h)
		if !l.Push(h) {
			p.take(h)
			return moved
		}
		*held = (*held)[:len(*held)-1]
		moved++
	}
	return moved
}

// manage drains lists and resizes them, and pushes what that returns, until stop.
func (p *population) manage(l *FreeList, stop *atomic.Bool) (held []uint64) {
	for n := 0; !stop.Load(); n++ {
		var handles []uint64
		var err error
		switch n % 4 {
		case 3:
			handles, err = l.Resize(3 + n%32)
		case 2:
			handles, err = l.DrainAll()
		default:
			handles, err = l.Drain(n / 4 % l.Lists())
		}
		if err != nil {
			p.Error(err)
		}
		p.take(handles...)
		held = append(held, handles...)
		p.live(l, &held, 1)
		testutil.Yield()
	}
	return held
}

// TestStormFreeList: every handle is in one place at any time, and none is lost, while
// others drain and resize the lists.
func TestStormFreeList(t *testing.T) {
	storms(t, func(t *testing.T, x rseq.Index, cpus, threads, rounds int) (func(*testutil.Storm), func()) {
		l := newFreeList(16, x, cpus)
		p := newPopulation(t, 8*threads)
		var mu sync.Mutex
		var left []uint64 // that threads had in the end
		leave := func(held []uint64) {
			mu.Lock()
			defer mu.Unlock()
			p.give(held...)
			left = append(left, held...)
		}
		var stop atomic.Bool
		var manager sync.WaitGroup
		manager.Go(func() { leave(p.manage(l, &stop)) })
		var next atomic.Int64
		work := func(s *testutil.Storm) {
			var held []uint64
			for range 8 {
				h := uint64(next.Add(1) - 1)
				p.take(h)
				held = append(held, h)
			}
			for round := range s.Rounds {
				s.Pass()
				p.live(l, &held, round)
			}
			leave(held)
		}
		return work, func() {
			stop.Store(true)
			manager.Wait()
			n := l.Len()
			rest, err := l.DrainAll()
			if err != nil || len(rest) != n || l.Len() != 0 {
				t.Errorf("%d handles left, %v; Len said %d, then %d", len(rest), err, n, l.Len())
			}
			p.all(append(rest, left...))
		}
	})
}

// TestFenceFails: then nothing has changed.
func TestFenceFails(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	defer func(before func(rseq.Index, int) error) { fence = before }(fence)
	fence = func(rseq.Index, int) error { return errors.New("refused by the test") }
	onOneCPU(t, func() {
		l := newFreeList(3, rseq.ByCPU, rseq.PossibleCPUs())
		l.PushBatch([]uint64{1, 2})
		cpu, _ := rseq.CPU()
		_, drain := l.Drain(cpu)
		_, all := l.DrainAll()
		_, resize := l.Resize(7)
		for _, err := range []error{drain, all, resize} {
			if err == nil || err.Error() != "refused by the test" {
				t.Error(err)
			}
		}
		if h, ok := l.Pop(); h != 2 || !ok || l.Len() != 1 {
			t.Errorf("popped %d, %v; %d left", h, ok, l.Len())
		}
		if n := l.PushBatch([]uint64{2, 3, 4}); n != 2 {
			t.Errorf("room for %d more, want 2", n)
		}
		fence = rseq.Index.Fence
		if handles, err := l.DrainAll(); !slices.Equal(handles, []uint64{1, 2, 3}) || err != nil {
			t.Errorf("%v, %v", handles, err)
		}
	})
}

// TestFenced: only lists with handles are fenced.
func TestFenced(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	defer func(before func(rseq.Index, int) error) { fence = before }(fence)
	var fenced []int
	fence = func(x rseq.Index, i int) error {
		fenced = append(fenced, i)
		return rseq.Index.Fence(x, i)
	}
	l := newFreeList(3, rseq.ByCPU, rseq.PossibleCPUs())
	drained := func(want int, cpus ...int) {
		t.Helper()
		fenced = nil
		handles, err := l.DrainAll()
		if len(handles) != want || err != nil || !slices.Equal(fenced, cpus) {
			t.Errorf("%v, %v, fenced %d; want %d handles and %d fenced", handles, err, fenced, want, cpus)
		}
	}
	cpus := testutil.AllowedCPUs(t)
	push := func(cpu int) {
		testutil.OnThread(func() { testutil.Pin(t, cpu); l.Push(1) })
	}
	drained(0)
	for _, cpu := range cpus {
		push(cpu)
		drained(1, cpu)
	}
	drained(0) // which have blocks now
	if len(cpus) > 1 {
		push(cpus[0])
		push(cpus[1])
		drained(2, -1)
	}
}

// TestRoomAgain: a section that found a list being drained is tried again.
func TestRoomAgain(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	onOneCPU(t, func() {
		l := NewFreeList(2)
		for h, want := range []bool{true, true, false} {
			if got := slowPush(unsafe.Pointer(l), uint64(h), nil, uint32(rseq.CompareFailed)); got != want {
				t.Errorf("push %d: %v", h, got)
			}
		}
	})
}

// TestGrownOnce: who is to make a CPU's list, and waits while another makes it, keeps that.
func TestGrownOnce(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	for range 5 {
		l := NewFreeList(2)
		l.mu.Lock()
		cpu, grown := make(chan int), make(chan bool)
		go onOneCPU(t, func() {
			now, _ := rseq.CPU()
			cpu <- now
			grown <- l.grow()
		})
		now := <-cpu
		time.Sleep(5 * time.Millisecond) // it waits for mu by then; if not, that tells nothing
		b := newBlock(2)
		atomic.StorePointer(l.entry(now), unsafe.Pointer(b))
		l.mu.Unlock()
		if !<-grown || atomic.LoadPointer(l.entry(now)) != unsafe.Pointer(b) {
			t.Error("the list was made twice")
		}
	}
}

// thing is what TestStormPool's pools have.
type thing struct {
	self *thing // the collector must not take it
	made atomic.Int32
	with atomic.Bool
	data *int // Go's, and kept

	plain int
}

// TestStormPool: nobody has a value that somebody else has, each is initialised once, and keeps
// what it had, while others are lost and the pool sweeps.
func TestStormPool(t *testing.T) {
	storms(t, func(t *testing.T, x rseq.Index, cpus, threads, rounds int) (func(*testutil.Storm), func()) {
		const n = 40
		init := func(v *thing) {
			v.self, v.data = v, new(int)
			if v.made.Add(1) != 1 {
				t.Error("initialised twice")
			}
		}
		p := newPool(n, init, newFreeList(4, x, cpus))
		var sweeps atomic.Int32
		work := func(s *testutil.Storm) {
			var held, late []*thing
			put := func(v *thing) {
				*v.data++
				v.with.Store(false)
				p.Put(v)
			}
			for round := range s.Rounds {
				for range round % 4 {
					v := p.Get()
					if v.self != v || v.made.Load() != 1 || v.with.Swap(true) {
						s.Error("somebody else has it")
						return
					}
					*v.data++ // the race detector looks
					held = append(held, v)
				}
				s.Pass()
				for len(held) > 5 || round == s.Rounds-1 && len(held) > 0 {
					switch v := held[0]; {
					case round%7 == 0: // lost
					case round%5 == 0 && len(late) < 10:
						late = append(late, v)
					default:
						put(v)
					}
					held = held[1:]
				}
				if round%50 == 0 {
					was := p.set.Load()
					for len(late) > 0 {
						if was.find(p.header(late[0])) == nil {
							sweeps.Add(1)
						}
						put(late[0])
						late = late[1:]
					}
				}
			}
		}
		return work, func() {
			t.Logf("%d values came back after a sweep", sweeps.Load())
			for v := range emptied(t, p) {
				if v.self != v || v.made.Load() != 1 || v.with.Load() {
					t.Errorf("%+v", v)
				}
			}
		}
	})
}

// TestConservation is TestStormFreeList in fine weather for many operations.
func TestConservation(t *testing.T) {
	for _, options := range [][]Option{nil, {Compact}} {
		t.Run(fmt.Sprint(options), func(t *testing.T) {
			threads := 2 * runtime.NumCPU()
			operations := testutil.Repeat(100_000_000)
			if testing.Short() {
				operations /= 100
			}
			l := NewFreeList(16, options...)
			if l.n == 0 || options != nil { // each takes a lock, or was tested already
				operations /= 10
			}
			p := newPopulation(t, 8*threads)
			for h := range p.with {
				p.with[h].Store(true)
			}
			var stop atomic.Bool
			var manager, wg sync.WaitGroup
			var mu sync.Mutex
			var left []uint64
			var done atomic.Int64
			leave := func(held []uint64) {
				mu.Lock()
				defer mu.Unlock()
				left = append(left, held...)
			}
			manager.Go(func() { leave(p.manage(l, &stop)) })
			for thread := range threads {
				wg.Go(func() {
					var held []uint64
					for h := range 8 {
						held = append(held, uint64(8*thread+h))
					}
					n := 0
					for round := 0; n < operations/threads; round++ {
						n += p.live(l, &held, round)
					}
					done.Add(int64(n))
					leave(held)
				})
			}
			wg.Wait()
			stop.Store(true)
			manager.Wait()
			rest, err := l.DrainAll()
			if err != nil {
				t.Error(err)
			}
			p.give(left...)
			p.all(append(rest, left...))
			t.Logf("%d handles moved by %d goroutines", done.Load(), threads)
		})
	}
}

// TestPoolConservation is TestStormPool in fine weather for many operations, while the
// collector runs all the time.
func TestPoolConservation(t *testing.T) {
	operations := testutil.Repeat(100_000_000)
	if testing.Short() {
		operations /= 100
	}
	p, keeps := NewPool(64, func(v *thing) { v.self = v }), NewPool(64, func(v *thing) { v.self = v })
	keeps.Keep = func(v *thing) bool { return true }
	if p.list.Load().n == 0 { // each takes a lock
		operations /= 10
	}
	threads := 2 * runtime.NumCPU()
	var stop atomic.Bool
	var collector, wg sync.WaitGroup
	collector.Go(func() {
		for !stop.Load() {
			runtime.GC()
		}
	})
	for thread := range threads {
		wg.Go(func() {
			p := p
			if thread%2 == 1 {
				p = keeps
			}
			var held [8]*thing
			for n := range operations / threads / 2 {
				v := &held[n%len(held)]
				if *v != nil && n%1000 != 0 { // else it is lost
					(*v).with.Store(false)
					(*v).plain++
					p.Put(*v)
				}
				*v = p.Get()
				(*v).plain++ // the race detector looks
				if (*v).self != *v || (*v).with.Swap(true) {
					t.Error("somebody else has it")
					return
				}
			}
		})
	}
	wg.Wait()
	stop.Store(true)
	collector.Wait()
	t.Logf("%d operations by %d goroutines", operations, threads)
}

// TestInjected runs the storms with delays at each point of each section.
func TestInjected(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	testutil.NeedCompilers(t)
	out := testutil.Run(t, nil, testutil.GoTest(t, "injected", testutil.Injected), "-test.run", "^TestStorm", "-test.v")
	t.Log(strings.Count(out, "--- PASS"), "passed,", strings.Count(out, "--- SKIP"), "skipped")
	if !strings.Contains(out, "--- PASS: TestStormFreeList/sections/cpu_id/disturbed/delay_at_5") {
		t.Errorf("the delays were not compiled in:\n%.2000s", out)
	}
}
