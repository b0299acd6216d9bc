//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/testutil"
	"github.com/rseq-go/rseq/percpu"
)

// TestStepped: a debugger steps through a thread, which aborts its section at each instruction.
// Operations on the thread's own index give up, and a counter still counts.
func TestStepped(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds; not with -short")
	}
	testutil.NeedSections(t, rseq.ByCPU)
	runtime.LockOSThread() // only the thread that seized a thread may step it
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestSteppedChild$", "-test.v")
	cmd.Env = append(os.Environ(), "RSEQ_CHILD=1", "GODEBUG=asyncpreemptoff=1")
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	defer func() {
		stdin.Close()
		if t.Failed() {
			cmd.Process.Kill() // the child may be stopped
		}
		for lines.Scan() {
			t.Log("the child:", lines.Text())
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the child: %v", err)
		}
	}()
	var tid int
	var where uintptr
	if !lines.Scan() || lines.Text() != "=== RUN   TestSteppedChild" || !lines.Scan() {
		t.Fatal("the child said nothing")
	}
	if _, err := fmt.Sscanf(lines.Text(), "thread %d counts at %d", &tid, &where); err != nil {
		t.Fatalf("the child said %q: %v", lines.Text(), err)
	}
	// The counts are read from the child's memory: the stopped thread may hold a lock of Go's
	// runtime, so the child may not be able to answer.
	counts := func() (done, raced, counted int64) {
		var data [24]byte
		if _, err := unix.PtracePeekData(tid, where, data[:]); err != nil {
			t.Fatal(err)
		}
		at := func(i int) int64 { return int64(binary.NativeEndian.Uint64(data[8*i:])) }
		return at(0), at(1), at(2)
	}
	wait := func() {
		var status unix.WaitStatus
		if _, err := unix.Wait4(tid, &status, unix.WALL, nil); err != nil || !status.Stopped() {
			t.Fatalf("waiting for thread %d: %v, status %#x", tid, err, status)
		}
	}
	// Both threads are on one CPU: a step is a switch between them, and does not wait for
	// another CPU.
	cpus := testutil.AllowedCPUs(t)
	testutil.Pin(t, cpus[0])
	defer testutil.Pin(t, cpus...)
	if err := kernel.Bind(tid, cpus[0]); err != nil {
		t.Fatal(err)
	}
	if err := unix.PtraceSeize(tid); err == unix.EPERM {
		t.Skipf("this process may not trace: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	if err := unix.PtraceInterrupt(tid); err != nil {
		t.Fatal(err)
	}
	wait()
	done, raced, counted := counts()
	// 128 tries take about 2,000 steps. A counter's Add goes on in Go, whose scheduler takes
	// the thread away after 10 ms, which takes about 10,000 steps.
	const enough, tooMany, patience = 20_000, 300_000, time.Minute
	var doneStepped, racedStepped, countedStepped int64
	steps, began := 0, time.Now()
	for ; steps < tooMany; steps++ {
		if steps%100 == 0 {
			doneStepped, racedStepped, countedStepped = counts()
			if racedStepped > raced && (countedStepped > counted || !counterEnds()) || time.Since(began) > patience {
				break
			}
		}
		if err := unix.PtraceSingleStep(tid); err != nil {
			detached := unix.PtraceDetach(tid) // else the child does not end
			if err == unix.EIO && detached == nil {
				t.Skipf("no thread can be stepped here, as on riscv64: %v", err)
			}
			t.Fatal(err, detached)
		}
		wait()
	}
	if err := unix.PtraceDetach(tid); err != nil {
		t.Fatal(err)
	}
	t.Logf("in %d steps: %d done, %d raced, %d counted", steps, doneStepped-done, racedStepped-raced, countedStepped-counted)
	switch {
	case doneStepped > done+1:
		t.Error("an Add was done that was stepped through")
	case racedStepped > raced && (countedStepped > counted || !counterEnds()):
	case racedStepped <= raced && steps >= enough:
		t.Error("Cells.Add does not give up")
	case steps >= tooMany:
		t.Error("Counter.Add does not count")
	default:
		t.Skipf("this machine made %d steps in %v: too few to tell", steps, patience)
	}
}

// counterEnds reports whether Counter.Add ends on a thread that is stepped. It does not if an
// atomic operation is a loop (arm64 before 8.1), since each step makes that begin again; nor on
// emulated machines, which are so slow that Go's scheduler takes the thread away at each call.
func counterEnds() bool {
	return !testutil.Guest() && (runtime.GOARCH != "arm64" || cpu.ARM64.HasATOMICS)
}

// TestSteppedChild adds on one thread until its input ends.
func TestSteppedChild(t *testing.T) {
	childOnly(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4)) // one is in the loop and is never free
	data := newShares(t)
	cells, counter := data.cells(0), percpu.NewCounter()
	var n struct{ done, raced, counted int64 } // written by one thread, read by two
	var stop atomic.Bool
	var tid atomic.Int64
	go func() {
		for atomic.LoadInt64(&n.done) == 0 {
			runtime.Gosched()
		}
		fmt.Printf("thread %d counts at %d\n", tid.Load(), uintptr(unsafe.Pointer(&n)))
		io.Copy(io.Discard, os.Stdin)
		stop.Store(true)
	}()
	testutil.OnThread(func() {
		if err := rseq.CriticalSections(rseq.ByCPU); err != nil {
			t.Error(err)
			return
		}
		tid.Store(int64(unix.Gettid()))
		// The counter is used once Cells.Add gave up. Until then the loop never enters Go's
		// scheduler, however slow the steps are.
		for !stop.Load() {
			switch s := cells.Add(1); s {
			case rseq.Done:
				atomic.StoreInt64(&n.done, n.done+1)
			case rseq.Raced:
				atomic.StoreInt64(&n.raced, n.raced+1)
			default:
				t.Error(s)
				return
			}
			if n.raced > 0 && counterEnds() {
				counter.Add(1)
				atomic.StoreInt64(&n.counted, n.counted+1)
			}
		}
	})
	if sum := data.sum(0); sum != n.done {
		t.Errorf("the cells have %d, %d were done", sum, n.done)
	}
	if sum := counter.Value(); sum != n.counted {
		t.Errorf("the counter has %d, %d were counted", sum, n.counted)
	}
}
