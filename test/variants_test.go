//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package test

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/testutil"
	"github.com/rseq-go/rseq/percpu"
)

// TestConvention: in a build whose convention check fails no section and no reader runs,
// everything works the portable way, and the reason names Go's version.
func TestConvention(t *testing.T) {
	testutil.NeedCompilers(t)
	env := []string{testutil.WrongConvention}
	out := testutil.Run(t, []string{"RSEQ_CHILD=1"}, testutil.GoTest(t, "convention", env[0]),
		"-test.v", "-test.run", "^(TestConventionRefused|TestPinned)$")
	if !strings.Contains(out, "--- PASS: TestConventionRefused") {
		t.Error(out)
	}
	command := testutil.GoBuild(t, "../cmd/rseq", env)
	out, _, err := testutil.Try(nil, command, "doctor")
	if err == nil || !strings.Contains(out, runtime.Version()+" passes arguments") {
		t.Errorf("doctor: %v\n%s", err, out)
	}
}

func TestConventionRefused(t *testing.T) {
	childOnly(t)
	for _, x := range []rseq.Index{rseq.ByCPU, rseq.ByConcurrencyID} {
		if err := rseq.CriticalSections(x); !errors.Is(err, rseq.ErrNotSupported) || !strings.Contains(err.Error(), runtime.Version()) {
			t.Skipf("only where the convention check fails: %v", err)
		}
		for _, op := range ops() {
			if s, changed := op.run(t, x, 0); s != rseq.NotRegistered || changed != 0 {
				t.Errorf("%v %s: %v, changed by %d", x, op.name, s, changed)
			}
		}
	}
	if info, err := rseq.Query(); info.CriticalSections || err != nil || !strings.Contains(info.Reason, runtime.Version()) {
		t.Errorf("%+v, %v", info, err)
	}
	testutil.OnThread(func() {
		for _, want := range testutil.AllowedCPUs(t) {
			testutil.Pin(t, want)
			if cpu, err := rseq.CPU(); cpu != want || err != nil {
				t.Errorf("on CPU %d: %d, %v", want, cpu, err)
			}
			th, err := rseq.LockThread()
			if err != nil {
				t.Fatal(err)
			}
			if cpu, err := th.CPU(); cpu != want || err != nil {
				t.Errorf("Thread on CPU %d: %d, %v", want, cpu, err)
			}
			th.Unlock()
		}
	})
	if node, err := rseq.NodeID(); node < 0 || err != nil {
		t.Error(node, err)
	}
	if _, err := rseq.ConcurrencyID(); err == nil || !strings.Contains(err.Error(), runtime.Version()) {
		t.Error(err)
	}
	counter, list, pool := percpu.NewCounter(), percpu.NewFreeList(8), percpu.NewPool[int](4, nil)
	counter.Add(1 << 40)
	counter.Add(-3)
	if n := counter.Value(); n != 1<<40-3 {
		t.Error(n)
	}
	list.Push(1 << 50)
	list.PushBatch([]uint64{2, 3})
	some := make([]uint64, 2)
	if n := list.PopBatch(some); n != 2 || some[0] != 3 || some[1] != 2 {
		t.Error(n, some)
	}
	if h, ok := list.Pop(); h != 1<<50 || !ok {
		t.Error(h, ok)
	}
	if _, ok := list.Pop(); ok {
		t.Error("popped from an empty list")
	}
	v := pool.Get()
	pool.Put(v)
}

// TestInjected runs the storms with delays at each point of each section.
func TestInjected(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	program := testutil.GoTest(t, "injected", testutil.Injected)
	which := "^TestStorm|^TestAbortAtEachPoint$"
	if testutil.Guest() {
		which = "^TestAbortAtEachPoint$" // the delays are ten times as long in a guest
	}
	out := testutil.Run(t, nil, program, "-test.run", which, "-test.v")
	t.Log(strings.Count(out, "--- PASS"), "passed,", strings.Count(out, "--- SKIP"), "skipped")
	if !strings.Contains(out, "--- PASS: TestAbortAtEachPoint/cpu_id/signal/add") {
		t.Errorf("the delays were not compiled in:\n%.2000s", out)
	}
}
