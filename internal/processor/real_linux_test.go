package processor_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/processor"
	"github.com/rseq-go/rseq/internal/testutil"
	"github.com/rseq-go/rseq/percpu"
)

// answer is what a child process printed.
type answer struct {
	Report processor.Report
	CPU    int
	Err    string
	Right  bool // on each CPU that it could be bound to, and wherever it was
	Count  int64
	Bound  []int // threads
}

func TestMain(m *testing.M) {
	if os.Getenv("RSEQ_CHILD") == "" {
		os.Exit(m.Run())
	}
	var a answer
	c := percpu.NewCounter()
	for range 100 {
		c.Add(1) // its slow path compares, if a filter does not kill for that
	}
	a.Report = processor.Again()
	if os.Getenv("RSEQ_CHILD") == "cpu" {
		cpu, err := rseq.CPU()
		a.CPU, a.Right = cpu, true
		if err != nil {
			a.Err = err.Error()
		}
		allowed, _ := kernel.AllowedCPUs()
		runtime.LockOSThread()
		for _, cpu := range allowed {
			if kernel.Bind(0, cpu) != nil {
				continue
			}
			_, node, _ := kernel.Getcpu()
			got, _ := rseq.CPU()
			gotNode, _ := rseq.NodeID()
			a.Right = a.Right && got == cpu && gotNode == node
		}
	}
	if os.Getenv("RSEQ_CHILD") == "affinity" {
		var err error
		if a.Bound, err = bound(); err != nil {
			a.Err = err.Error()
		}
	}
	for range 100 {
		c.Add(1)
	}
	a.Count = c.Value()
	json.NewEncoder(os.Stdout).Encode(a)
}

// ask runs a child process, as arguments of the command before.
func ask(t *testing.T, child string, program string, before ...string) answer {
	t.Helper()
	command := append(before, program)
	out, stderr, err := testutil.Try([]string{"RSEQ_CHILD=" + child}, command[0], command[1:]...)
	if err != nil {
		t.Fatalf("%v: %v\n%s%s", command, err, out, stderr)
	}
	a := testutil.Decode[answer](t, out)
	if a.Count != 200 {
		t.Errorf("%v: counted %d, want 200", before, a.Count)
	}
	t.Logf("%v: %v", before, a.Report)
	return a
}

// withoutCgo builds this test without cgo, as most services are built.
func withoutCgo(t *testing.T) string { return testutil.GoTest(t, "processor", "CGO_ENABLED=0") }

// TestRight: a thread that is pinned to a CPU reads that CPU and its node.
func TestRight(t *testing.T) {
	r := processor.Again()
	if r.Way == "getcpu(2)" {
		if cpu, node := processor.CPU(), processor.NodeID(); cpu != -1 || node != -1 {
			t.Errorf("CPU %d, node %d, though %v", cpu, node, r)
		}
		t.Skip(r)
	}
	t.Log(r)
	for range 20 {
		for _, cpu := range testutil.AllowedCPUs(t) {
			testutil.OnThread(func() {
				testutil.Pin(t, cpu)
				_, node, err := kernel.Getcpu()
				if got, gotNode := processor.CPU(), processor.NodeID(); int(got) != cpu || int(gotNode) != node || err != nil {
					t.Errorf("pinned to CPU %d of node %d (%v): %d of %d", cpu, node, err, got, gotNode)
				}
			})
		}
	}
}

// TestReads: both instructions read the same register, so both are right or none.
func TestReads(t *testing.T) {
	r := processor.Again()
	if len(r.CPUs) == 0 {
		t.Skip(r)
	}
	for _, cpu := range testutil.AllowedCPUs(t) {
		testutil.OnThread(func() {
			testutil.Pin(t, cpu)
			_, node, err := kernel.Getcpu()
			for name, got := range processor.Reads() {
				if want := uint32(node<<12 | cpu); got != want || err != nil {
					t.Errorf("%s on CPU %d: %#x, want %#x (%v)", name, cpu, got, want, err)
				}
			}
		})
	}
}

// TestInstructions: the instructions are those that the kernel lists in /proc/cpuinfo.
func TestInstructions(t *testing.T) {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	if runtime.GOARCH == "amd64" && !purego {
		for _, name := range []string{"rdpid", "rdtscp"} {
			if slices.Contains(strings.Fields(string(data)), name) {
				want = append(want, strings.ToUpper(name))
			}
		}
	}
	if got := processor.Instructions(); !slices.Equal(got, want) {
		t.Errorf("%v, but /proc/cpuinfo has %v", got, want)
	}
}

// bound calls processor.Again often and returns the threads whose affinity is not the main
// thread's first one. It runs in a process of its own, in which nothing else binds threads.
func bound() (tids []int, err error) {
	want, err := kernel.Affinity(os.Getpid())
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 25 {
				processor.Again()
			}
		})
	}
	wg.Wait()
	for try := 0; ; try++ { // the last thread may still be ending
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return nil, err
		}
		tids = nil
		for _, task := range tasks {
			tid, _ := strconv.Atoi(task.Name())
			if set, err := kernel.Affinity(tid); err == nil && !slices.Equal(set, want) {
				tids = append(tids, tid)
			}
		}
		if len(tids) == 0 || try == 1000 {
			return tids, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestAffinity: a comparison changes the affinity of no thread, the main one included.
func TestAffinity(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if a := ask(t, "affinity", self); len(a.Bound) > 0 || a.Err != "" {
		t.Errorf("threads %v are bound, %s", a.Bound, a.Err)
	}
}

// TestFilters: if a filter refuses a system call of the comparison, the report says so. A
// filter that kills for one does not kill this process.
func TestFilters(t *testing.T) {
	program := withoutCgo(t)
	filter := testutil.GoBuild(t, "../../test/testdata/filter", nil)
	native := ask(t, "cpu", program)
	if !native.Right || native.Err != "" {
		t.Errorf("%+v", native)
	}
	for _, c := range []struct {
		filter, child string
		way, reason   string
		err           string
	}{
		{"EPERM:acct", "cpu", native.Report.Way, native.Report.Reason, ""}, // for another call
		{"EPERM:getcpu", "cpu", "getcpu(2)", "getcpu(2): operation not permitted", "getcpu(2) was refused"},
		{"kill:getcpu", "count", "getcpu(2)", "a seccomp filter kills", ""},
		{"trap:getcpu", "count", "getcpu(2)", "a seccomp filter kills", ""},
		{"kill:sched_getaffinity", "count", "", "", ""}, // Go's runtime makes it at start
		{"kill:getcpu,sched_setaffinity", "count", "getcpu(2)", "a seccomp filter kills", ""},
		{"kill:sched_setaffinity", "count", "*", "", ""},
		{"EPERM:sched_setaffinity", "cpu", "*", "", ""},
		{"EPERM:prctl", "cpu", native.Report.Way, native.Report.Reason, ""},
	} {
		t.Run(c.filter, func(t *testing.T) {
			if c.way == "" {
				t.Skip("no Go program starts")
			}
			if len(native.Report.CPUs) == 0 {
				t.Skip(native.Report)
			}
			a := ask(t, c.child, program, filter, c.filter)
			if c.way != "*" && (a.Report.Way != c.way || !strings.Contains(a.Report.Reason, c.reason)) {
				t.Errorf("%v: want %s, %q", a.Report, c.way, c.reason)
			}
			// A thread that is not bound may run on one CPU all the time.
			if c.way == "*" && a.Report.Way != native.Report.Way && !strings.Contains(a.Report.Reason, "expected 2 of them") &&
				!strings.Contains(a.Report.Reason, "CPU 0 only") {
				t.Errorf("%v: want what is used without a filter, or too few CPUs", a.Report)
			}
			if c.err == "" && a.Err != "" || !strings.Contains(a.Err, c.err) || c.child == "cpu" && c.err == "" && !a.Right {
				t.Errorf("%+v", a)
			}
		})
	}
}

// TestEmulated: RDTSCP of qemu's user mode reads CPU 0 on every CPU, and is not used. An
// instruction that the emulator lacks is not run.
func TestEmulated(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("for amd64")
	}
	qemu, err := exec.LookPath("qemu-x86_64")
	if err != nil {
		t.Skip(err)
	}
	program := withoutCgo(t)
	for _, model := range []string{"qemu64", "max", "Nehalem", "Icelake-Server", "EPYC-Milan"} {
		a := ask(t, "cpu", program, qemu, "-cpu", model)
		if a.Report.Way != "getcpu(2)" || a.Report.Reason == "" || a.Err != "" || !a.Right {
			t.Errorf("%s: %+v", model, a)
		}
	}
}

// TestOneCPU: a process that may use one CPU only reads that CPU, by any way.
func TestOneCPU(t *testing.T) {
	taskset, err := exec.LookPath("taskset")
	if err != nil {
		t.Skip(err)
	}
	program := withoutCgo(t)
	for _, cpu := range testutil.AllowedCPUs(t) {
		a := ask(t, "cpu", program, taskset, "-c", fmt.Sprint(cpu))
		if a.CPU != cpu || a.Err != "" || !a.Right {
			t.Errorf("%+v: want CPU %d", a, cpu)
		}
		if cpu > 0 && len(a.Report.CPUs) > 0 && !slices.Equal(a.Report.CPUs, []int{cpu}) {
			t.Errorf("compared on %v, want %d", a.Report.CPUs, cpu)
		}
	}
}

// TestDisagreement: an instruction that turns out to be wrong is no longer used, and the
// report says so.
func TestDisagreement(t *testing.T) {
	before := processor.Again()
	restore := processor.Distort(func(v uint32) uint32 { return v ^ 1 })
	defer processor.Again()
	defer restore()
	th, err := rseq.LockThread()
	if err != nil {
		t.Fatal(err)
	}
	th.Confirm() // as after a restore
	th.Unlock()
	if cpu := processor.CPU(); cpu != -1 {
		t.Errorf("CPU %d, after Confirm found that it is not right", cpu)
	}
	r := processor.Again()
	if r.Way != "getcpu(2)" || len(before.CPUs) > 0 && !strings.Contains(r.Reason, "where getcpu(2) says CPU") {
		t.Errorf("%v; before: %v", r, before)
	}
	if cpu := processor.CPU(); cpu != -1 {
		t.Errorf("CPU %d", cpu)
	}
	for _, cpu := range testutil.AllowedCPUs(t) {
		testutil.OnThread(func() {
			testutil.Pin(t, cpu)
			if got, err := rseq.CPU(); got != cpu || err != nil {
				t.Errorf("CPU %d, %v; want %d", got, err, cpu)
			}
		})
	}
}
