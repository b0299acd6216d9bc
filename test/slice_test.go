//go:build linux

package test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/testutil"
)

// extension reports whether the kernel has enabled the time slice extension of this thread.
func extension() bool {
	on, err := unix.PrctlRetInt(unix.PR_RSEQ_SLICE_EXTENSION, unix.PR_RSEQ_SLICE_EXTENSION_GET, 0, 0, 0)
	return err == nil && on == unix.PR_RSEQ_SLICE_EXT_ENABLE
}

// TestSliceExtension enables the extension if the kernel has it. If not, the error names what is
// missing.
func TestSliceExtension(t *testing.T) {
	testutil.OnThread(func() {
		th, err := rseq.LockThread()
		if err != nil {
			t.Error(err)
			return
		}
		info, _ := rseq.Query()
		missing := ""
		switch {
		case info.Owner == rseq.OwnerNone:
			missing = info.Reason
		case info.KernelFeatureSize < abi.NeedsSliceCtrl:
			missing = fmt.Sprintf("it needs Linux 7.0, this kernel has %d bytes", info.KernelFeatureSize)
		case info.Mode == rseq.ModeLegacy:
			missing = "it needs a registration of more than 32 bytes"
		case unix.Prctl(unix.PR_RSEQ_SLICE_EXTENSION, unix.PR_RSEQ_SLICE_EXTENSION_SET, 0, 0, 0) == unix.Errno(524):
			missing = "this kernel was built without CONFIG_RSEQ_SLICE_EXTENSION, or started with rseq_slice_ext=off"
		}
		for range 2 {
			err = th.EnableSliceExtension()
			switch {
			case missing == "":
				if err != nil || !extension() {
					t.Errorf("enabled: %v, %v", extension(), err)
				}
			case info.Owner != rseq.OwnerNone && !errors.Is(err, rseq.ErrNotSupported) || !strings.Contains(err.Error(), missing) || extension():
				t.Errorf("enabled: %v, %v, want %q", extension(), err, missing)
			}
		}
		t.Log(err)
		for range 3 {
			if missing != "" { // RequestSlice does nothing
				th.RequestSlice()
			}
			if o := th.YieldSlice(); o != rseq.SliceUnused {
				t.Errorf("%v without a request", o)
			}
		}
		th.Unlock()
		if extension() {
			t.Error("it is still enabled after Unlock")
		}
		th.RequestSlice()
		if o := th.YieldSlice(); o != rseq.SliceUnused {
			t.Errorf("%v after Unlock", o)
		}
		if err := th.EnableSliceExtension(); err == nil {
			t.Error("enabled after Unlock")
		}
	})
	for o, text := range map[rseq.SliceOutcome]string{rseq.SliceUnused: "unused", rseq.SliceYielded: "yielded", rseq.SliceRevoked: "revoked"} {
		if o.String() != text {
			t.Errorf("%v, want %s", o, text)
		}
	}
}

// TestSliceOutcomes runs two threads on one CPU, one of which extends its time slice, and compares
// what YieldSlice returned with the kernel's own counts.
func TestSliceOutcomes(t *testing.T) {
	th, err := rseq.LockThread()
	if err != nil {
		t.Skip(err)
	}
	err = th.EnableSliceExtension()
	th.Unlock()
	if err != nil {
		if !errors.Is(err, rseq.ErrNotSupported) {
			t.Error(err)
		}
		t.Skip(err)
	}
	const debugfs = "/sys/kernel/debug/rseq/"
	// The default of 5 microseconds is too little for an emulated machine. A guest runs
	// nothing else, so it is changed there, and on no other machine.
	if testutil.Guest() {
		if err := os.WriteFile(debugfs+"slice_ext_nsec", []byte("50000"), 0); err != nil {
			t.Error(err)
		}
	}
	stats := func() map[string]int {
		text, _ := os.ReadFile(debugfs + "stats")
		counts := map[string]int{}
		for line := range strings.Lines(string(text)) {
			var name string
			var n int
			if _, err := fmt.Sscan(strings.ReplaceAll(line, ":", " "), &name, &n); err == nil {
				counts[name] = n
			}
		}
		return counts
	}
	cpu := testutil.AllowedCPUs(t)[0]
	var stop atomic.Bool
	var others sync.WaitGroup
	others.Go(func() {
		testutil.OnThread(func() {
			testutil.Pin(t, cpu)
			for !stop.Load() { // wakes up often, and preempts the other thread
				for began := time.Now(); time.Since(began) < 2*time.Microsecond; {
				}
				unix.Nanosleep(&unix.Timespec{Nsec: 50000}, nil)
			}
		})
	})
	for _, c := range []struct {
		name     string
		length   time.Duration // of the work that is not to be preempted
		call     bool          // it ends with a system call
		expected rseq.SliceOutcome
		counter  string // the kernel's count of these outcomes
	}{
		{"short", 20 * time.Microsecond, false, rseq.SliceYielded, "syield"},
		{"too long", 2 * time.Millisecond, false, rseq.SliceRevoked, "sexpir"},
		{"system call", 20 * time.Microsecond, true, rseq.SliceRevoked, "sabort"},
	} {
		var count [3]int
		before := stats()
		testutil.OnThread(func() {
			testutil.Pin(t, cpu)
			th, err := rseq.LockThread()
			if err != nil {
				t.Error(err)
				return
			}
			defer th.Unlock()
			if err := th.EnableSliceExtension(); err != nil {
				t.Error(err)
				return
			}
			// Until the expected outcome was seen, and for two seconds at least.
			patience := testutil.Patience()
			for begin := time.Now(); time.Since(begin) < 2*time.Second || count[c.expected] == 0 && time.Since(begin) < patience; {
				th.RequestSlice()
				for began := time.Now(); time.Since(began) < c.length; {
				}
				if c.call {
					unix.Getppid()
				}
				count[th.YieldSlice()]++
			}
		})
		after := stats()
		counted := map[string]int{}
		for name, n := range after {
			counted[name] = n - before[name]
		}
		yielded, revoked := count[rseq.SliceYielded], count[rseq.SliceRevoked]
		t.Logf("%s: unused %d, yielded %d, revoked %d; the kernel granted %d, of which %d yielded, %d ended by a system call, %d by time",
			c.name, count[rseq.SliceUnused], yielded, revoked, counted["sgrant"], counted["syield"], counted["sabort"], counted["sexpir"])
		if count[c.expected] == 0 {
			t.Errorf("%s: never %v", c.name, c.expected)
		}
		if c.call && yielded > revoked { // now and then a slice is granted after the call
			t.Errorf("%s: yielded %d times, revoked only %d times", c.name, yielded, revoked)
		}
		if len(counted) == 0 && !testutil.Guest() {
			t.Log("the kernel's own counts cannot be read")
		} else if counted["syield"] != yielded || counted[c.counter] == 0 {
			t.Errorf("%s: the kernel counted %v", c.name, counted)
		}
	}
	stop.Store(true)
	others.Wait()
}
