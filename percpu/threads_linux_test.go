package percpu

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/testutil"
)

// onOneCPU runs f on a thread that stays where it is.
func onOneCPU(t *testing.T, f func()) {
	testutil.OnThread(func() {
		testutil.Pin(t, testutil.AllowedCPUs(t)[0])
		f()
	})
}

// TestMixed: threads with and without areas count together, and pass handles on.
func TestMixed(t *testing.T) {
	eachOption(t, mixed)
}

// eachOption runs test by CPU and by concurrency id, where threads can be without an area.
func eachOption(t *testing.T, test func(t *testing.T, x rseq.Index, options ...Option)) {
	for x, options := range map[rseq.Index][]Option{rseq.ByCPU: nil, rseq.ByConcurrencyID: {Compact}} {
		t.Run(x.String(), func(t *testing.T) {
			testutil.NeedSections(t, x)
			if info, _ := rseq.Query(); info.Owner != rseq.OwnerLibc {
				t.Skipf("a thread of owner %v registers again", info.Owner)
			}
			test(t, x, options...)
		})
	}
}

func mixed(t *testing.T, x rseq.Index, options ...Option) {
	const threads, rounds = 8, 5000
	c, l := NewCounter(options...), NewFreeList(100, options...)
	p := newPopulation(t, 4*threads)
	var left [threads + 1][]uint64
	var stop atomic.Bool
	var manager, wg sync.WaitGroup
	manager.Go(func() { left[threads] = p.manage(l, &stop) })
	for n := range threads {
		wg.Go(func() {
			runtime.LockOSThread() // and never unlocked
			if n%2 == 0 {
				testutil.Unregister(t)
				err := rseq.CriticalSections(x)
				if err == nil || errors.Is(err, rseq.ErrNotSupported) || !strings.Contains(err.Error(), "the calling thread is not registered") {
					t.Error(err)
				}
			}
			var held []uint64
			for i := range 4 {
				held = append(held, uint64(4*n+i))
				p.take(held[i])
			}
			for round := range rounds {
				c.Add(1)
				p.live(l, &held, round)
			}
			left[n] = held
		})
	}
	wg.Wait()
	stop.Store(true)
	manager.Wait()
	if got := c.Value(); got != threads*rounds {
		t.Errorf("%d, want %d", got, threads*rounds)
	}
	shares := int64(0)
	for i := range c.portable.all().n() {
		if share := c.portable.all().at(i); share != nil {
			shares += share.Load()
		}
	}
	if shares != threads/2*rounds {
		t.Errorf("%d counted by threads without an area, want %d", shares, threads/2*rounds)
	}
	rest, err := l.DrainAll()
	if err != nil {
		t.Error(err)
	}
	for _, held := range left {
		p.give(held...)
		rest = append(rest, held...)
	}
	p.all(rest)
}

// TestUnregistered: a thread without an area leaves each CPU's words and lists alone. Its
// mm_cid is 0, as that of a thread that runs may be.
func TestUnregistered(t *testing.T) {
	eachOption(t, func(t *testing.T, x rseq.Index, options ...Option) {
		c, l := NewCounter(options...), NewFreeList(8, options...)
		words := func() (all []int64) {
			for i := range int(c.span.Load().cpus) {
				all = append(all, atomic.LoadInt64(c.word(i, 0)))
			}
			return all
		}
		before := words()
		for i := range l.n { // there are handles to pop, and room to push
			b := newBlock(8)
			b.count = 3
			copy(b.handles(), []uint64{1, 2, 3})
			atomic.StorePointer(l.entry(i), unsafe.Pointer(b))
		}
		testutil.OnThread(func() {
			testutil.Unregister(t)
			c.Add(1)
			if !l.Push(10) || l.PushBatch([]uint64{11, 12}) != 2 {
				t.Error("not pushed")
			}
			if h, ok := l.Pop(); h != 12 || !ok {
				t.Errorf("popped %d, %v, want 12", h, ok)
			}
			var some [4]uint64
			if n := l.PopBatch(some[:]); n != 2 || some[0] != 11 || some[1] != 10 {
				t.Errorf("popped %d: %v, want 11 and 10", n, some)
			}
		})
		if got := c.Value(); got != 1 {
			t.Errorf("counted %d, want 1", got)
		}
		if after := words(); !slices.Equal(before, after) {
			t.Errorf("the words were %v and are %v", before, after)
		}
		for i := range l.n {
			b := (*block)(atomic.LoadPointer(l.entry(i)))
			if !slices.Equal(b.handles(), []uint64{1, 2, 3}) {
				t.Errorf("list %d has %v", i, b.handles())
			}
		}
	})
}

// TestOffAffinity: what is on the list of a CPU that the process may no longer use
// comes back.
func TestOffAffinity(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	if os.Getenv("RSEQ_CHILD") == "" { // it is the whole process that moves
		cmd := exec.Command("/proc/self/exe", "-test.run", "^TestOffAffinity$", "-test.v")
		cmd.Env = append(os.Environ(), "RSEQ_CHILD=1")
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Error(err)
		}
		return
	}
	cpus := testutil.AllowedCPUs(t)
	if len(cpus) < 2 {
		t.Skip("one CPU")
	}
	l, p := NewFreeList(100), NewPool[int](100, nil)
	values := map[*int]bool{}
	for i, cpu := range cpus {
		testutil.OnThread(func() {
			testutil.Pin(t, cpu)
			for h := range uint64(50) {
				l.Push(100*uint64(i) + h)
			}
			var held []*int
			for range 20 {
				held = append(held, p.Get())
				values[held[len(held)-1]] = true
			}
			for _, v := range held {
				p.Put(v)
			}
		})
	}
	// All threads that there are, and those that they make.
	for range 2 {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			var tid int
			fmt.Sscan(task.Name(), &tid)
			if err := kernel.Bind(tid, cpus[len(cpus)-1]); err != nil && !errors.Is(err, unix.ESRCH) {
				t.Error(err)
			}
		}
	}
	for i, cpu := range cpus {
		handles, err := l.Drain(cpu)
		slices.Sort(handles)
		if err != nil || len(handles) != 50 || handles[0] != 100*uint64(i) {
			t.Errorf("CPU %d: %v, %v", cpu, handles, err)
		}
	}
	found := 0
	for range 2000 {
		v := p.Get()
		if values[v] {
			delete(values, v)
			found++
		}
	}
	if len(values) > 0 {
		t.Errorf("%d values found, %d not", found, len(values))
	}
}

// TestManyPossible: what a drain by visits costs does not grow with CPUs that may come
// one day: 8,192 of them and 500 threads took seconds for each fence.
func TestManyPossible(t *testing.T) {
	const possible = 8192
	if os.Getenv("RSEQ_CHILD") == "" {
		testutil.NeedSections(t, rseq.ByCPU)
		if testutil.Guest() {
			t.Skip("measures: visits that a guest is too slow for give up")
		}
		filter := testutil.GoBuild(t, "../test/testdata/filter", nil)
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(filter, "EPERM:membarrier", self, "-test.run", "^TestManyPossible$", "-test.v")
		cmd.Env = append(os.Environ(), "RSEQ_CHILD=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		if errors.Is(err, unix.EPERM) {
			t.Skip("mounts over a file of /sys: ", err)
		}
		t.Logf("%s", out)
		if err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Error(err)
		}
		return
	}
	file := filepath.Join(t.TempDir(), "possible")
	err := os.WriteFile(file, fmt.Appendf(nil, "0-%d\n", possible-1), 0o444)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err == nil {
		err = unix.Mount(file, "/sys/devices/system/cpu/possible", "", unix.MS_BIND, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	if n := rseq.PossibleCPUs(); n != possible {
		t.Fatalf("%d possible CPUs", n)
	}
	testutil.NeedSections(t, rseq.ByCPU)
	var ready sync.WaitGroup
	for range 500 {
		ready.Add(1)
		go func() { runtime.LockOSThread(); ready.Done(); select {} }()
	}
	ready.Wait()
	// The least of three, in multiples of what looking at each thread once takes.
	least := func(f func()) time.Duration {
		d := time.Duration(math.MaxInt64)
		for range 3 {
			begin := time.Now()
			f()
			d = min(d, time.Since(begin))
		}
		return d
	}
	once := least(func() {
		paths, _ := filepath.Glob("/proc/self/task/*")
		for _, path := range paths {
			if _, err := os.ReadFile(filepath.Join(path, "stat")); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
		}
	})
	var l *FreeList
	made := least(func() {
		canFence.Store(false)
		l = NewFreeList(100)
	})
	if l.n != possible {
		t.Fatalf("%d lists", l.n)
	}
	cpus := testutil.AllowedCPUs(t)
	drained := least(func() {
		for _, cpu := range cpus {
			testutil.OnThread(func() {
				testutil.Pin(t, cpu)
				l.PushBatch([]uint64{uint64(cpu), uint64(cpu)})
			})
		}
		if handles, err := l.DrainAll(); len(handles) != 2*len(cpus) || err != nil {
			t.Errorf("%v, %v, want %d handles", handles, err, 2*len(cpus))
		}
	})
	t.Logf("NewFreeList %v, DrainAll %v, looking at each thread %v", made, drained, once)
	if limit := 40 * once; made > limit || drained > limit {
		t.Error("that is more than forty times as long")
	}
}

// TestFenceRefused: without membarrier the lists are drained by visiting their CPUs,
// and where that is refused too, they are shared ones from the start; the same where a
// filter does not refuse but kills.
func TestFenceRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program; not with -short")
	}
	testutil.NeedSections(t, rseq.ByCPU)
	filter := testutil.GoBuild(t, "../test/testdata/filter", nil)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ calls, tests, want string }{
		{"membarrier", "TestStorm.*|TestFreeList|TestOffAffinity", "sections true"},
		{"membarrier,sched_setaffinity", "TestReuse", "sections false"},
		{"kill:membarrier", "TestStormFreeList", "sections true"},
		{"kill:membarrier,sched_setaffinity", "TestReuse", "sections false"},
	} {
		if !strings.Contains(c.calls, ":") {
			c.calls = "EPERM:" + c.calls
		}
		out := testutil.Run(t, []string{"RSEQ_CHILD=1"}, filter, c.calls, self,
			"-test.run", "^(TestSectionsLeft|TestConservation|TestPool|TestOrder|"+c.tests+")$", "-test.v", "-test.short")
		if !strings.Contains(out, c.want) || !strings.Contains(out, "--- PASS: TestConservation") {
			t.Errorf("without %s: want %s:\n%.2000s", c.calls, c.want, out)
		}
	}
}

// TestSectionsLeft says whether new lists use critical sections.
func TestSectionsLeft(t *testing.T) {
	if os.Getenv("RSEQ_CHILD") == "" {
		t.Skip("run by TestFenceRefused, in a child process")
	}
	t.Log("sections", NewFreeList(1).n > 0)
}

// TestDropped: counters that are dropped among others that are not leave no gaps between
// mappings, of which a process may have some 65,000, and no memory.
func TestDropped(t *testing.T) {
	mappings := func() int {
		maps, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(maps), "\n")
	}
	const n, words, cpus = 2000, 1000, 16
	a := new(arena)
	var spans []span
	for range n {
		s := a.take(cpus, words)
		if s.base == nil || *s.base != 0 {
			t.Fatalf("%+v", s)
		}
		*s.base = 1
		spans = append(spans, s)
	}
	before := mappings()
	for i := 0; i < n; i += 2 {
		spans[i].put()
	}
	if got := mappings(); got > before+n/10 {
		t.Errorf("%d mappings, then %d", before, got)
	}
	var dropped []*span
	for i := 0; i < n; i += 2 {
		dropped = append(dropped, &spans[i])
	}
	if got := resident(t, dropped, 0); got != 0 {
		t.Errorf("%d bytes of memory were not given back", got)
	}
	for range n / 2 {
		s := a.take(cpus, words)
		if s.base == nil || *s.base != 0 {
			t.Fatalf("%+v is not zero", s)
		}
	}
	if got := mappings(); got > before+n/10 {
		t.Errorf("%d mappings, then, with as many counters, %d", before, got)
	}
	for i := 1; i < n; i += 2 {
		if *spans[i].base != 1 {
			t.Fatal("the words of a counter that is there changed")
		}
	}
}

// TestMemory measures what objects take, as if there were so many CPUs and each were
// used, and as if one were. go test -v -run TestMemory ./percpu prints the table.
func TestMemory(t *testing.T) {
	build, _ := debug.ReadBuildInfo()
	if racing || slices.Contains(build.Settings, debug.BuildSetting{Key: "-asan", Value: "true"}) {
		t.Skip("the sanitizers need memory of their own")
	}
	const objects = 64 // so that what else allocates does not matter
	page := os.Getpagesize()
	var kept [][]*span // so that nothing is given back meanwhile
	defer func() { runtime.KeepAlive(kept) }()
	t.Logf("%-22s %8s %12s %12s", "bytes for each", "possible", "all used", "one used")
	for _, cpus := range []int{2, 64, 512} {
		row := func(name string, bytes, limit func(used int) int) {
			// The least of three: the collector may begin meanwhile, and allocate.
			all, one := math.MaxInt, math.MaxInt
			for range 3 {
				all, one = min(all, bytes(cpus)), min(one, bytes(1))
			}
			if all > limit(cpus) || one > limit(1) {
				t.Errorf("%s, %d CPUs: %d bytes, %d if one is used, want at most %d and %d", name, cpus, all, one, limit(cpus), limit(1))
			}
			t.Logf("%-22s %8d %12d %12d", name, cpus, all, one)
		}
		counters := func(objects, n int) func(used int) int {
			return func(used int) int {
				a, spans := new(arena), make([]*span, objects)
				heap := allocated(func() {
					for o := range spans {
						spans[o] = makeCounters(a, n, rseq.ByCPU, cpus)[0].span.Load()
					}
				})
				kept = append(kept, spans)
				return (heap + resident(t, spans, used)) / objects
			}
		}
		// As many as fill pages.
		row("Counter", counters(page/8, 1), func(used int) int { return 200 + 8*used })
		row("Counter, not used", func(int) int {
			return allocated(func() {
				for range objects {
					memorySink = new(Counter)
				}
			}) / objects
		}, func(int) int { return 80 })
		row("Counters, 100 of them", counters(page/32, 100), func(used int) int { return 7000 + 128*8*used })
		row("RWMutex, seldom read", func(int) int {
			return allocated(func() {
				for range objects {
					memorySink = new(RWMutex)
				}
			}) / objects
		}, func(int) int { return 64 })
		row("RWMutex, much read", func(used int) int {
			a, spans := new(arena), make([]*span, page/16)
			heap := allocated(func() {
				for o := range spans {
					spans[o] = newReaders(a, rseq.ByCPU, cpus).span.Load()
				}
			})
			kept = append(kept, spans)
			return (heap + resident(t, spans, used)) / len(spans)
		}, func(used int) int { return 600 + 16*used })
		row("Histogram, 11 bounds", func(used int) int {
			const n = 12 * bucketWords
			a, spans := new(arena), make([]*span, page/8/64) // 64 words each
			heap := allocated(func() {
				for o := range spans {
					h := NewHistogram([]float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11})
					h.init(a.get(rseq.ByCPU, cpus, n), 0)
					spans[o] = h.span.Load()
				}
			})
			kept = append(kept, spans)
			return (heap + resident(t, spans, used)) / len(spans)
		}, func(used int) int { return 500 + 8*64*used })
		row("FreeList, 64 handles", func(used int) int {
			return allocated(func() {
				for range objects {
					l := newFreeList(64, rseq.ByCPU, cpus)
					for i := range used {
						atomic.StorePointer(l.entry(i), unsafe.Pointer(newBlock(64)))
					}
				}
			}) / objects
		}, func(used int) int { return 600 + 9*cpus + used*(64*8+144+64) })
		row("Slots, of 8 bytes", func(used int) int {
			return allocated(func() {
				for range objects {
					newSlots[int64](rseq.ByCPU, cpus)
				}
			}) / objects
		}, func(int) int { return 100 + 150*cpus })
	}
}

var memorySink any

// allocated returns how many bytes of Go's heap f takes and does not give back.
func allocated(f func()) int {
	defer runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// resident writes to the words of the first CPUs and returns how many bytes of memory are
// there for all.
func resident(t *testing.T, spans []*span, used int) (n int) {
	file, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	page := uintptr(os.Getpagesize())
	seen := map[uintptr]bool{}
	for _, s := range spans {
		for cpu := range uintptr(s.cpus) {
			words := unsafe.Slice((*int64)(unsafe.Add(unsafe.Pointer(s.base), cpu*s.stride)), s.n())
			for _, p := range []*int64{&words[0], &words[s.n()-1]} {
				if int(cpu) < used {
					atomic.AddInt64(p, 1)
				}
				where := uintptr(unsafe.Pointer(p)) / page
				if seen[where] {
					continue
				}
				seen[where] = true
				var entry [8]byte
				if _, err := file.ReadAt(entry[:], int64(where)*8); err != nil {
					t.Fatal(err)
				}
				if entry[7]>>6 != 0 { // present, or in swap
					n += int(page)
				}
			}
		}
	}
	return n
}
