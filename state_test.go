//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package rseq

import (
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/section"
)

// TestAtThreadPointer: sections are refused, and not asked about again, if the areas are at the
// distance zero, as they may be on riscv64.
func TestAtThreadPointer(t *testing.T) {
	i := Info{Owner: OwnerForeign, Confirmed: Confirmed, RegisteredLen: 32, Signature: abi.Signature[runtime.GOARCH], Size: 28}
	why, final := refusal(&i)
	if !errors.Is(why, ErrNotSupported) || !strings.Contains(why.Error(), "thread pointer") || !final {
		t.Errorf("%v, final: %v", why, final)
	}
}

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
	mu.Lock()
	defer mu.Unlock()
	before, must, did, live := *current.Load(), mustCheck, seenToAbort, liveCheck
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		mustCheck, seenToAbort, liveCheck = must, did, live
		sectionsRetry.Wait = 0
		sectionsRetry.Until.Store(0)
		publish(before)
	})
	publish(before.forgetSections())
	mustCheck, seenToAbort = true, false
	sectionsRetry.Wait = 0
	sectionsRetry.Until.Store(0)
	liveCheck = func(section.Disturbance, int, bool) (int, int, error) { return check() }
}

// TestWatch: a kernel that has to be watched is, whatever its version, and what was seen
// decides, once.
func TestWatch(t *testing.T) {
	if mustCheck != (runtime.GOARCH == "arm64") {
		t.Errorf("must be watched: %v", mustCheck)
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
	again := func() { sectionsRetry.Until.Store(0) }
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
	sectionsRetry.Wait = 0
	sectionsRetry.Later()
	for _, want := range []time.Duration{50, 100, 200, 400} {
		if sectionsRetry.Wait != want*time.Millisecond {
			t.Errorf("waits %v, want %d ms", sectionsRetry.Wait, want)
		}
		sectionsRetry.Later()
	}
	for range 20 {
		sectionsRetry.Later()
	}
	if sectionsRetry.Wait != time.Minute {
		t.Errorf("waits %v", sectionsRetry.Wait)
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

// TestStates walks each transition of docs/architecture.md.
func TestStates(t *testing.T) {
	here := Info{Owner: OwnerLibc, Via: "dlsym", Size: 28}
	signed := here
	signed.Confirmed, signed.Signature = Confirmed, 1
	said := func(c Confirmation, reason string) Info {
		i := here
		i.Confirmed, i.Reason = c, reason
		return i
	}
	gone := Info{Confirmed: Refuted}
	later := errors.New("later")
	never := notSupportedError("never")

	unconfirmed := state{areas: areasUnconfirmed, info: here}
	confirmed := state{areas: areasConfirmed, info: signed}
	answered := func(s state, i Info, stale bool) func() (state, state) {
		return func() (state, state) { return s.answered(i, stale) }
	}
	decided := func(s state, err error, conclusive bool) func() (state, state) {
		return func() (state, state) { s := s.decided(err, conclusive); return s, s }
	}
	// A thread asked, and the C files say why there is no owner.
	asked := func(why int32) func() (state, state) {
		return func() (s, same state) {
			s.areas, s.err = noOwner(why, "a C library")
			return s, s
		}
	}
	type phases struct {
		areas    areasPhase
		sections sectionsPhase
	}
	for _, c := range []struct {
		what         string
		step         func() (next, reported state)
		want         phases
		confirmation Confirmation // reported
		reason       string       // published
		supported    bool         // there is no error, or one that may go away
	}{
		{"nobody asked", asked(0), phases{areasUnasked, sectionsUndecided}, NotAsked, "", true},
		{"refused, to be asked again", asked(int32(syscall.EPERM)), phases{areasFailed, sectionsUndecided}, NotAsked, "", true},
		{"no thread or process to find out", asked(int32(syscall.EAGAIN)), phases{areasFailed, sectionsUndecided}, NotAsked, "", true},
		{"areas that cannot be used", asked(-1), phases{areasFailed, sectionsUndecided}, NotAsked, "", true},
		{"no rseq(2)", asked(int32(syscall.ENOSYS)), phases{areasUnavailable, sectionsUndecided}, NotAsked, "", false},
		{"a filter that kills", asked(-2), phases{areasUnavailable, sectionsUndecided}, NotAsked, "", false},
		{"forbidden", asked(-3), phases{areasUnavailable, sectionsUndecided}, NotAsked, "", false},
		{"asked and confirmed", answered(unconfirmed, signed, false), phases{areasConfirmed, sectionsUndecided}, Confirmed, "", true},
		{"could not ask", answered(unconfirmed, said(CouldNotAsk, "filter"), false), phases{areasUnconfirmed, sectionsUndecided}, CouldNotAsk, "", true},
		{"this thread is not registered", answered(unconfirmed, said(Refuted, "others are"), false), phases{areasUnconfirmed, sectionsUndecided}, Refuted, "", true},
		{"elsewhere", answered(unconfirmed, said(Elsewhere, "elsewhere"), false), phases{areasUnconfirmed, sectionsUndecided}, Elsewhere, "", true},
		{"refuted", answered(unconfirmed, gone, true), phases{areasUnavailable, sectionsUndecided}, Refuted, "", false},
		{"restored from a checkpoint", answered(confirmed.decided(nil, true), gone, true), phases{areasUnavailable, sectionsUndecided}, Refuted, "", false},
		{"sections allowed, then confirmed", answered(unconfirmed.decided(nil, true), signed, false), phases{areasConfirmed, sectionsUndecided}, Confirmed, "", true},
		{"sections refused, then could not ask", answered(unconfirmed.decided(never, true), said(CouldNotAsk, "filter"), false), phases{areasUnconfirmed, sectionsRefused}, CouldNotAsk, never.Error(), true},
		{"sections allowed", decided(confirmed, nil, true), phases{areasConfirmed, sectionsAllowed}, Confirmed, "", true},
		{"sections refused", decided(confirmed, never, true), phases{areasConfirmed, sectionsRefused}, Confirmed, never.Error(), true},
		{"sections not decided", decided(confirmed, later, false), phases{areasConfirmed, sectionsUndecided}, Confirmed, later.Error(), true},
		{"sections not decided, then allowed", decided(confirmed.decided(later, false), nil, true), phases{areasConfirmed, sectionsAllowed}, Confirmed, "", true},
		{"sections not decided, then refused", decided(confirmed.decided(later, false), never, true), phases{areasConfirmed, sectionsRefused}, Confirmed, never.Error(), true},
	} {
		next, reported := c.step()
		if got := (phases{next.areas, next.sections}); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
		if reported.info.Confirmed != c.confirmation || next.info.Reason != c.reason {
			t.Errorf("%s: %v, %q, want %v, %q", c.what, reported.info.Confirmed, next.info.Reason, c.confirmation, c.reason)
		}
		if errors.Is(next.err, ErrNotSupported) == c.supported {
			t.Errorf("%s: %v", c.what, next.err)
		}
		if next.info.CriticalSections != (next.sections == sectionsAllowed) || next.hasOwner() != (next.err == nil) {
			t.Errorf("%s: %+v", c.what, next)
		}
		// What is told for this call only changes nothing that stays.
		if !next.final() && next.info.Confirmed != NotAsked {
			t.Errorf("%s: stays %v", c.what, next.info.Confirmed)
		}
	}
}
