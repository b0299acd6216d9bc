//go:build linux

package test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/section"
	"github.com/rseq-go/rseq/internal/testutil"
)

// TestAbortAtEachPoint delays each section at each of its points, and meanwhile sends its thread
// a signal, moves it to another CPU, or fences: the section must not take effect.
func TestAbortAtEachPoint(t *testing.T) {
	inject := testutil.Inject()
	if inject == nil {
		t.Skip("the delay loops are not compiled in; TestInjected runs this")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4)) // every thread of the test runs
	for _, x := range []rseq.Index{rseq.ByCPU, rseq.ByConcurrencyID} {
		for _, disturbance := range []string{"signal", "migration", "membarrier", "visit", "Fence"} {
			fence := fences[disturbance]
			which, last := append(ops(), op{"add", nil}), 5
			if fence != nil {
				which, last = ops(), 3 // operations that end after a fence, aborted or not
			}
			for _, op := range which {
				t.Run(fmt.Sprintf("%v/%s/%s", x, disturbance, op.name), func(t *testing.T) {
					testutil.NeedSections(t, x)
					if len(testutil.AllowedCPUs(t)) < 2 && disturbance == "migration" {
						t.Skip("one CPU")
					}
					if fence != nil {
						if err := fence(-1); disturbance == "membarrier" && errors.Is(err, unix.EINVAL) {
							t.Skipf("membarrier for critical sections, Linux 5.10 (on riscv64 6.9): %v", err)
						}
					}
					held := 0
					for point := 2; point <= last; point++ {
						h := holdUp{T: t, x: x, op: op, point: point, disturbance: disturbance, delay: &inject[point]}
						if h.run() {
							held++
						}
					}
					if held < 2 { // each has the points 2 and 3
						t.Errorf("held up at %d points", held)
					}
				})
			}
		}
	}
}

// fences are the ways to fence all CPUs. A concurrency id may be on any CPU, so a fence of one
// id fences all CPUs as well.
var fences = map[string]func(cpu int) error{"membarrier": kernel.Membarrier, "visit": kernel.Visit,
	"Fence": func(int) error { return rseq.ByConcurrencyID.Fence(0) }}

// holdUp is an operation that is delayed at a point.
type holdUp struct {
	*testing.T
	x           rseq.Index
	op          op
	point       int
	disturbance string
	delay       *int32

	tid       int
	other     int    // the CPU that the thread is moved to
	armed     *int64 // the thread's rseq_cs, which the section sets before it starts
	ended     atomic.Bool
	disturbed bool // the thread was disturbed, during the section or too late
	released  bool // the delay was ended
}

// run returns false if the operation does not have the point.
func (h *holdUp) run() (there bool) {
	info, err := rseq.Query()
	if err != nil {
		h.Error(err)
	}
	tries := 0
	for begin := time.Now(); time.Since(begin) < testutil.Patience(); tries++ {
		again := false
		testutil.OnThread(func() { there, again = h.try(info.Offset) })
		if !again {
			return there
		}
	}
	h.Skipf("point %d: %d times something else came first", h.point, tries)
	return false
}

// try runs the operation once. The caller made the thread for it.
func (h *holdUp) try(offset int) (there, again bool) {
	cpus := testutil.AllowedCPUs(h)
	slices.Reverse(cpus) // a fence that misses a CPU misses the last
	testutil.Pin(h, cpus[0])
	if err := rseq.CriticalSections(h.x); err != nil {
		h.Error(err)
		return false, false
	}
	h.tid, h.armed = unix.Gettid(), (*int64)(unsafe.Add(section.ThreadPointer(), offset+abi.OffsetRseqCS))
	h.disturbed, h.released = false, false
	h.other = cpus[len(cpus)-1]
	h.ended.Store(false)
	atomic.StoreInt64(h.armed, 0)
	atomic.StoreInt32(h.delay, 1<<30)
	var wg sync.WaitGroup
	wg.Go(h.disturb)

	data := newShares(h)
	var s rseq.Status
	changed := int64(0)
	if h.op.run == nil {
		s = add(h.x, data.cells(0), 1)
		changed = data.sum(0)
	} else {
		i, err := h.x.Current()
		if err != nil {
			h.Error(err)
		}
		s, changed = h.op.run(h.T, h.x, i)
	}
	h.ended.Store(true)
	wg.Wait()
	atomic.StoreInt32(h.delay, 0)

	switch {
	case s == rseq.Done && !h.released:
		return false, false // there was no delay
	case !h.disturbed:
		return true, true // something else interrupted it
	case h.op.run == nil: // the operation starts again by itself
		if s != rseq.Done || changed == 0 {
			h.Errorf("point %d: %v, changed by %d, want done", h.point, s, changed)
		}
		if h.x == rseq.ByCPU && h.disturbance == "migration" && *data.at(h.other, 0) == 0 {
			h.Errorf("point %d: moved to CPU %d, it added to another one's word", h.point, h.other)
		}
	case s != rseq.Raced || changed != 0:
		h.Errorf("point %d: %v, changed by %d, want raced and nothing", h.point, s, changed)
	}
	return true, false
}

// disturb waits until the section runs and disturbs its thread. If the section goes on, disturb
// ends the delay.
func (h *holdUp) disturb() {
	for atomic.LoadInt64(h.armed) == 0 {
		if h.ended.Load() {
			return
		}
		testutil.Yield()
	}
	var err error
	switch h.disturbance {
	case "signal":
		err = unix.Tgkill(unix.Getpid(), h.tid, unix.SIGURG)
	case "migration":
		err = kernel.Bind(h.tid, h.other)
	default:
		err = fences[h.disturbance](-1)
	}
	if err != nil {
		h.Error(err)
	}
	h.disturbed = true
	if fences[h.disturbance] != nil { // a section that was not aborted takes effect now
		h.released = true
		atomic.StoreInt32(h.delay, 0)
		return
	}
	// A thread that runs for this long was not aborted, or has started again.
	const enough = 5 * time.Millisecond
	for begin := testutil.ThreadTime(h, h.tid); !h.ended.Load(); {
		if testutil.ThreadTime(h, h.tid)-begin > enough {
			h.released = true
			atomic.StoreInt32(h.delay, 0)
			return
		}
		testutil.Yield()
	}
}
