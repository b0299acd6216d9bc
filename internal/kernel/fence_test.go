//go:build linux

package kernel_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/testutil"
)

// children are what the tests do in child processes, which print the results.
var children = map[string]func(){
	"fences": func() {
		fmt.Println("membarrier:", kernel.Membarrier(-1))
		fmt.Println("visit:", kernel.Visit(-1))
	},
	"affinity": func() {
		// With one P the goroutine of a visit mostly runs on the thread of the one that waits.
		runtime.GOMAXPROCS(1)
		before := affinities()
		for range 20 {
			if err := kernel.Visit(-1); err != nil {
				fmt.Println(err)
			}
		}
		for id, cpus := range affinities() {
			if !slices.Equal(cpus, before[strconv.Itoa(os.Getpid())]) {
				fmt.Printf("thread %s of process %d may run on %v, %v before\n", id, os.Getpid(), cpus, before)
			}
		}
		fmt.Println("looked at", len(before), "and more")
	},
	"allowed": func() {
		cpus, err := kernel.AllowedCPUs()
		fmt.Println(cpus, err, kernel.Visit(-1))
	},
	"possible": func() {
		// Now no file can be opened.
		var limit unix.Rlimit
		fmt.Sscan(os.Getenv("RSEQ_NOFILE"), &limit.Cur, &limit.Max)
		check(unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
		if _, err := os.Open("/dev/null"); err == nil {
			fmt.Println("a file could be opened")
		}
		first := kernel.PossibleCPUs()
		limit.Cur, limit.Max = 100, 100 // as far as the hard limit lets it
		unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
		fmt.Println(first, kernel.PossibleCPUs()-first)
	},
	"spinning": func() {
		// A thread never waits, and runs on the only CPU, which no thread may be bound to.
		runtime.GOMAXPROCS(4)
		var cpu atomic.Int64
		cpu.Store(-1)
		go func() {
			runtime.LockOSThread()
			on, _, _ := kernel.Getcpu()
			cpu.Store(int64(on))
			for n := 0; n >= 0; n++ { // without touching memory, which it might wait for
			}
		}()
		for cpu.Load() < 0 {
			unix.Nanosleep(&unix.Timespec{Nsec: 1000}, nil)
		}
		fmt.Println("one:", kernel.Visit(int(cpu.Load())))
		fmt.Println("all:", kernel.Visit(-1))
		fmt.Println("another:", kernel.Visit(kernel.PossibleCPUs()+1))
	},
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// affinities returns the CPUs that each thread may run on.
func affinities() map[string][]int {
	all := map[string][]int{}
	paths, _ := filepath.Glob("/proc/self/task/*")
	for _, path := range paths {
		id := filepath.Base(path)
		n, err := strconv.Atoi(id)
		check(err)
		if set, err := kernel.Affinity(n); err == nil { // else the thread has ended
			all[id] = kernel.CPUs(set)
		}
	}
	return all
}

func TestMain(m *testing.M) {
	if child := children[os.Getenv("RSEQ_CHILD")]; child != nil {
		child()
		return
	}
	os.Exit(m.Run())
}

// child runs one of the children under filters, with env added to the environment.
func child(t *testing.T, name string, filters []string, env ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := []string{self}
	if len(filters) > 0 {
		filter := testutil.GoBuild(t, "../../test/testdata/filter", nil)
		for _, f := range filters {
			command = append([]string{filter, f}, command...)
		}
	}
	return testutil.Run(t, append(env, "RSEQ_CHILD="+name), command[0], command[1:]...)
}

// TestFilters: a filter that kills for a system call of a fence does not kill this process.
// If a filter refuses one, the error says so. If no child process can be made to ask first,
// the calls are not made.
func TestFilters(t *testing.T) {
	const kills, works = "it killed a child process", "<nil>"
	noChild := "no child process could be made to ask first: " + unix.EAGAIN.Error()
	for _, c := range []struct {
		filters           []string
		membarrier, visit string
	}{
		{[]string{"kill:membarrier"}, kills, works},
		{[]string{"trap:membarrier"}, kills, works},
		{[]string{"kill:membarrier/0=0"}, kills, works}, // kills for MEMBARRIER_CMD_QUERY only
		{[]string{"kill:membarrier/1=1"}, kills, works}, // kills for MEMBARRIER_CMD_FLAG_CPU only
		{[]string{"kill:membarrier,sched_setaffinity"}, kills, kills},
		{[]string{"EPERM:membarrier"}, unix.EPERM.Error(), works},
		{[]string{"EPERM:membarrier,sched_setaffinity"}, unix.EPERM.Error(), unix.EPERM.Error()},
		{[]string{"kill:membarrier", "EAGAIN:clone/0=0"}, noChild, noChild},
		{[]string{fmt.Sprintf("EPERM:prctl/0=%d", unix.PR_GET_SECCOMP), "kill:membarrier"}, kills, works},
	} {
		out := child(t, "fences", c.filters)
		membarrier, visit, _ := strings.Cut(out, "\n")
		if !strings.Contains(membarrier, c.membarrier) || !strings.Contains(visit, c.visit) {
			t.Errorf("%v: want %q and %q:\n%s", c.filters, c.membarrier, c.visit, out)
		}
	}
}

// TestVisitRestores: a visit leaves no thread bound, the main one included.
func TestVisitRestores(t *testing.T) {
	if out := child(t, "affinity", nil); !strings.HasPrefix(out, "looked at") {
		t.Error(out)
	}
}

// TestVisitRefused: Visit waits for a thread on a CPU that it cannot be bound to. If that
// thread does not stop, Visit returns an error.
func TestVisitRefused(t *testing.T) {
	testutil.OnThread(func() {
		testutil.Pin(t, testutil.AllowedCPUs(t)[0]) // the child inherits this
		out := child(t, "spinning", []string{"EINVAL:sched_setaffinity"}, "GODEBUG=asyncpreemptoff=1", "GOGC=off")
		lines := strings.Split(out, "\n")
		for i, want := range []string{"does not stop running there", "does not stop running there", "<nil>"} {
			if len(lines) <= i || !strings.HasSuffix(lines[i], want) {
				t.Errorf("want %q:\n%s", want, out)
			}
		}
	})
}

// TestManyCPUs: the kernel answers EINVAL to a mask that is shorter than its own.
func TestManyCPUs(t *testing.T) {
	want := fmt.Sprintln(testutil.AllowedCPUs(t), nil, nil)
	if out := child(t, "allowed", []string{"EINVAL:sched_getaffinity/1<256"}); out != want {
		t.Errorf("%s, want %s", out, want)
	}
}

// TestPossibleCPUs: the number is the same if the process can open no file when it first asks.
// If a child process can open none either, the number is too large, and stays the same.
func TestPossibleCPUs(t *testing.T) {
	var hard unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &hard); err != nil {
		t.Fatal(err)
	}
	truth := kernel.PossibleCPUs()
	const noLeaks = "ASAN_OPTIONS=detect_leaks=0" // which opens files
	for _, soft := range []int{0, 3} {
		for _, most := range []uint64{3, hard.Max} {
			out := child(t, "possible", nil, fmt.Sprintf("RSEQ_NOFILE=%d %d", soft, most), noLeaks)
			if want := fmt.Sprintln(truth, 0); out != want {
				t.Errorf("limit of %d, %d at most: %s, want %s", soft, most, out, want)
			}
		}
	}
	var first, later int
	fmt.Sscan(child(t, "possible", nil, "RSEQ_NOFILE=0 0", noLeaks), &first, &later)
	if later != 0 || first != (truth+63)/64*64 {
		t.Errorf("at a limit of 0: %d, then %d more, with %d possible", first, later, truth)
	}
}

// TestOnThread: OnThread returns the error of f, also if f bound the thread.
func TestOnThread(t *testing.T) {
	cpus := testutil.AllowedCPUs(t)
	want := exec.ErrDot
	for _, cpu := range cpus {
		got := kernel.OnThread(func() error {
			if err := kernel.Bind(0, cpu); err != nil {
				return err
			}
			if on, _, err := kernel.Getcpu(); err != nil || on != cpu {
				return fmt.Errorf("bound to CPU %d, on %d: %w", cpu, on, err)
			}
			return want
		})
		if got != want {
			t.Error(got)
		}
	}
	for _, cpu := range []int{-1, kernel.PossibleCPUs(), 1 << 20} {
		if err := kernel.OnThread(func() error { return kernel.Bind(0, cpu) }); err != unix.EINVAL {
			t.Errorf("bind to CPU %d: %v", cpu, err)
		}
	}
}
