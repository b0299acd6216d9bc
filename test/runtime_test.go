//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"runtime/trace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/testutil"
)

// TestStackMoves: sections work on data on stacks, which grow and move meanwhile.
func TestStackMoves(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range testutil.Repeat(300) {
				done := make(chan int64)
				go func() { done <- onStack(t, 60) }()
				if n := <-done; n != 60*2 {
					t.Errorf("%d adds, want %d", n, 60*2)
				}
			}
		})
	}
	wg.Wait()
}

// onStack adds to words of its frame before and after its stack grows.
func onStack(t *testing.T, depth int) (sum int64) {
	if depth == 0 {
		return 0
	}
	var word, item int64
	cells := rseq.Cells{Base: &word, N: 1 << 30} // one word for all CPUs
	add := func() {
		for {
			s := cells.Add(1)
			if s == rseq.Done {
				return
			}
			if err := rseq.CriticalSections(rseq.ByCPU); err != nil {
				t.Error(err)
				return
			}
		}
	}
	add()
	sum = onStack(t, depth-1)
	add()
	for i, err := rseq.CPU(); err == nil; i, err = rseq.CPU() {
		if s := rseq.ByCPU.LoadCBNEStoreStore(&word, 2, &item, 7, 3, i); s == rseq.Done {
			break
		} else if s != rseq.Raced {
			t.Error(s)
			break
		}
	}
	if item != 7 || word != 3 {
		t.Errorf("item %d, word %d", item, word)
	}
	return sum + word - 1
}

// TestBillion: 64 goroutines add a billion times while the affinity of some threads changes each
// millisecond. With -short it is a hundredth of that.
func TestBillion(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	const goroutines = 64
	each := testutil.Repeat(1_000_000_000) / goroutines
	if testing.Short() {
		each /= 100
	}
	data := newShares(t)
	cells := data.cells(0)
	cpus := testutil.AllowedCPUs(t)
	// Each goroutine has a thread of its own, so that the kernel preempts them.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2 * goroutines))
	stop := make(chan struct{})
	var mover, wg sync.WaitGroup
	moves := 0
	mover.Go(func() {
		// With real-time priority, if that is allowed. The thread ends with the goroutine.
		runtime.LockOSThread()
		unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
		all := unix.NewCPUSet(rseq.PossibleCPUs())
		for _, cpu := range cpus {
			all.Set(cpu)
		}
		// set sets the affinity of every n-th thread, beginning with number first.
		set := func(mask unix.CPUSetDynamic, first, n int) {
			tasks, _ := os.ReadDir("/proc/self/task")
			for i := first; i < len(tasks); i += n {
				var tid int
				fmt.Sscan(tasks[i].Name(), &tid)
				if tid != unix.Gettid() {
					unix.SchedSetaffinityDynamic(tid, mask)
				}
			}
		}
		defer set(all, 0, 1)
		for ; ; moves++ {
			select {
			case <-stop:
				return
			default:
				unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
				mask := unix.NewCPUSet(rseq.PossibleCPUs())
				mask.Set(cpus[moves%len(cpus)])
				if moves%3 == 0 {
					mask = all
				}
				set(mask, moves%16, 16)
			}
		}
	})
	for range goroutines {
		wg.Go(func() {
			for range each {
				for {
					s := cells.Add(1)
					if s == rseq.Done {
						break
					}
					if err := rseq.CriticalSections(rseq.ByCPU); err != nil {
						t.Error(s, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	mover.Wait()
	equal(t, "sum", data.sum(0), int64(goroutines*each))
	t.Logf("%d adds, the affinity changed %d times", goroutines*each, moves)
}

// TestObserved: a program adds while it is profiled, traced, sent signals, and its stacks are
// printed and collected, all at once. No add is lost, and the profile can be read.
func TestObserved(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	duration := 500 * time.Millisecond
	if testutil.Long() {
		duration = 5 * time.Second
	}
	profile := filepath.Join(t.TempDir(), "cpu")
	file, err := os.Create(profile)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := pprof.StartCPUProfile(file); err != nil {
		t.Skip(err) // the test run itself is profiled
	}
	var traced bytes.Buffer
	if err := trace.Start(&traced); err != nil {
		t.Log(err) // the test run itself is traced
	}
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	var stop atomic.Bool
	var wg, watchers sync.WaitGroup
	data := newShares(t)
	cells := data.cells(0)
	var done [8]int64
	for g := range done {
		wg.Go(func() {
			n := int64(0)
			var keep []*int64
			for !stop.Load() {
				for range 1000 {
					for cells.Add(1) != rseq.Done {
						if err := rseq.CriticalSections(rseq.ByCPU); err != nil {
							t.Error(err)
							return
						}
					}
					n++
				}
				keep = append(keep[:len(keep)%100], new(int64)) // garbage for the collector
				grow(20)
			}
			done[g] = n
		})
	}
	watchers.Go(func() {
		buffer := make([]byte, 1<<20)
		for !stop.Load() {
			runtime.Stack(buffer, true)
		}
	})
	watchers.Go(func() {
		for !stop.Load() {
			unix.Kill(unix.Getpid(), unix.SIGURG)
		}
	})
	// Samples are taken by the time that the process spends on CPUs.
	for begin := ran(t); ran(t)-begin < duration; {
		time.Sleep(10 * time.Millisecond)
	}
	stop.Store(true)
	wg.Wait()
	watchers.Wait()
	trace.Stop()
	pprof.StopCPUProfile()
	total := int64(0)
	for _, n := range done {
		total += n
	}
	equal(t, "sum", data.sum(0), total)
	if _, err := exec.LookPath("go"); err != nil || testing.Short() {
		return
	}
	top := testutil.Run(t, nil, "go", "tool", "pprof", "-top", "/proc/self/exe", profile)
	for _, name := range []string{"runtime._ExternalCode", "TestObserved"} {
		if !strings.Contains(top, name) {
			t.Errorf("the profile does not show %s:\n%s", name, top)
		}
	}
}

// ran returns how long the process's threads have run on CPUs.
func ran(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// grow makes the goroutine's stack grow.
func grow(n int) int {
	var room [64]int
	if n == 0 {
		return room[0]
	}
	room[n] = n
	return grow(n-1) + room[n]
}
