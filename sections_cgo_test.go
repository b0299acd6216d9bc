//go:build linux && !android && cgo && !purego && (amd64 || arm64)

package rseq_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/section"
	"github.com/rseq-go/rseq/internal/testutil"
	"github.com/rseq-go/rseq/percpu"
)

// TestLiveCheck: the kernel aborts a section whose thread is disturbed, and the
// check would say so if it did not: unarmed, nothing is aborted.
func TestLiveCheck(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	for how, name := range []string{"preempted", "signalled", "migrated"} {
		const rounds = 5
		aborted, survived, err := section.LiveCheck(section.Disturbance(how), rounds, false)
		if errors.Is(err, unix.ENODEV) {
			t.Logf("%s: one CPU", name)
			continue
		}
		if aborted != rounds || survived != 0 || err != nil {
			t.Errorf("%s: aborted %d times of %d, ran on %d times, %v", name, aborted, rounds, survived, err)
		}
		aborted, survived, err = section.LiveCheck(section.Disturbance(how), rounds, true)
		if errors.Is(err, unix.ENODEV) {
			// On one CPU the rounds above may all have been aborted by the disturber's
			// own turns, before it looked.
			t.Logf("%s: one CPU", name)
			continue
		}
		if aborted != 0 || survived != rounds || err != nil {
			t.Errorf("unarmed, %s: aborted %d times, ran on %d times of %d, %v", name, aborted, survived, rounds, err)
		}
	}
}

// TestManyCPUs: the live check moves threads also where the kernel answers EINVAL to a
// mask with room for 1,024 CPUs only.
func TestManyCPUs(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	if len(testutil.AllowedCPUs(t)) < 2 {
		t.Skip("one CPU")
	}
	filter := testutil.GoBuild(t, "./testdata/filter", nil)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := testutil.Run(t, nil, filter, "EINVAL:sched_getaffinity/1<256", self, "-test.run", "^TestLiveCheck$", "-test.v")
	if !strings.Contains(out, "--- PASS: TestLiveCheck") || strings.Contains(out, "one CPU") {
		t.Error(out)
	}
}

// TestLiveCheckInconclusive: what could not be made to happen in a live check says
// nothing of the kernel, and why it could not is told: testdata/live.c.
func TestLiveCheckInconclusive(t *testing.T) {
	testutil.NeedCompilers(t)
	testutil.NeedSections(t, rseq.ByCPU)
	program := testutil.CC(t, "-O2", "testdata/live.c", "glibc.c", "fallback.c", "cs_"+runtime.GOARCH+".s", "-ldl", "-lpthread")
	for _, what := range []string{"right", "held", "no handler", "no proc", "pin", "descriptor", "exhausted"} {
		t.Run(what, func(t *testing.T) { t.Log(testutil.Run(t, nil, program, what)) })
	}
}

// TestLiveCheckOfOthers: the threads of a live check are registered by a library that
// does so when a thread allocates; where one leaves them out that is said. And threads
// of real-time priority come to an end.
func TestLiveCheckOfOthers(t *testing.T) {
	program := testutil.GoBuild(t, "./testdata/threads", nil)
	testutil.NeedSections(t, rseq.ByCPU)
	const aborted = "5 0 <nil>\n"
	live := func(t *testing.T, want string, env []string, command ...string) {
		t.Helper()
		out := testutil.Run(t, env, command[0], append(command[1:], "live")...)
		lines := strings.SplitAfter(out, "\n")
		if len(testutil.AllowedCPUs(t)) == 1 && len(lines) == 4 {
			lines[2] = "" // where there is one CPU nothing migrates
		} else {
			want += want[:strings.Index(want, "\n")+1]
		}
		if got := strings.Join(lines, ""); got != want {
			t.Errorf("%s, want %s", out, want)
		}
	}
	t.Run("real time", func(t *testing.T) {
		if _, err := exec.LookPath("chrt"); err != nil {
			t.Skip(err)
		}
		if _, why, err := testutil.Try(nil, "chrt", "-f", "10", "true"); err != nil {
			t.Skipf("no real-time priority here: %s", why)
		}
		live(t, aborted+aborted, nil, "chrt", "-f", "10", program)
	})
	if !onGlibc() || testutil.Guest() {
		return
	}
	foreign := func(flag string) []string {
		return []string{tunableOff, "LD_PRELOAD=" + testutil.CC(t, "-DSIGNATURE=RSEQGO_SIG", "-DSYMBOL", flag, "-shared", "-fPIC", "testdata/foreign.c", "-ldl", "-lpthread")}
	}
	t.Run("when a thread allocates", func(t *testing.T) { live(t, aborted+aborted, foreign("-DLAZY"), program) })
	t.Run("the main thread only", func(t *testing.T) {
		const said = "0 0 rseq: live check: the thread made for it has no area: the library that owns the areas did not register it, " +
			"though it allocated memory, or its registration was refused\n"
		live(t, said+said, foreign("-DMAIN"), program)
	})
}

// inChild runs one test of this program in a process of its own, on one CPU
// unless that is negative.
func inChild(t *testing.T, test string, cpu int, env ...string) string {
	t.Helper()
	var out []byte
	var err error
	testutil.OnThread(func() {
		if cpu >= 0 {
			testutil.Pin(t, cpu) // the child inherits this
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

// childOnly skips what only makes sense in a process that did nothing yet.
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
		inChild(t, "^TestNewProcess$", -1, tunableOff)
	}
	cpus := testutil.AllowedCPUs(t)
	inChild(t, "^TestHighestCPU$", cpus[len(cpus)-1])
	if !testing.Short() {
		// On one CPU every preemption is by a thread of the same storm.
		inChild(t, "^TestStorm(Counter|Spinlock|List)$", cpus[0])
	}
}

// TestRefusedAtFirst: until CriticalSections was called no operation does
// anything.
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
	runtime.LockOSThread() // CriticalSections registers this thread, not others
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

// TestRestored: a thread whose area says what it said at a checkpoint, though the kernel
// does not know it any more, is found out by the first Query, later by Thread.Confirm;
// then nothing believes it.
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
		rseq.CPU()                             // where this package registers
		asked := os.Getenv("RSEQ_ASKED") != "" // the kernel, before the checkpoint
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
			t.Errorf("CPU %d before anybody asked the kernel, want the area's %d", cpu, stale)
		}
		if cpu := testutil.CRegisterThread(); cpu != stale {
			t.Errorf("C is told CPU %d before anybody asked the kernel, want the area's %d", cpu, stale)
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
			t.Errorf("C is told CPU %d", cpu)
		}
		if err := rseq.CriticalSections(rseq.ByCPU); err == nil {
			t.Error("critical sections are said to work")
		}
		if s := newShares(t).cells(0).Add(1); s != rseq.NotRegistered {
			t.Error(s)
		}
	})
}

// TestHighestCPU: a process that may use the highest CPU alone counts its CPUs
// as one, but needs cells for all.
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

// TestConvention: if the compiler passed arguments in another way than the assembly
// expects, which a build of its own pretends, no section and no reader runs, everything
// works the portable way, and the reason names Go's version.
func TestConvention(t *testing.T) {
	testutil.NeedCompilers(t)
	env := []string{testutil.WrongConvention}
	out := testutil.Run(t, []string{"RSEQ_CHILD=1"}, testutil.GoTest(t, "convention", env[0]),
		"-test.v", "-test.run", "^(TestConventionRefused|TestPinned)$")
	if !strings.Contains(out, "--- PASS: TestConventionRefused") {
		t.Error(out)
	}
	command := testutil.GoBuild(t, "./cmd/rseq", env)
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

// TestStackMoves: the data that sections work on is on stacks that grow and are moved
// meanwhile, and so is what they are given pointers to.
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

// onStack adds to words of its own frame before and after its stack has grown.
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

// TestStatus: what an operation answers where nothing disturbs it.
func TestStatus(t *testing.T) {
	for _, x := range []rseq.Index{rseq.ByCPU, rseq.ByConcurrencyID} {
		t.Run(x.String(), func(t *testing.T) {
			testutil.NeedSections(t, x)
			for _, op := range ops() {
				for _, i := range []int{-1, -1 << 63, rseq.PossibleCPUs(), 1 << 32, 1<<63 - 1} {
					if s, changed := op.run(t, x, i); s != rseq.OutOfRange || changed != 0 {
						t.Errorf("%s, index %d: %v, changed by %d", op.name, i, s, changed)
					}
				}
				retry(t, x, rseq.Done, func(i int) rseq.Status {
					s, changed := op.run(t, x, i)
					if (s == rseq.Done) != (changed != 0) {
						t.Errorf("%s: %v, changed by %d", op.name, s, changed)
					}
					return s
				})
			}
			// Another index than the thread's.
			testutil.OnThread(func() {
				cpus := testutil.AllowedCPUs(t)
				testutil.Pin(t, cpus[0])
				if err := rseq.CriticalSections(x); err != nil {
					t.Error(err)
				}
				for other := range rseq.PossibleCPUs() {
					if other == cpus[0] || x != rseq.ByCPU {
						continue
					}
					for _, op := range ops() {
						if s, changed := op.run(t, x, other); s != rseq.Raced || changed != 0 {
							t.Errorf("%s, index %d on CPU %d: %v, changed by %d", op.name, other, cpus[0], s, changed)
						}
					}
				}
			})
			// Comparisons that fail.
			v, v2, dst, src := int64(5), int64(7), int64(1), int64(2)
			for name, f := range map[string]func(i int) rseq.Status{
				"cbne_store":         func(i int) rseq.Status { return x.LoadCBNEStore(&v, 4, 6, i) },
				"cbeq":               func(i int) rseq.Status { _, s := x.LoadCBEQStoreAddLoadStore(&v, 5, 0, i); return s },
				"cbne_cbne, first":   func(i int) rseq.Status { return x.LoadCBNELoadCBNEStore(&v, 4, &v2, 7, 6, i) },
				"cbne_cbne, second":  func(i int) rseq.Status { return x.LoadCBNELoadCBNEStore(&v, 5, &v2, 8, 6, i) },
				"store_store":        func(i int) rseq.Status { return x.LoadCBNEStoreStore(&v, 4, &dst, 9, 6, i) },
				"store_store, rel":   func(i int) rseq.Status { return x.LoadCBNEStoreStoreRelease(&v, 4, &dst, 9, 6, i) },
				"memcpy_store":       func(i int) rseq.Status { return memcpy(x.LoadCBNEMemcpyStore, &v, 4, &dst, &src, i) },
				"memcpy_store, rel.": func(i int) rseq.Status { return memcpy(x.LoadCBNEMemcpyStoreRelease, &v, 4, &dst, &src, i) },
			} {
				retry(t, x, rseq.CompareFailed, f)
				if v != 5 || v2 != 7 || dst != 1 {
					t.Fatalf("%s changed something: %d %d %d", name, v, v2, dst)
				}
			}
			// Copies of every small length, and nothing beside them.
			for n := range 40 {
				from, to := make([]byte, 48), make([]byte, 48)
				for i := range from {
					from[i] = byte(i + 1)
				}
				retry(t, x, rseq.Done, func(i int) rseq.Status {
					v = 5
					return x.LoadCBNEMemcpyStore(&v, 5, unsafe.Pointer(&to[0]), unsafe.Pointer(&from[0]), uintptr(n), 6, i)
				})
				if !bytes.Equal(from[:n], to[:n]) || !bytes.Equal(to[n:], make([]byte, 48-n)) {
					t.Errorf("%d bytes copied: %v", n, to)
				}
			}
		})
	}
}

// TestUnregistered: on a thread without an area no operation does anything, whatever stands
// where the area was: its mm_cid is 0 there, as that of a thread that runs may be. What they
// left in the area does not hurt a registration that comes later.
func TestUnregistered(t *testing.T) {
	for _, x := range []rseq.Index{rseq.ByCPU, rseq.ByConcurrencyID} {
		t.Run(x.String(), func(t *testing.T) {
			testutil.NeedSections(t, x)
			if info, _ := rseq.Query(); info.Owner != rseq.OwnerLibc {
				t.Skipf("a thread of owner %v registers again", info.Owner)
			}
			// Every second thread has an area meanwhile.
			const threads, rounds = 8, 20000
			data := newShares(t)
			cells := data.cells(0)
			adds := func(want rseq.Status) {
				for range rounds {
					s := add(x, cells, 1)
					for s == rseq.Raced {
						s = add(x, cells, 1)
					}
					if s != want {
						t.Errorf("add: %v, want %v", s, want)
						return
					}
				}
			}
			var wg sync.WaitGroup
			for n := range threads {
				wg.Go(func() {
					runtime.LockOSThread() // and never unlocked
					if n%2 == 0 {
						testutil.Unregister(t)
						for _, i := range []int{0, rseq.PossibleCPUs() - 1} {
							for _, op := range ops() {
								if s, changed := op.run(t, x, i); s != rseq.NotRegistered || changed != 0 {
									t.Errorf("%s, index %d: %v, changed by %d", op.name, i, s, changed)
								}
							}
						}
						adds(rseq.NotRegistered)
						// Its cpu_id is -1, or 0xffffffff, which is no index either.
						tooMany := rseq.Cells{Base: cells.Base, N: 1 << 40}
						if s := add(x, &tooMany, 1); s != rseq.NotRegistered {
							t.Errorf("add to %d cells: %v", tooMany.N, s)
						}
						testutil.RegisterAgain(t)
					}
					adds(rseq.Done)
				})
			}
			wg.Wait()
			equal(t, "the cells", data.sum(0), threads*rounds)
		})
	}
}

func memcpy(op func(v *int64, expect int64, dst, src unsafe.Pointer, n uintptr, newv int64, i int) rseq.Status,
	v *int64, expect int64, dst, src *int64, i int) rseq.Status {
	return op(v, expect, unsafe.Pointer(dst), unsafe.Pointer(src), 8, 6, i)
}

// retry runs f with the thread's index until it did not race.
func retry(t *testing.T, x rseq.Index, want rseq.Status, f func(i int) rseq.Status) {
	t.Helper()
	for {
		i, err := x.Current()
		if err != nil {
			t.Fatal(err)
		}
		if s := f(i); s == want {
			return
		} else if s != rseq.Raced {
			t.Fatalf("%v, want %v", s, want)
		}
	}
}

// TestBadPointer: a pointer to nothing is the caller's panic, at its own line.
func TestBadPointer(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	i, _ := rseq.CPU()
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(page)
	forbidden := (*int64)(unsafe.Pointer(unsafe.SliceData(page)))
	var v, v2 int64
	for name, f := range map[string]func(bad *int64){
		"add":     func(bad *int64) { (*rseq.Cells)(unsafe.Pointer(bad)).Add(1) },
		"base":    func(bad *int64) { (&rseq.Cells{Base: bad, N: 1 << 20}).Add(1) },
		"store":   func(bad *int64) { rseq.ByCPU.LoadCBNEStore(bad, 0, 1, i) },
		"count":   func(bad *int64) { rseq.ByCPU.LoadAddStore(bad, 1, i) },
		"pop":     func(bad *int64) { rseq.ByCPU.LoadCBEQStoreAddLoadStore(bad, 1, 0, i) },
		"indir":   func(bad *int64) { rseq.ByCPU.LoadAddLoadLoadAddStore((*uintptr)(unsafe.Pointer(bad)), 0, 1, i) },
		"second":  func(bad *int64) { rseq.ByCPU.LoadCBNELoadCBNEStore(&v, 0, bad, 0, 1, i) },
		"store 2": func(bad *int64) { rseq.ByCPU.LoadCBNEStoreStore(&v, 0, bad, 0, 1, i) },
		"memcpy":  func(bad *int64) { memcpy(rseq.ByCPU.LoadCBNEMemcpyStore, &v, 0, bad, &v2, i) },
	} {
		for _, bad := range []*int64{nil, forbidden} {
			message, stack := panicOf(func() {
				for range 100 { // it may race first, and answers then
					i, _ = rseq.CPU()
					f(bad)
				}
			})
			if !strings.Contains(message, "invalid memory address") || !strings.Contains(stack, "TestBadPointer") {
				t.Errorf("%s %p: panic %q\n%s", name, bad, message, stack)
			}
		}
		if v != 0 || v2 != 0 {
			t.Errorf("%s: something was stored: %d, %d", name, v, v2)
		}
	}
}

func panicOf(f func()) (message, stack string) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { message, stack = fmt.Sprint(recover()), string(debug.Stack()) }()
	f()
	return
}

// TestBillion: 64 goroutines add while the affinity of some of the threads changes
// each millisecond. With -short, a hundredth.
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
	// Each goroutine on a thread of its own, so that the kernel takes turns.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2 * goroutines))
	stop := make(chan struct{})
	var mover, wg sync.WaitGroup
	moves := 0
	mover.Go(func() {
		// Ahead of the others, where that is allowed. The thread ends here.
		runtime.LockOSThread()
		unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
		all := unix.NewCPUSet(rseq.PossibleCPUs())
		for _, cpu := range cpus {
			all.Set(cpu)
		}
		// set gives every n-th thread, from the first-th on, the mask.
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

// TestObserved: everything that looks at or stops a Go program, at once, while
// it adds and takes from lists: nothing is lost, and the profile can be read.
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
		t.Skip(err) // this test run is profiled itself
	}
	var traced bytes.Buffer
	if err := trace.Start(&traced); err != nil {
		t.Log(err) // or traced
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
				keep = append(keep[:len(keep)%100], new(int64)) // some garbage
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
	// Samples are taken by the time that the process runs.
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

// grow makes the goroutine's stack move.
func grow(n int) int {
	var room [64]int
	if n == 0 {
		return room[0]
	}
	room[n] = n
	return grow(n-1) + room[n]
}

// TestWrongDescriptors: the kernel ends a process whose descriptor lies, and
// aborts the section of one that does not. From Linux 6.19 on it believes some lies.
func TestWrongDescriptors(t *testing.T) {
	if testing.Short() {
		t.Skip("builds C programs; not with -short")
	}
	testutil.NeedSections(t, rseq.ByCPU)
	out := testutil.Run(t, nil, testutil.CC(t, "testdata/wrong.c", "cs_"+runtime.GOARCH+".s",
		"glibc.c", "fallback.c", "sections.c", "-ldl", "-lpthread"))
	t.Log(out)
	const aborted, exhausted, killed = "exit 0", "exit 2", "signal 11" // RSEQGO_SPIN_ABORTED, _EXHAUSTED
	for _, want := range [][]string{
		{"its own", aborted}, {"the same", aborted}, {"no signature", killed},
		{"abort inside", killed, aborted}, {"version 1", killed, aborted},
		{"unmapped", killed}, {"elsewhere", exhausted},
	} {
		var line string
		line, out, _ = strings.Cut(out, "\n")
		if name, ended, _ := strings.Cut(line, ": "); name != want[0] || !slices.Contains(want[1:], ended) {
			t.Errorf("%q, want %s: %s", line, want[0], strings.Join(want[1:], " or "))
		}
	}
	if out != "" {
		t.Errorf("and then %q", out)
	}
}

// TestStepped: a debugger steps a thread, instruction by instruction, which aborts its
// section at each step. Operations on the thread's own index give up, and a counter
// counts all the same.
func TestStepped(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds; not with -short")
	}
	testutil.NeedSections(t, rseq.ByCPU)
	runtime.LockOSThread() // only the thread that seized another may step it
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
			cmd.Process.Kill() // it may be stopped
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
	// The thread may have stopped anywhere in Go's runtime, so the child is not asked.
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
	// Both on one CPU: a step is then a switch between them, and does not wait until
	// another CPU runs the other.
	cpus := testutil.AllowedCPUs(t)
	testutil.Pin(t, cpus[0])
	defer testutil.Pin(t, cpus...)
	if err := kernel.Bind(tid, cpus[0]); err != nil {
		t.Fatal(err)
	}
	if err := unix.PtraceSeize(tid); err == unix.EPERM {
		t.Skipf("nobody may trace here: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	if err := unix.PtraceInterrupt(tid); err != nil {
		t.Fatal(err)
	}
	wait()
	done, raced, counted := counts()
	// 128 tries are some 2000 steps. A counter's Add goes on in Go, whose scheduler wants
	// the thread back after 10 ms, and takes some 10,000 then.
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
			t.Fatal(err)
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

// counterEnds reports whether a counter's Add ends that is stepped. Where an atomic is a
// loop (arm64 before 8.1) each step makes it begin again, in any program; and emulated
// machines step so slowly that Go's scheduler wants the thread back at each call.
func counterEnds() bool {
	return !testutil.Guest() && (runtime.GOARCH != "arm64" || cpu.ARM64.HasATOMICS)
}

// TestSteppedChild adds on one thread until its input ends.
func TestSteppedChild(t *testing.T) {
	childOnly(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4)) // one is in the loop and lets nobody in
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
		// The counter comes when Cells.Add gave up: until then nothing here lets Go's
		// scheduler in, however slow the steps are.
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

// TestInjected runs the storms with delays at each point of each section.
func TestInjected(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	program := testutil.GoTest(t, "injected", testutil.Injected)
	which := "^TestStorm|^TestAbortAtEachPoint$"
	if testutil.Guest() {
		which = "^TestAbortAtEachPoint$" // the delays are ten times as long there
	}
	out := testutil.Run(t, nil, program, "-test.run", which, "-test.v")
	t.Log(strings.Count(out, "--- PASS"), "passed,", strings.Count(out, "--- SKIP"), "skipped")
	if !strings.Contains(out, "--- PASS: TestAbortAtEachPoint/cpu_id/signal/add") {
		t.Errorf("the delays were not compiled in:\n%.2000s", out)
	}
}
