package percpu

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
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
	testutil.NeedSections(t, rseq.ByCPU)
	info, _ := rseq.Query()
	if info.Owner != rseq.OwnerLibc {
		t.Skipf("a thread of owner %v registers again", info.Owner)
	}
	const threads, rounds = 8, 5000
	c, l := NewCounter(), NewFreeList(100)
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
				if err := rseq.CriticalSections(rseq.ByCPU); err == nil || errors.Is(err, rseq.ErrNotSupported) {
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
	if got := c.Load(); got != threads*rounds {
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
	var last unix.CPUSet
	last.Set(cpus[len(cpus)-1])
	for range 2 {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			var tid int
			fmt.Sscan(task.Name(), &tid)
			if err := unix.SchedSetaffinity(tid, &last); err != nil && !errors.Is(err, unix.ESRCH) {
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

// TestFenceRefused: without membarrier the lists are drained by visiting their CPUs,
// and where that is refused too, they are shared ones from the start.
func TestFenceRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program; not with -short")
	}
	testutil.NeedSections(t, rseq.ByCPU)
	filter := testutil.GoBuild(t, "../testdata/filter", nil)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ calls, tests, want string }{
		{"membarrier", "TestStorm.*|TestFreeList|TestOffAffinity", "sections true"},
		{"membarrier,sched_setaffinity", "TestReuse", "sections false"},
	} {
		out := testutil.Run(t, []string{"RSEQ_CHILD=1"}, filter, "EPERM:"+c.calls, self,
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

// TestMemory measures what objects take, as if there were so many CPUs and each were
// used, and as if one were. go test -v -run TestMemory ./percpu prints the table.
func TestMemory(t *testing.T) {
	if racing {
		t.Skip("the race detector needs memory of its own")
	}
	const objects = 64 // so that what else allocates does not matter
	page := os.Getpagesize()
	var kept [][][]Counter // so that nothing is given back meanwhile
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
				a, lists := new(arena), make([][]Counter, objects)
				heap := allocated(func() {
					for o := range lists {
						lists[o] = makeCounters(a, n, rseq.ByCPU, cpus)
					}
				})
				kept = append(kept, lists)
				return (heap + resident(t, lists, used)) / objects
			}
		}
		// As many as fill pages.
		row("Counter", counters(page/8, 1), func(used int) int { return 200 + 8*used })
		row("Counters, 100 of them", counters(page/32, 100), func(used int) int { return 7000 + 128*8*used })
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

// allocated returns how many bytes of Go's heap f takes and does not give back.
func allocated(f func()) int {
	defer runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// resident counts in the words of the first CPUs and returns how many bytes of memory
// are there for all.
func resident(t *testing.T, lists [][]Counter, used int) (n int) {
	file, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	page := uintptr(os.Getpagesize())
	seen := map[uintptr]bool{}
	for _, list := range lists {
		c := &list[0].cells
		for cpu := range c.N {
			first := uintptr(cpu) * c.Stride
			for _, word := range []uintptr{first, first + 8*uintptr(len(list)-1)} {
				p := (*int64)(unsafe.Add(unsafe.Pointer(c.Base), word))
				if cpu < used {
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
