//go:build linux

package test

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/processor"
	"github.com/rseq-go/rseq/internal/testutil"
)

// readers compares the ways to read CPU and node on a locked thread, and returns both.
func readers(t *testing.T, th *rseq.Thread) (cpu, node int) {
	t.Helper()
	pairs := [][2]func() (int, error){{rseq.CPU, th.CPU}, {rseq.NodeID, th.NodeID}}
	var got [2]int
	for i, p := range pairs {
		a, errA := p[0]()
		b, errB := p[1]()
		if errA != nil || errB != nil || a != b {
			t.Errorf("reader %d: function says %d, %v; method says %d, %v", i, a, errA, b, errB)
		}
		got[i] = a
	}
	return got[0], got[1]
}

// TestPinned pins a thread to each CPU that it may use. Every way of reading must return that
// CPU and its node.
func TestPinned(t *testing.T) {
	for _, cpu := range testutil.AllowedCPUs(t) {
		testutil.OnThread(func() {
			testutil.Pin(t, cpu)
			th, err := rseq.LockThread()
			if err != nil {
				t.Error(err)
				return
			}
			defer th.Unlock()
			gotCPU, gotNode := readers(t, th)
			_, node, err := kernel.Getcpu()
			if gotCPU != cpu || gotNode != node || err != nil {
				t.Errorf("pinned to CPU %d of node %d (%v), got %d, %d", cpu, node, err, gotCPU, gotNode)
			}
		})
	}
}

// TestMigration moves goroutines between threads and CPUs: each pins its thread to one CPU after
// another while GOMAXPROCS changes.
func TestMigration(t *testing.T) {
	rounds := 50
	switch {
	case testutil.Long():
		rounds = 2000
	case testing.Short():
		rounds = 10
	}
	rounds = testutil.Repeat(rounds)
	cpus := testutil.AllowedCPUs(t)
	procs := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(procs)
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for i := range rounds {
				cpu := cpus[(g+i)%len(cpus)]
				testutil.OnThread(func() {
					testutil.Pin(t, cpu)
					for range 10 {
						if got, err := rseq.CPU(); got != cpu || err != nil {
							t.Errorf("pinned to %d, read %d, %v", cpu, got, err)
						}
						runtime.Gosched()
					}
				})
			}
		})
	}
	stop := make(chan struct{})
	var changer sync.WaitGroup
	changer.Go(func() {
		for n := 1; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				runtime.GOMAXPROCS(1 + n%(2*procs))
			}
		}
	})
	wg.Wait()
	close(stop)
	changer.Wait()
}

// TestConcurrencyID: the function and the method return an id, or an error if the area has none.
func TestConcurrencyID(t *testing.T) {
	info, _ := rseq.Query()
	th, err := rseq.LockThread()
	if err != nil {
		t.Fatal(err)
	}
	defer th.Unlock()
	id, err := rseq.ConcurrencyID()
	methodID, methodErr := th.ConcurrencyID()
	if !info.Features.Has(rseq.FeatureMMCID) {
		for _, err := range []error{err, methodErr} {
			if !errors.Is(err, rseq.ErrNotSupported) {
				t.Errorf("no mm_cid here, but the error is %v", err)
			}
		}
		if id != -1 || methodID != -1 {
			t.Errorf("%d and %d, want -1", id, methodID)
		}
		return
	}
	if err != nil || methodErr != nil {
		t.Fatal(err, methodErr)
	}
	if id < 0 || id >= 1<<20 || methodID < 0 {
		t.Errorf("%d, %d", id, methodID)
	}
}

// TestConcurrencyIDsDiffer runs two threads on two CPUs at the same time: their ids differ.
func TestConcurrencyIDsDiffer(t *testing.T) {
	info, _ := rseq.Query()
	cpus := testutil.AllowedCPUs(t)
	if !info.Features.Has(rseq.FeatureMMCID) || len(cpus) < 2 {
		t.Skipf("features %v, %d CPUs", info.Features, len(cpus))
	}
	// Both threads spin while the ids are read, so both run, unless the machine took a CPU
	// away: retry.
	for try := range 100 {
		if a, b := idsOfTwo(t, cpus[:2]); a != b {
			return
		} else if try == 99 {
			t.Errorf("two running threads had id %d both, 100 times", a)
		}
	}
}

func idsOfTwo(t *testing.T, cpus []int) (a, b int) {
	var ids [2]int
	var rounds [2]atomic.Int64
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			testutil.OnThread(func() {
				testutil.Pin(t, cpus[i])
				// Each runs until it has seen the other one make some rounds.
				for begin := rounds[1-i].Load(); rounds[1-i].Load() < begin+1000; {
					ids[i], _ = rseq.ConcurrencyID()
					rounds[i].Add(1)
				}
				rounds[i].Add(1000) // so that the other one ends too
			})
		})
	}
	wg.Wait()
	return ids[0], ids[1]
}

// TestUnlocked: after Unlock the methods of a Thread return errors.
func TestUnlocked(t *testing.T) {
	th, err := rseq.LockThread()
	if err != nil {
		t.Fatal(err)
	}
	th.Unlock()
	th.Unlock()
	for i, ask := range []func() (int, error){th.CPU, th.NodeID, th.ConcurrencyID} {
		if n, err := ask(); n != -1 || err == nil {
			t.Errorf("method %d: %d, %v", i, n, err)
		}
	}
}

// TestTwoReads: the compiler must not merge two readings into one. If it did, a loop that waits
// until its thread is on another CPU would never end.
func TestTwoReads(t *testing.T) {
	cpus := testutil.AllowedCPUs(t)
	if len(cpus) < 2 {
		t.Skip("one CPU")
	}
	tid, moved := make(chan int), make(chan int)
	go testutil.OnThread(func() {
		defer close(tid)
		testutil.Pin(t, cpus[0])
		th, err := rseq.LockThread()
		if err != nil {
			t.Error(err)
			return
		}
		defer th.Unlock()
		tid <- unix.Gettid()
		now := cpus[0]
		for now == cpus[0] {
			now, _ = th.CPU()
		}
		moved <- now
	})
	thread, ok := <-tid
	if !ok {
		return
	}
	// After this time on a CPU it is in the loop.
	for begin := testutil.ThreadTime(t, thread); testutil.ThreadTime(t, thread) < begin+5*time.Millisecond; {
		runtime.Gosched()
	}
	if err := kernel.Bind(thread, cpus[1]); err != nil {
		t.Fatal(err)
	}
	select {
	case cpu := <-moved:
		if cpu != cpus[1] {
			t.Errorf("CPU %d after a move to %d", cpu, cpus[1])
		}
	case <-time.After(testutil.Patience()):
		t.Error("the loop does not see that its thread has moved")
	}
}

func TestErrNotSupported(t *testing.T) {
	if !errors.Is(rseq.ErrNotSupported, errors.ErrUnsupported) {
		t.Error("ErrNotSupported does not match errors.ErrUnsupported")
	}
	if errors.Is(errors.ErrUnsupported, rseq.ErrNotSupported) {
		t.Error("errors.ErrUnsupported matches ErrNotSupported")
	}
}

// TestProcessor: a thread without an area reads the right CPU and node, by an instruction of the
// processor if that agrees with getcpu(2).
func TestProcessor(t *testing.T) {
	report := processor.Again()
	t.Log(report)
	if (report.Way == "getcpu(2)") != (processor.CPU() < 0) || report.Way == "getcpu(2)" && report.Reason == "" {
		t.Errorf("CPU %d, %v", processor.CPU(), report)
	}
	// A guest's processors are qemu's, whose instructions read the right number.
	if testutil.Guest() && runtime.GOARCH == "amd64" {
		data, err := os.ReadFile("/proc/cpuinfo")
		flags := strings.Fields(string(data))
		want := slices.Contains(flags, "rdtscp") || slices.Contains(flags, "rdpid")
		if want != (report.Way != "getcpu(2)") || err != nil {
			t.Errorf("%v, though that the processor has an instruction is %v, %v", report, want, err)
		}
	}
	info, _ := rseq.Query()
	for _, cpu := range testutil.AllowedCPUs(t) {
		testutil.OnThread(func() {
			testutil.Pin(t, cpu)
			if info.Owner == rseq.OwnerLibc {
				testutil.Unregister(t)
			}
			_, node, err := kernel.Getcpu()
			got, errCPU := rseq.CPU()
			gotNode, errNode := rseq.NodeID()
			if got != cpu || gotNode != node || errors.Join(err, errCPU, errNode) != nil {
				t.Errorf("pinned to CPU %d of node %d (%v): %d, %v and %d, %v", cpu, node, err, got, errCPU, gotNode, errNode)
			}
		})
	}
}
