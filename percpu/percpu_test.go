//go:build linux

package percpu

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/processor"
)

func TestCounter(t *testing.T) {
	for name, c := range map[string]*Counter{
		"sections": NewCounter(), "compact": NewCounter(Compact), "zero": new(Counter),
		"portable": &makeCounters(new(arena), 1, rseq.ByCPU, 0)[0],
	} {
		c.Add(5)
		c.Add(-7)
		if got := c.Load(); got != -2 {
			t.Errorf("%s: %d, want -2", name, got)
		}
		if got := c.Reset(); got != -2 || c.Load() != 0 {
			t.Errorf("%s: reset from %d to %d", name, got, c.Load())
		}
		c.Add(math.MaxInt64)
		c.Add(3)
		if got := c.Load(); got != math.MinInt64+2 {
			t.Errorf("%s: %d does not wrap around", name, got)
		}
		if c.Reset(); c.Load() != 0 {
			t.Errorf("%s: %d", name, c.Load())
		}
	}
}

func TestCounters(t *testing.T) {
	for _, n := range []int{0, 1, 7, 256, 257, 5000} {
		c := NewCounters(n)
		for range 2 {
			for i := range n {
				c.Add(i, int64(i+1))
			}
		}
		if c.Len() != n {
			t.Errorf("%d counters, want %d", c.Len(), n)
		}
		for i := range n {
			if c.Load(i) != int64(2*i+2) || c.Reset(i) != int64(2*i+2) || c.Load(i) != 0 {
				t.Fatalf("%d counters: %d is %d", n, i, c.Load(i))
			}
		}
		for _, bad := range []int{-1, n} {
			if message := panicOf(func() { c.Add(bad, 1) }); !strings.Contains(message, "index out of range") {
				t.Errorf("%d of %d: %s", bad, n, message)
			}
		}
	}
}

func panicOf(f func()) (message string) {
	defer func() { message = fmt.Sprint(recover()) }()
	f()
	return ""
}

// TestReuse: words that a counter left behind serve the next, which begins at zero.
func TestReuse(t *testing.T) {
	index, cpus := indexes(nil)
	if cpus == 0 {
		t.Skip("no words: ", rseq.CriticalSections(index))
	}
	a := new(arena)
	was := map[*int64]bool{}
	reused := 0
	for range 200 {
		list := makeCounters(a, 3, index, cpus)
		if was[list[0].cells.Base] {
			reused++
		}
		was[list[0].cells.Base] = true
		for i := range list {
			if got := list[i].Load(); got != 0 {
				t.Fatalf("a new counter is %d", got)
			}
			list[i].Add(7)
			if got := list[i].Load(); got != 7 {
				t.Fatalf("it is %d, want 7", got)
			}
		}
		runtime.GC()
		runtime.Gosched()
	}
	t.Logf("%d of 200 times, %d places", reused, len(was))
	if reused < 50 {
		t.Errorf("only %d of 200 counters use what others left", reused)
	}
}

func lists() map[string]*FreeList {
	processor.Again() // so that no list changes its place meanwhile
	index, _ := indexes(nil)
	return map[string]*FreeList{"sections": NewFreeList(4), "compact": NewFreeList(4, Compact),
		"portable": newFreeList(4, index, 0)}
}

func TestFreeList(t *testing.T) {
	// On one CPU, so that there is one list.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	onOneCPU(t, func() {
		for name, l := range lists() {
			pop := func(want ...uint64) {
				t.Helper()
				for _, w := range want {
					if h, ok := l.Pop(); h != w || !ok {
						t.Errorf("%s: popped %d, %v, want %d", name, h, ok, w)
					}
				}
				if h, ok := l.Pop(); ok {
					t.Errorf("%s: popped %d of an empty list", name, h)
				}
			}
			pop()
			for h := range uint64(4) {
				if !l.Push(math.MaxUint64 - h) {
					t.Errorf("%s: no room for number %d", name, h)
				}
			}
			if l.Push(4) || l.Len() != 4 {
				t.Errorf("%s: room for 5, %d", name, l.Len())
			}
			pop(math.MaxUint64-3, math.MaxUint64-2, math.MaxUint64-1, math.MaxUint64)

			// Batches are as many pushes and pops.
			if n := l.PushBatch([]uint64{1, 2, 3}); n != 3 {
				t.Errorf("%s: pushed %d of 3", name, n)
			}
			if n := l.PushBatch([]uint64{4, 5, 6}); n != 1 {
				t.Errorf("%s: pushed %d, there was room for 1", name, n)
			}
			some := make([]uint64, 3)
			if n := l.PopBatch(some); n != 3 || !slices.Equal(some, []uint64{4, 3, 2}) {
				t.Errorf("%s: popped %d: %v", name, n, some)
			}
			if n := l.PopBatch(some); n != 1 || some[0] != 1 {
				t.Errorf("%s: popped %d: %v", name, n, some)
			}
			if n := l.PopBatch(some) + l.PopBatch(nil) + l.PushBatch(nil); n != 0 {
				t.Errorf("%s: %d of nothing", name, n)
			}

			// Other sizes: the last pushed stay.
			if surplus, err := l.Resize(600); len(surplus) != 0 || err != nil {
				t.Errorf("%s: %v, %v", name, surplus, err)
			}
			many := make([]uint64, 601)
			for i := range many {
				many[i] = uint64(i)
			}
			if n := l.PushBatch(many); n != 600 {
				t.Errorf("%s: pushed %d of 601, there was room for 600", name, n)
			}
			surplus, err := l.Resize(2)
			if !slices.Equal(surplus, many[:598]) || err != nil || l.Len() != 2 || l.Push(1) {
				t.Errorf("%s: %d surplus, %v, %d left", name, len(surplus), err, l.Len())
			}
			pop(599, 598)

			// A drained list is empty.
			l.PushBatch([]uint64{1, 2})
			var all []uint64
			for i := range l.Lists() {
				some, err := l.Drain(i)
				if err != nil {
					t.Errorf("%s: drain %d: %v", name, i, err)
				}
				all = append(all, some...)
			}
			if !slices.Equal(all, []uint64{1, 2}) {
				t.Errorf("%s: drained %v", name, all)
			}
			pop()
			for _, bad := range []int{-1, l.Lists()} {
				if _, err := l.Drain(bad); err == nil || !strings.Contains(err.Error(), fmt.Sprint("drain list ", bad, ": expected 0 to ", l.Lists()-1)) {
					t.Errorf("%s: drain %d: %v", name, bad, err)
				}
			}
			if _, err := l.Resize(0); err == nil || !strings.Contains(err.Error(), "expected at least 1") {
				t.Errorf("%s: resize to 0: %v", name, err)
			}
		}
	})
	if message := panicOf(func() { NewFreeList(0) }); !strings.Contains(message, "percpu.NewFreeList: room for 0 handles") {
		t.Error(message)
	}
}

// TestPopOnStack: handles go where the caller's are, though its stack moves. It is for
// builds without inlining, where a closure would be on the heap.
func TestPopOnStack(t *testing.T) {
	l := newFreeList(1000, rseq.ByCPU, 0)
	var at func(depth int) bool
	at = func(depth int) bool {
		if depth > 0 {
			return at(depth - 1)
		}
		var some [2]uint64
		return l.PopBatch(some[:]) == 2 && some == [2]uint64{8, 7}
	}
	for depth := range 1000 {
		done := make(chan bool)
		l.PushBatch([]uint64{7, 8})
		go func() { done <- at(depth) }()
		if !<-done {
			t.Fatalf("%d calls deep: not what was pushed", depth)
		}
		if _, err := l.DrainAll(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPool(t *testing.T) {
	type thing struct {
		name *string
	}
	made := 0
	p := NewPool(3, func(v *thing) { made++; v.name = new(string) })
	// More than it has: others are allocated, and not kept.
	var held []*thing
	for range 5 {
		v := p.Get()
		if v.name == nil || slices.Contains(held, v) {
			t.Errorf("%+v", v)
		}
		*v.name = "kept"
		held = append(held, v)
	}
	for _, v := range held {
		p.Put(v)
	}
	p.Put(new(thing))
	p.Put(nil)
	for range 3 {
		runtime.GC()
	}
	made = 0
	for range 3 {
		if v := p.Get(); *v.name != "kept" || !slices.Contains(held, v) {
			t.Errorf("%+v", v)
		}
	}
	if made != 0 {
		t.Errorf("%d made again", made)
	}
	p.Put(held[0])
	if message := panicOf(func() { p.Put(held[0]) }); !strings.Contains(message, "in the pool already") {
		t.Error("put twice:", message)
	}
	if message := panicOf(func() { NewPool[int](0, nil) }); !strings.Contains(message, "percpu.NewPool: 0 values") {
		t.Error(message)
	}
	if v := NewPool[struct{}](1, nil).Get(); v == nil {
		t.Error("no value of size 0")
	}
}

// TestPoolElsewhere: values that other CPUs put back are found again.
func TestPoolElsewhere(t *testing.T) {
	const n = 100
	p := NewPool[int](n, nil)
	var wg sync.WaitGroup
	for range 2 * runtime.NumCPU() {
		wg.Go(func() {
			var held []*int
			for range n {
				held = append(held, p.Get())
			}
			for _, v := range held {
				p.Put(v)
			}
		})
	}
	wg.Wait()
	found := map[uint64]bool{}
	onOneCPU(t, func() {
		for range 20 * n {
			if handle, mine := p.handle(p.Get()); mine {
				found[handle] = true
			}
		}
	})
	if len(found) != n {
		t.Errorf("%d of %d values found", len(found), n)
	}
}

func TestSlots(t *testing.T) {
	for _, options := range [][]Option{nil, {Compact}} {
		s := NewSlots[[]int](options...)
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				mu.Lock()
				defer mu.Unlock()
				here := s.Here()
				*here = append(*here, i)
			})
		}
		wg.Wait()
		n := 0
		for i, v := range s.All() {
			if v != &s.slots[i].v {
				t.Error(i)
			}
			n += len(*v)
		}
		if n != 100 {
			t.Errorf("%d of 100 found", n)
		}
		for range s.All() {
			break
		}
	}
}

func TestNoAllocations(t *testing.T) {
	c, cs, l := NewCounter(), NewCounters(3, Compact), NewFreeList(8)
	p, s := NewPool[[100]byte](8, nil), NewSlots[int]()
	run := func() {
		c.Add(1)
		cs.Add(2, 1)
		l.Push(1)
		l.Pop()
		some := [4]uint64{1, 2, 3, 4}
		l.PushBatch(some[:])
		for l.PopBatch(some[:]) > 0 {
		}
		p.Put(p.Get())
		*s.Here()++
		c.Load()
		cs.Reset(1)
	}
	for range 100 { // each CPU's lists
		run()
	}
	want := 0.0
	if l.n == 0 {
		want = 1 // some
	}
	if n := testing.AllocsPerRun(1000, run); n > want {
		t.Errorf("%v allocations, want %v", n, want)
	}
}

// TestOrder: whoever pops a handle sees what was done before it was pushed, and so
// with Drain, and with a pool's values. It is the race detector that looks.
func TestOrder(t *testing.T) {
	all := lists()
	for name, l := range all {
		t.Run(name, func(t *testing.T) {
			const n = 8
			var data [n]int
			for h := range uint64(n) {
				l.Push(h)
			}
			var wg sync.WaitGroup
			for g := range 4 {
				wg.Go(func() {
					for round := range 1000 {
						var some [2]uint64
						handles := some[:l.PopBatch(some[:])]
						if h, ok := l.Pop(); ok {
							handles = append(handles, h)
						}
						if g == 0 && round%100 == 0 {
							drained, err := l.DrainAll()
							if err != nil {
								t.Error(err)
							}
							handles = append(handles, drained...)
						}
						for _, h := range handles {
							data[h]++
						}
						for _, h := range handles {
							for !l.Push(h) {
								runtime.Gosched()
							}
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
