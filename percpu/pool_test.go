//go:build linux

package percpu

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/testutil"
)

// eachPool runs test with pools of size n: with sections, with few shares, without sections,
// and a zero Pool, which begins without lists.
func eachPool[T any](t *testing.T, n int, test func(t *testing.T, p *Pool[T])) {
	zero := new(Pool[T])
	zero.resize(n, listRoom(n))
	for name, p := range map[string]*Pool[T]{
		"sections": NewPool[T](n, nil), "compact": NewPool[T](n, nil, Compact),
		"portable": newPool[T](n, nil, newFreeList(listRoom(n), rseq.ByCPU, 0)), "zero": zero,
	} {
		t.Run(name, func(t *testing.T) { test(t, p) })
	}
}

// take returns n values from p.
func take[T any](p *Pool[T], n int) (values []*T) {
	for range n {
		values = append(values, p.Get())
	}
	return values
}

func putAll[T any](p *Pool[T], values []*T) {
	for _, v := range values {
		p.Put(v)
	}
}

// emptied returns what waits in p, and leaves it empty.
func emptied[T any](t *testing.T, p *Pool[T]) map[*T]bool {
	values := map[*T]bool{}
	made := new(int)
	was := p.New
	p.New = func(v *T) {
		*made++
		if was != nil {
			was(v)
		}
	}
	defer func() { p.New = was }()
	for p.waiting() > 0 {
		before := *made
		v := p.Get()
		if values[v] {
			t.Fatalf("%p is in the pool twice", v)
		}
		if *made == before { // else those that wait are on other CPUs' lists
			values[v] = true
		}
	}
	return values
}

// waiting returns how many values wait in p.
func (p *pool) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.spare)
	if l := p.list.Load(); l != nil {
		n += l.Len()
	}
	return n
}

// TestPool: what was put back comes back, as it was and once, whatever the collector does;
// where there is nothing Get makes a value.
func TestPool(t *testing.T) {
	type thing struct{ name *string }
	const n = 5
	eachPool(t, n, func(t *testing.T, p *Pool[thing]) {
		made := 0
		p.New = func(v *thing) { made++; v.name = new(string) }
		held := take(p, n)
		for i, v := range held {
			if v.name == nil || slices.Index(held, v) != i || made != n {
				t.Errorf("number %d: %+v, %d made", i, v, made)
			}
			*v.name = "kept"
		}
		for round := range 3 {
			putAll(p, held)
			runtime.GC()
			runtime.GC()
			got := emptied(t, p)
			for _, v := range held {
				if !got[v] || *v.name != "kept" {
					t.Errorf("round %d: %+v came back: %v", round, v, got[v])
				}
			}
			if len(got) != n {
				t.Errorf("round %d: %d values came back, want %d", round, len(got), n)
			}
		}
	})
	if v := NewPool[struct{}](1, nil).Get(); v == nil {
		t.Error("no value of size 0")
	}
}

// TestPoolSize: a pool keeps as many values as its size says, wherever they are put back, and
// not many more.
func TestPoolSize(t *testing.T) {
	for _, n := range []int{1, 2, 3, 10, 100, 1000} {
		eachPool(t, n, func(t *testing.T, p *Pool[int]) {
			held := take(p, 3*n+5)
			putAll(p, held[:n])
			if got := p.waiting(); got != n {
				t.Errorf("%d of %d values were kept", got, n)
			}
			putAll(p, held[n:])
			lists := 0
			if l := p.list.Load(); l != nil {
				lists = p.room * max(l.n, shareCount(), rseq.PossibleCPUs())
			}
			if got := p.waiting(); got < n || got > n+lists {
				t.Errorf("size %d, %d on lists at most: %d values were kept", n, lists, got)
			}
			if s := p.set.Load(); s.n != p.waiting() {
				t.Errorf("%d members, %d values wait", s.n, p.waiting())
			}
		})
	}
}

// TestPoolLost: values that are never put back are the collector's, and the pool keeps as
// many others.
func TestPoolLost(t *testing.T) {
	const n, rounds = 8, 100
	eachPool(t, n, func(t *testing.T, p *Pool[[2]int]) {
		made, collected := 0, new(atomic.Int64)
		p.New = func(v *[2]int) {
			made++
			runtime.AddCleanup(v, func(c *atomic.Int64) { c.Add(1) }, collected)
		}
		for range rounds {
			take(p, n)
			runtime.GC()
			// The next one is kept, though as many as the size are out.
			v := p.Get()
			v[0], v[1] = 1, 2
			p.Put(v)
			if got := emptied(t, p); !got[v] || *v != [2]int{1, 2} {
				t.Fatalf("a value that was put back did not come back: %v", got)
			}
		}
		if made <= n*rounds/2 {
			t.Fatalf("%d values were made", made)
		}
		for begin := time.Now(); made-int(collected.Load()) > 2*fewestSweep; runtime.GC() {
			if take(p, n); time.Since(begin) > testutil.Patience() {
				t.Fatalf("of %d values that were lost %d were collected", made, collected.Load())
			}
		}
		if n := len(p.gone); n > 4*fewestSweep {
			t.Errorf("%d values are remembered, of %d that were lost", n, made)
		}
		held := take(p, n)
		putAll(p, held)
		if got := emptied(t, p); len(got) != n {
			t.Errorf("then %d of %d come back", len(got), n)
		}
	})
}

// TestPoolLate: a value that is out for long comes back as if it were not, though the pool has
// forgotten it, and though many others are out. Nothing is made for those.
func TestPoolLate(t *testing.T) {
	const n = 8
	eachPool(t, n, func(t *testing.T, p *Pool[[2]int]) {
		late := take(p, 4*n)
		for i, v := range late {
			*v = [2]int{i, -i}
		}
		sweeps := 0
		for was := p.set.Load(); p.set.Load().find(p.header(late[0])) != nil || was == p.set.Load(); sweeps++ {
			take(p, n) // lost
		}
		runtime.GC()
		putAll(p, late)
		for i, v := range late {
			if *v != [2]int{i, -i} {
				t.Fatalf("number %d is %v", i, *v)
			}
		}
		got := emptied(t, p)
		for v := range got {
			if !slices.Contains(late, v) {
				t.Errorf("%v came back", v)
			}
		}
		if len(got) < n {
			t.Errorf("%d of %d came back", len(got), n)
		}
		// As many users as ever: each value is used again, none is made.
		made := 0
		p.New = func(*[2]int) { made++ }
		held := take(p, 100*n)
		made = 0
		for range 100 {
			for i := range held {
				p.Put(held[i])
				held[i] = p.Get()
			}
		}
		if made > 10*n {
			t.Errorf("%d made where %d are used all the time", made, len(held))
		}
	})
}

// TestPoolSweep: sweep sees that a value is being put back, at the latest behind its fence, and
// keeps it.
func TestPoolSweep(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	defer func(f func(rseq.Index, int) error) { fence = f }(fence)
	real := fence
	p := NewPool[int](1, nil)
	v := p.Get()
	h := p.set.Load().find(p.header(v))
	fence = func(x rseq.Index, i int) error {
		h.state = isFree // that another CPU did this before is seen now
		return real(x, i)
	}
	p.mu.Lock()
	p.sweep()
	p.mu.Unlock()
	if p.set.Load().find(p.header(v)) == nil {
		t.Error("a value that is on a list is left to the collector")
	}
}

// TestPoolPutSwept: a value that was swept while it was being put back is a member again. The
// two take turns on one CPU, so a sweep comes anywhere in Put.
func TestPoolPutSwept(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	p := NewPool[int](1, nil)
	cpu := testutil.AllowedCPUs(t)[0]
	var stop atomic.Bool
	var sweeper sync.WaitGroup
	sweeps := 300
	sweeper.Go(func() {
		defer stop.Store(true)
		testutil.OnThread(func() {
			testutil.Pin(t, cpu)
			for range sweeps {
				p.mu.Lock()
				if p.set.Load() != nil {
					p.sweep()
				}
				p.mu.Unlock()
				testutil.Yield()
			}
		})
	})
	testutil.OnThread(func() {
		testutil.Pin(t, cpu)
		for !stop.Load() {
			v := p.Get()
			p.Put(v)
			p.mu.Lock()
			member := p.set.Load().find(p.header(v)) != nil
			p.mu.Unlock()
			if !member {
				t.Error("a value that is on a list is left to the collector")
				return
			}
		}
	})
	sweeper.Wait()
}

// TestPoolRefill: values that have no room on the CPU's list stay where they were.
func TestPoolRefill(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	onOneCPU(t, func() {
		p := newPool[int](100, nil, NewFreeList(4))
		putAll(p, take(p, 50))
		for range 20 {
			if before, h := p.waiting(), p.refill(); h == nil || p.waiting() != before-1 {
				t.Errorf("%d waited, %d do after one was taken", before, p.waiting())
			}
		}
	})
}

// TestPoolKeep: Keep readies what is put back, and what it refuses is not kept. If it panics
// the value is out still.
func TestPoolKeep(t *testing.T) {
	const n = 4
	eachPool(t, n, func(t *testing.T, p *Pool[[]byte]) {
		kept := 0
		p.Keep = func(b *[]byte) bool {
			if *b == nil {
				panic("as the test wants")
			}
			kept++
			*b = (*b)[:0]
			return cap(*b) <= 100
		}
		p.Put(new([]byte)) // not the pool's, so not shown to Keep
		held := take(p, n)
		for i, b := range held {
			*b = make([]byte, 7, 100+i/2)
		}
		putAll(p, held)
		if got := emptied(t, p); len(got) != n/2 || !got[held[0]] || !got[held[1]] || len(*held[0]) != 0 || kept != n {
			t.Errorf("%d shown to Keep, %v came back", kept, got)
		}
		if s := p.set.Load(); s.find(p.header(held[n-1])) != nil {
			t.Error("a value that was refused is held")
		}
		// The places of those that were refused are filled.
		held = take(p, n)
		for _, b := range held {
			*b = make([]byte, 0, 10)
		}
		putAll(p, held)
		if got := emptied(t, p); len(got) != n {
			t.Errorf("%d came back, want %d", len(got), n)
		}

		b := p.Get()
		*b = nil
		if message := panicOf(func() { p.Put(b) }); message != "as the test wants" {
			t.Error(message)
		}
		*b = make([]byte, 10)
		p.Put(b)
		if got := emptied(t, p); !got[b] {
			t.Error("a value of which Keep panicked cannot be put back any more")
		}
	})
}

// TestPoolForeign: what is not the pool's is ignored, and nothing beside it is touched; what is
// in the pool already is a panic.
func TestPoolForeign(t *testing.T) {
	eachPool(t, 4, func(t *testing.T, p *Pool[[2]int]) {
		other := NewPool[[2]int](4, nil)
		array := [...][2]int{{1, 1}, {1, 1}, {1, 1}}
		v := p.Get()
		beside := (*[2]int)(unsafe.Pointer(&v[1]))
		for name, foreign := range map[string]*[2]int{
			"nil": nil, "allocated": new([2]int), "in an array": &array[1], "another pool's": other.Get(),
			"part of two": beside,
		} {
			p.Put(foreign)
			if n := p.waiting(); n != 0 {
				t.Errorf("%s: %d values wait", name, n)
			}
		}
		if array != [...][2]int{{1, 1}, {1, 1}, {1, 1}} {
			t.Error(array)
		}
		for name, keep := range map[string]func(*[2]int) bool{"": nil, " with Keep": func(v *[2]int) bool { return true }} {
			p.Keep = keep
			p.Put(v)
			if message := panicOf(func() { p.Put(v) }); message != "percpu: Put of a value that is in the pool already" {
				t.Errorf("put twice%s: %s", name, message)
			}
			if got := emptied(t, p); len(got) != 1 || !got[v] {
				t.Errorf("put twice%s: %v", name, got)
			}
		}
	})
}

// TestPoolInit: if New panics, or ends its goroutine, the pool is as if nobody had asked for a
// value.
func TestPoolInit(t *testing.T) {
	fail := func() {}
	eachPool(t, 2, func(t *testing.T, p *Pool[[2]int]) {
		p.New = func(v *[2]int) {
			if *v != [2]int{} {
				t.Errorf("it was given %v", *v)
			}
			v[0] = 1
			fail()
			v[1] = 2
		}
		for _, fail = range []func(){func() { panic("as the test wants") }, runtime.Goexit} {
			for range 3 {
				done := make(chan string)
				go func() {
					var message string
					defer func() { done <- message }()
					message = panicOf(func() { p.Get() })
				}()
				if message := <-done; message != "as the test wants" && message != "" {
					t.Error(message)
				}
			}
		}
		fail = func() {}
		held := take(p, 2)
		for _, v := range held {
			if *v != [2]int{1, 2} {
				t.Error(*v)
			}
		}
		putAll(p, held)
		if got := emptied(t, p); len(got) != 2 {
			t.Errorf("%d values came back, want 2", len(got))
		}
	})
}

// TestPoolElsewhere: values that other CPUs put back are found again.
func TestPoolElsewhere(t *testing.T) {
	const n = 100
	p := NewPool[int](n, nil)
	for _, cpu := range testutil.AllowedCPUs(t) { // each CPU's list is filled
		testutil.OnThread(func() {
			testutil.Pin(t, cpu)
			putAll(p, take(p, n))
		})
	}
	onOneCPU(t, func() {
		if waits, got := p.waiting(), emptied(t, p); waits < n || len(got) != waits {
			t.Errorf("%d values found, of %d that wait in a pool of %d", len(got), waits, n)
		}
	})
}

// TestPoolZero: the zero Pool has lists as soon as a fence worked, and what it had before is
// not lost.
func TestPoolZero(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	defer canFence.Store(canFence.Swap(false))
	defer fenceAgain.Store(fenceAgain.Swap(0))
	var p Pool[int]
	held := take(&p, 10)
	putAll(&p, held)
	for begin := time.Now(); p.list.Load() == nil; p.Put(p.Get()) {
		if time.Since(begin) > testutil.Patience() {
			t.Fatal("the pool has no lists")
		}
	}
	if p.list.Load().n == 0 || p.set.Load().list != p.list.Load() {
		t.Errorf("%d lists", p.list.Load().n)
	}
	got := emptied(t, &p)
	for _, v := range held {
		if !got[v] {
			t.Error("a value was lost")
		}
	}
	putAll(&p, take(&p, 2*p.size))
	if n := p.waiting(); n < p.size || n > 2*p.size {
		t.Errorf("size %d: %d values were kept", p.size, n)
	}
}

// TestPoolNeighbours: no two values share a cache line, nor two of which the processor fetches
// both.
func TestPoolNeighbours(t *testing.T) {
	neighbours[byte](t)
	neighbours[[3]*int](t)
	neighbours[[120]byte](t)
	neighbours[[1000]byte](t)
	neighbours[[5000]*int](t)
}

func neighbours[T any](t *testing.T) {
	held := take(NewPool[T](1, nil), 100)
	slices.SortFunc(held, func(a, b *T) int { return int(uintptr(unsafe.Pointer(a)) - uintptr(unsafe.Pointer(b))) })
	for i := range len(held) - 1 {
		gap := uintptr(unsafe.Pointer(held[i+1])) - uintptr(unsafe.Pointer(held[i])) - unsafe.Sizeof(held[i]) - unsafe.Sizeof(header{})
		if gap < 64 {
			t.Errorf("%T: %d bytes between %p and the header of %p", *held[i], gap, held[i], held[i+1])
		}
	}
}

// TestSet: a set has what was added and not removed.
func TestSet(t *testing.T) {
	const n = 300
	var values [n]struct {
		header
		_ [120]byte
	}
	var s *set
	want := map[*header]bool{}
	for range 20000 {
		h := &values[rand.N(n)].header
		if want[h] {
			s.remove(h)
			delete(want, h)
		} else {
			s = s.with(h, nil)
			want[h] = true
		}
		other := &values[rand.N(n)].header
		if found := s.find(uintptr(unsafe.Pointer(other))); (found == other) != want[other] || found != nil && found != other {
			t.Fatalf("found %p at %p, want %v", found, other, want[other])
		}
	}
	all := s.all()
	if len(all) != len(want) || s.n != len(want) {
		t.Errorf("%d values, counted %d, want %d", len(all), s.n, len(want))
	}
	for _, h := range all {
		if !want[h] {
			t.Errorf("%p was removed", h)
		}
	}
	s.remove(&header{})
	if s.n != len(want) {
		t.Error("a value that is not in the set was removed")
	}
}
