//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/section"
	"github.com/rseq-go/rseq/internal/testutil"
)

// inChild runs a test in a child process, which is bound to a CPU unless cpu is negative.
func inChild(t *testing.T, test string, cpu int, env ...string) string {
	t.Helper()
	var out []byte
	var err error
	testutil.OnThread(func() {
		if cpu >= 0 {
			testutil.Pin(t, cpu) // the child inherits the affinity
		}
		cmd := exec.Command("/proc/self/exe", "-test.run", test, "-test.v", "-test.short")
		cmd.Env = append(append(os.Environ(), "RSEQ_CHILD=1"), env...)
		out, err = cmd.CombinedOutput()
	})
	if err != nil || !bytes.Contains(out, []byte("--- PASS")) {
		t.Errorf("%s: %v\n%s", test, err, out)
	}
	return string(out)
}

// childOnly skips a test that needs a new process, unless inChild runs it.
func childOnly(t *testing.T) {
	if os.Getenv("RSEQ_CHILD") == "" {
		t.Skip("run by another test, in a child process")
	}
}

func TestNewProcess(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	inChild(t, "^TestRefusedAtFirst$", -1)
	if info, err := rseq.Query(); err == nil && info.Owner != rseq.OwnerForeign {
		area := fmt.Sprintf("RSEQ_AREA=%d %d %d", info.Offset, info.RegisteredLen, info.Signature)
		inChild(t, "^TestRestored$", -1, area)
		inChild(t, "^TestRestored$", -1, area, "RSEQ_ASKED=1")
	}
	if os.Getenv("RSEQ_CHILD") == "" {
		inChild(t, "^TestNewProcess$", -1, testutil.TunableOff)
	}
	cpus := testutil.AllowedCPUs(t)
	inChild(t, "^TestHighestCPU$", cpus[len(cpus)-1])
	if !testing.Short() {
		// On one CPU the threads of a storm preempt each other.
		inChild(t, "^TestStorm(Counter|Spinlock|List)$", cpus[0])
	}
}

// TestRefusedAtFirst: until CriticalSections was called no operation takes effect.
func TestRefusedAtFirst(t *testing.T) {
	childOnly(t)
	for _, x := range []rseq.Index{rseq.ByCPU, rseq.ByConcurrencyID} {
		i, err := x.Current()
		if err != nil {
			continue
		}
		data := newShares(t)
		for range 2 {
			for _, op := range ops() {
				if s, changed := op.run(t, x, i); s != rseq.NotRegistered || changed != 0 {
					t.Errorf("%v %s: %v, changed by %d", x, op.name, s, changed)
				}
			}
			if s := add(x, data.cells(0), 1); s != rseq.NotRegistered || data.sum(0) != 0 {
				t.Errorf("%v add: %v, sum %d", x, s, data.sum(0))
			}
		}
	}
	runtime.LockOSThread() // CriticalSections registers this thread only
	defer runtime.UnlockOSThread()
	if err := rseq.CriticalSections(rseq.ByCPU); err != nil {
		t.Fatal(err)
	}
	if info, err := rseq.Query(); !info.CriticalSections || err != nil {
		t.Errorf("%+v, %v", info, err)
	}
	if s := newShares(t).cells(0).Add(1); s != rseq.Done {
		t.Error(s)
	}
}

// TestRestored: after a restore the area of a thread has the values of the checkpoint, but the
// kernel no longer knows it. The first Query finds that out, and later Thread.Confirm does.
// Then the area is no longer read.
func TestRestored(t *testing.T) {
	childOnly(t)
	var offset int
	var length, signature uint32
	if _, err := fmt.Sscan(os.Getenv("RSEQ_AREA"), &offset, &length, &signature); err != nil {
		t.Fatal(err)
	}
	testutil.OnThread(func() {
		cpus := testutil.AllowedCPUs(t)
		testutil.Pin(t, cpus[len(cpus)-1])
		rseq.CPU()                             // registers the thread if the area is our own
		asked := os.Getenv("RSEQ_ASKED") != "" // the kernel was asked before the checkpoint
		if asked {
			if err := rseq.CriticalSections(rseq.ByCPU); err != nil {
				t.Error(err)
			}
		}
		if testutil.UnregisterArea(t, offset, length, signature); t.Failed() {
			return
		}
		const stale = 12345
		atomic.StoreInt32((*int32)(unsafe.Add(section.ThreadPointer(), offset+abi.OffsetCPUID)), stale)
		if cpu, _ := rseq.CPU(); cpu != stale {
			t.Errorf("CPU %d before the kernel was asked, want the area's %d", cpu, stale)
		}
		if cpu := testutil.CRegisterThread(); cpu != stale {
			t.Errorf("C reads CPU %d before the kernel was asked, want the area's %d", cpu, stale)
		}
		if asked {
			th, err := rseq.LockThread()
			if err != nil {
				t.Error(err)
				return
			}
			defer th.Unlock()
			if info, err := rseq.Query(); info.Confirmed != rseq.Confirmed || err != nil {
				t.Errorf("what the kernel said is asked for again: %+v, %v", info, err)
			}
			other, err := rseq.LockThread()
			if err != nil {
				t.Error(err)
				return
			}
			defer other.Unlock()
			if c := th.Confirm(); c != rseq.Refuted {
				t.Error(c)
			}
			if c := other.Confirm(); c != rseq.NotAsked {
				t.Error(c)
			}
			for _, th := range []*rseq.Thread{th, other} {
				if cpu, err := th.CPU(); cpu != cpus[len(cpus)-1] || err != nil {
					t.Errorf("CPU %d, %v", cpu, err)
				}
			}
		}
		info, err := rseq.Query()
		if info.Owner != rseq.OwnerNone || info.Confirmed != rseq.Refuted || err == nil {
			t.Errorf("%+v, %v", info, err)
		}
		t.Log(err)
		if cpu, err := rseq.CPU(); cpu != cpus[len(cpus)-1] || err != nil {
			t.Errorf("CPU %d, %v", cpu, err)
		}
		if cpu := testutil.CRegisterThread(); cpu >= 0 {
			t.Errorf("C reads CPU %d", cpu)
		}
		if err := rseq.CriticalSections(rseq.ByCPU); err == nil {
			t.Error("critical sections are said to work")
		}
		if s := newShares(t).cells(0).Add(1); s != rseq.NotRegistered {
			t.Error(s)
		}
	})
}

// TestHighestCPU: a process that may use the highest CPU only has one CPU, but needs cells for
// all.
func TestHighestCPU(t *testing.T) {
	childOnly(t)
	testutil.NeedSections(t, rseq.ByCPU)
	data := newShares(t)
	cpu, _ := rseq.CPU()
	if s := data.cells(0).Add(1); s != rseq.Done || *data.at(cpu, 0) != 1 {
		t.Errorf("%v on CPU %d", s, cpu)
	}
	few := data.cells(1)
	few.N = runtime.NumCPU()
	want := rseq.OutOfRange
	if cpu < few.N {
		want = rseq.Done
	}
	if s := few.Add(1); s != want {
		t.Errorf("%v with %d cells on CPU %d, want %v", s, few.N, cpu, want)
	}
	few.N = -1
	if s := few.Add(1); s != rseq.OutOfRange {
		t.Errorf("%v with -1 cells", s)
	}
}
