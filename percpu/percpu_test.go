//go:build linux

package percpu

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/processor"
	"github.com/rseq-go/rseq/internal/testutil"
)

func panicOf(f func()) (message string) {
	defer func() { message = fmt.Sprint(recover()) }()
	f()
	return ""
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
			// The kernel may give the thread another concurrency id, so another list.
			id, _ := rseq.ConcurrencyID()
			moved := false
			fail := func(format string, args ...any) {
				t.Helper()
				now, _ := rseq.ConcurrencyID()
				if moved = moved || name == "compact" && now != id; !moved {
					t.Errorf(format, args...)
				}
			}
			pop := func(want ...uint64) {
				t.Helper()
				for _, w := range want {
					if h, ok := l.Pop(); h != w || !ok {
						fail("%s: popped %d, %v, want %d", name, h, ok, w)
					}
				}
				if h, ok := l.Pop(); ok {
					fail("%s: popped %d of an empty list", name, h)
				}
			}
			pop()
			for h := range uint64(4) {
				if !l.Push(math.MaxUint64 - h) {
					fail("%s: no room for number %d", name, h)
				}
			}
			if l.Push(4) || l.Len() != 4 {
				fail("%s: room for 5, %d", name, l.Len())
			}
			pop(math.MaxUint64-3, math.MaxUint64-2, math.MaxUint64-1, math.MaxUint64)

			// Batches are as many pushes and pops.
			if n := l.PushBatch([]uint64{1, 2, 3}); n != 3 {
				fail("%s: pushed %d of 3", name, n)
			}
			if n := l.PushBatch([]uint64{4, 5, 6}); n != 1 {
				fail("%s: pushed %d, there was room for 1", name, n)
			}
			some := make([]uint64, 3)
			if n := l.PopBatch(some); n != 3 || !slices.Equal(some, []uint64{4, 3, 2}) {
				fail("%s: popped %d: %v", name, n, some)
			}
			if n := l.PopBatch(some); n != 1 || some[0] != 1 {
				fail("%s: popped %d: %v", name, n, some)
			}
			if n := l.PopBatch(some) + l.PopBatch(nil) + l.PushBatch(nil); n != 0 {
				fail("%s: %d of nothing", name, n)
			}

			// Other sizes: the last pushed stay.
			if surplus, err := l.Resize(600); len(surplus) != 0 || err != nil {
				fail("%s: %v, %v", name, surplus, err)
			}
			many := make([]uint64, 601)
			for i := range many {
				many[i] = uint64(i)
			}
			if n := l.PushBatch(many); n != 600 {
				fail("%s: pushed %d of 601, there was room for 600", name, n)
			}
			surplus, err := l.Resize(2)
			if !slices.Equal(surplus, many[:598]) || err != nil || l.Len() != 2 || l.Push(1) {
				fail("%s: %d surplus, %v, %d left", name, len(surplus), err, l.Len())
			}
			pop(599, 598)

			// A drained list is empty.
			l.PushBatch([]uint64{1, 2})
			var all []uint64
			for i := range l.Lists() {
				some, err := l.Drain(i)
				if err != nil {
					fail("%s: drain %d: %v", name, i, err)
				}
				all = append(all, some...)
			}
			if !slices.Equal(all, []uint64{1, 2}) {
				fail("%s: drained %v", name, all)
			}
			pop()
			if !l.Push(3) || l.Len() != 1 {
				fail("%s: %d handles after a push", name, l.Len())
			}
			pop(3)
			for _, bad := range []int{-1, l.Lists()} {
				if _, err := l.Drain(bad); err == nil || !strings.Contains(err.Error(), fmt.Sprint("drain list ", bad, ": expected 0 to ", l.Lists()-1)) {
					fail("%s: drain %d: %v", name, bad, err)
				}
			}
			if _, err := l.Resize(0); err == nil || !strings.Contains(err.Error(), "expected at least 1") {
				fail("%s: resize to 0: %v", name, err)
			}
		}
	})
	if message := panicOf(func() { NewFreeList(0) }); !strings.Contains(message, "percpu.NewFreeList: room for 0 handles") {
		t.Error(message)
	}
}

// TestLimits: a size that cannot be is an error or a panic that names the limit, and nothing
// has changed.
func TestLimits(t *testing.T) {
	limit := sizeLimit(8)
	room := fmt.Sprint("expected at least 1 and at most ", limit)
	tooMany := []int{limit + 1, math.MaxInt/2 + 1, math.MaxInt, math.MinInt}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	onOneCPU(t, func() {
		for name, l := range lists() {
			l.PushBatch([]uint64{1, 2, 3})
			for _, n := range tooMany {
				surplus, err := func() (surplus []uint64, err error) {
					defer func() {
						if e := recover(); e != nil {
							err = fmt.Errorf("panic: %v", e)
						}
					}()
					return l.Resize(n)
				}()
				if surplus != nil || err == nil || !strings.HasSuffix(err.Error(), room) {
					t.Errorf("%s: resize to %d: %v, %v", name, n, surplus, err)
				}
			}
			if h, ok := l.Pop(); h != 3 || !ok || l.Len() != 2 {
				t.Errorf("%s: popped %d, %v, of 1, 2, 3; %d left", name, h, ok, l.Len())
			}
			if n := l.PushBatch([]uint64{3, 4, 5}); n != 2 {
				t.Errorf("%s: room for %d more, want 2", name, n)
			}
		}
	})
	if l := NewFreeList(limit); l.room() != limit {
		t.Error(l.room())
	}
	type huge [1<<(30+10*(^uint(0)>>63)) + 4096]byte // riscv64's compiler gives up where the lower 32 bits are 0
	for _, n := range tooMany[1:] {
		for what, f := range map[string]func(){
			"percpu.NewFreeList: room for %d handles per CPU: " + room:          func() { NewFreeList(n) },
			"percpu.NewPool: %d values: expected at least 1 and at most ":       func() { NewPool[byte](n, nil) },
			"percpu.NewCounters: %d counters: expected at least 0 and at most ": func() { NewCounters(n) },
		} {
			if message := panicOf(f); !strings.HasPrefix(message, fmt.Sprintf(what, n)) {
				t.Error(message)
			}
		}
	}
	for what, f := range map[string]func(){
		"percpu.NewPool: 1 values: expected at least 1 and at most 0 of percpu.huge": func() { NewPool[huge](1, nil) },
		" values: expected at most 0 of percpu.huge":                                 func() { NewSlots[huge]() },
	} {
		if message := panicOf(f); !strings.HasSuffix(message, what) {
			t.Error(message)
		}
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

// TestSharesOnce: those that need shares at the same moment get the same ones.
func TestSharesOnce(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(64)) // many shares take long to make
	for range testutil.Repeat(2000) {
		var s stripes[atomic.Int64]
		var ready, wg sync.WaitGroup
		ready.Add(4)
		for range 4 {
			wg.Go(func() {
				ready.Done()
				ready.Wait()
				s.own().Add(1)
			})
		}
		wg.Wait()
		sum := int64(0)
		for all, i := s.all(), 0; i < all.n(); i++ {
			if share := all.at(i); share != nil {
				sum += share.Load()
			}
		}
		if sum != 4 {
			t.Fatalf("%d of 4 counted", sum)
		}
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
	// On CPUs that there are no slots for.
	for _, x := range []rseq.Index{rseq.ByCPU, rseq.ByConcurrencyID} {
		s := newSlots[int](x, 1)
		for _, cpu := range testutil.AllowedCPUs(t) {
			testutil.OnThread(func() {
				testutil.Pin(t, cpu)
				*s.Here()++
			})
		}
		if got := s.slots[0].v; got != len(testutil.AllowedCPUs(t)) {
			t.Errorf("%d threads found the slot", got)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	c, cs, l := NewCounter(), NewCounters(3, Compact), NewFreeList(8)
	index, cpus := indexes(nil)
	locks := []*RWMutex{newOpen(index, 0), newOpen(index, cpus)}
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
		for _, l := range locks {
			l.RLock()
			l.RUnlock() //lint:ignore SA2001 it is to allocate nothing
			if l.TryLock() {
				l.Unlock()
			}
			openAgain(l)
		}
		c.Value()
		cs.At(1).Reset()
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

// TestOrder: after a handle was popped, what was done before it was pushed is seen, however
// it is pushed and popped. It is the race detector that looks.
func TestOrder(t *testing.T) {
	push := func(l *FreeList, handles []uint64) []uint64 {
		for len(handles) > 0 && l.Push(handles[0]) {
			handles = handles[1:]
		}
		return handles
	}
	pushBatch := func(l *FreeList, handles []uint64) []uint64 { return handles[l.PushBatch(handles):] }
	for way, f := range map[string]struct {
		push func(l *FreeList, handles []uint64) (left []uint64)
		pop  func(l *FreeList) ([]uint64, error)
	}{
		"Push and Pop": {push, func(l *FreeList) (handles []uint64, err error) {
			if h, ok := l.Pop(); ok {
				handles = []uint64{h}
			}
			return handles, nil
		}},
		"PushBatch and PopBatch": {pushBatch, func(l *FreeList) ([]uint64, error) {
			handles := make([]uint64, 2)
			return handles[:l.PopBatch(handles)], nil
		}},
		"Push and DrainAll": {push, (*FreeList).DrainAll},
		"PushBatch and Drain": {pushBatch, func(l *FreeList) (handles []uint64, err error) {
			for i := 0; i < l.Lists() && err == nil && handles == nil; i++ {
				handles, err = l.Drain(i)
			}
			return handles, err
		}},
		"Push and Resize": {push, func(l *FreeList) ([]uint64, error) {
			handles, err := l.Resize(1)
			more, again := l.Resize(4)
			return append(handles, more...), errors.Join(err, again)
		}},
	} {
		for name, l := range lists() {
			t.Run(way+"/"+name, func(t *testing.T) {
				const n = 8
				var data [n]int
				for h := range uint64(n) {
					l.Push(h)
				}
				var wg sync.WaitGroup
				for range 4 {
					wg.Go(func() {
						for range 500 {
							handles, err := f.pop(l)
							if err != nil {
								t.Error(err)
								return
							}
							for _, h := range handles {
								data[h]++
							}
							for handles = f.push(l, handles); len(handles) > 0; handles = f.push(l, handles) {
								runtime.Gosched()
							}
						}
					})
				}
				wg.Wait()
				sum := 0
				for _, n := range data {
					sum += n
				}
				if sum == 0 {
					t.Error("nothing was popped")
				}
			})
		}
	}
}
