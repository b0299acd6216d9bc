//go:build linux && !android && cgo && !purego && (amd64 || arm64)

package rseq

import (
	"errors"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rseq-go/rseq/internal/section"
)

// TestJudge: what a live check means on kernels and machines that are not here.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		aborted, survived  int
		err                error
		allowed, supported bool // supported: the error may go away
		conclusive         bool
	}{
		{3, 0, nil, true, true, true},
		{1, 0, syscall.EBUSY, true, true, true},
		{0, 3, nil, false, false, true}, // arm64, Linux 7.0.13
		{2, 1, nil, false, false, true},
		{0, 0, nil, false, true, false},
		{0, 0, syscall.EAGAIN, false, true, false},
	} {
		why, conclusive := judge(c.aborted, c.survived, c.err)
		if (why == nil) != c.allowed || errors.Is(why, ErrNotSupported) == c.supported && why != nil || conclusive != c.conclusive {
			t.Errorf("%+v: %v, %v", c, why, conclusive)
		}
		if c.err != nil && why != nil && !errors.Is(why, c.err) {
			t.Errorf("%v does not say %v", why, c.err)
		}
	}
}

// watching has critical sections decided about anew, by live checks that do and say what
// check does and says, and puts everything back in the end.
func watching(t *testing.T, check func() (aborted, survived int, err error)) {
	t.Helper()
	if err := CriticalSections(ByCPU); errors.Is(err, ErrNotSupported) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	learning.Lock()
	defer learning.Unlock()
	before, must, did, live := *known.Load(), mustWatch, aborts, liveCheck
	t.Cleanup(func() {
		learning.Lock()
		defer learning.Unlock()
		mustWatch, aborts, liveCheck = must, did, live
		sectionsAgain.wait = 0
		sectionsAgain.until.Store(0)
		learn(before)
	})
	k := before
	k.sections, k.decided, k.info.CriticalSections = nil, false, false
	learn(k)
	mustWatch, aborts = true, false
	sectionsAgain.wait = 0
	sectionsAgain.until.Store(0)
	liveCheck = func(section.Disturbance, int, bool) (int, int, error) { return check() }
}

// TestWatch: a kernel that has to be watched is, whatever its version, and what was seen
// decides, once.
func TestWatch(t *testing.T) {
	if mustWatch != (runtime.GOARCH == "arm64") {
		t.Errorf("must be watched: %v", mustWatch)
	}
	for _, c := range []struct{ aborted, survived int }{{3, 0}, {2, 1}} {
		checks := 0
		watching(t, func() (int, int, error) { checks++; return c.aborted, c.survived, nil })
		for range 10 {
			err := CriticalSections(ByCPU)
			if (err == nil) != (c.survived == 0) || err != nil && !errors.Is(err, ErrNotSupported) {
				t.Errorf("%+v: %v", c, err)
			}
			if info, _ := Query(); info.CriticalSections != (c.survived == 0) {
				t.Errorf("%+v: %+v", c, info)
			}
		}
		if checks != 1 {
			t.Errorf("%+v: checked %d times", c, checks)
		}
	}
}

// TestWatchAgain: a live check that told nothing is made again, after a while that grows,
// and nobody waits for that but the one that makes it.
func TestWatchAgain(t *testing.T) {
	var checks, blocks, seen atomic.Int32
	block, blocked := make(chan struct{}), make(chan struct{})
	watching(t, func() (int, int, error) {
		checks.Add(1)
		if blocks.CompareAndSwap(1, 0) {
			close(blocked)
			<-block
		}
		if n := seen.Load(); n > 0 {
			return int(n), 0, nil
		}
		return 0, 0, syscall.ETIMEDOUT
	})
	var cells Cells
	cells.N, cells.Base = 1<<20, new(int64)
	inconclusive := func() {
		t.Helper()
		if err := CriticalSections(ByCPU); !errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, ErrNotSupported) {
			t.Error(err)
		}
		if s := cells.Add(1); s != NotRegistered {
			t.Error(s)
		}
	}
	again := func() { sectionsAgain.until.Store(0) }
	start := time.Now()
	for range 1000 {
		inconclusive()
		if info, _ := Query(); info.CriticalSections || info.Reason == "" {
			t.Fatalf("%+v", info)
		}
	}
	// On a machine so slow that the first waits have passed it is made a few times.
	if n := checks.Load(); n != 1 && time.Since(start) < 50*time.Millisecond {
		t.Fatalf("checked %d times", n)
	}
	checks.Store(0)
	again()
	inconclusive()
	if checks.Load() == 0 {
		t.Fatal("not checked again")
	}
	sectionsAgain.wait = 0
	sectionsAgain.later()
	for _, want := range []time.Duration{50, 100, 200, 400} {
		if sectionsAgain.wait != want*time.Millisecond {
			t.Errorf("waits %v, want %d ms", sectionsAgain.wait, want)
		}
		sectionsAgain.later()
	}
	for range 20 {
		sectionsAgain.later()
	}
	if sectionsAgain.wait != time.Minute {
		t.Errorf("waits %v", sectionsAgain.wait)
	}
	checks.Store(0)
	blocks.Store(1)
	again()
	done := make(chan struct{})
	go func() { inconclusive(); close(done) }()
	<-blocked
	for range 100 {
		inconclusive() // it has the last answer, though a check is under way
	}
	if n := checks.Load(); n != 1 {
		t.Errorf("checked %d times", n)
	}
	close(block)
	<-done
	seen.Store(3)
	again()
	if err := CriticalSections(ByCPU); err != nil {
		t.Error(err)
	}
}

// TestFeaturesOf: an area has the fields that its size reaches, and no more.
func TestFeaturesOf(t *testing.T) {
	const first = FeatureCPUID
	for size, want := range map[uint32]Features{
		0: 0, 19: 0, 20: first, 23: first, 24: first | FeatureNodeID, 27: first | FeatureNodeID,
		28: first | FeatureNodeID | FeatureMMCID, 32: first | FeatureNodeID | FeatureMMCID,
		33: first | FeatureNodeID | FeatureMMCID | FeatureSliceCtrl, 64: first | FeatureNodeID | FeatureMMCID | FeatureSliceCtrl,
	} {
		if got := featuresOf(size); got != want {
			t.Errorf("%d bytes: %v, want %v", size, got, want)
		}
	}
}
