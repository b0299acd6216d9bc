//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/testutil"
)

// TestEdges: a signal, a fork or a limit at the worst moment leaves no wrong state behind:
// testdata/edges.c.
func TestEdges(t *testing.T) {
	testutil.NeedCompilers(t)
	if _, err := rseq.Query(); err != nil {
		t.Skipf("no thread can be registered here: %v", err)
	}
	if filtered, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); filtered != 0 {
		t.Logf("there is a seccomp filter (mode %d, %v)", filtered, err)
	}
	program := testutil.CC(t, "testdata/edges.c", "-ldl", "-lpthread")
	for _, what := range []string{"busy", "finishing", "no process", "no thread", "no memory", "killed by another",
		"killed by the filter", "question refused", "pretends", "forked", "meanwhile"} {
		t.Run(what, func(t *testing.T) { testutil.Run(t, []string{testutil.TunableOff}, program, what) })
	}
}

// TestLimited: if the owner cannot be found at first, it is looked for again later. A call during
// the search waits.
func TestLimited(t *testing.T) {
	testutil.NeedCompilers(t)
	program := testutil.GoBuild(t, "./testdata/limited", []string{"CGO_CFLAGS=-I" + testutil.Root(t)})
	if testutil.AskTruth(t, testutil.TunableOff).Owner != rseq.OwnerSelf {
		t.Skip("no thread can be registered here")
	}
	t.Run("meanwhile", func(t *testing.T) {
		for range 50 {
			testutil.Run(t, []string{testutil.TunableOff}, program, "meanwhile")
		}
	})
	t.Run("processes", func(t *testing.T) {
		filter := testutil.GoBuild(t, "./testdata/filter", nil)
		testutil.Run(t, []string{testutil.TunableOff}, filter, "EPERM:swapoff", program, "processes")
	})
}

// TestLifetime makes and ends threads in ways that could damage a registration, ours or the C
// library's.
func TestLifetime(t *testing.T) {
	include := "CGO_CFLAGS=-I" + testutil.Root(t)
	programs := map[string]string{"": testutil.GoBuild(t, "./testdata/lifetime", []string{include})}
	programs[testutil.TunableOff] = programs[""]
	if _, err := exec.LookPath("musl-gcc"); err == nil {
		programs["MUSL=1"] = testutil.GoBuild(t, "./testdata/lifetime", []string{include, "CC=musl-gcc"})
	}
	counts := map[string][2]int{ // the number of threads, without and with RSEQ_LONG
		"churn": {4000, 200000}, "cthreads": {1000, 20000}, "fork": {10, 200},
		"alarm": {1000, 10000}, "slow alarm": {300, 300}, "sigurg": {300, 10000}}
	for env, program := range programs {
		for what, n := range counts {
			t.Run(env+" "+what, func(t *testing.T) {
				count := n[0]
				if testutil.Long() && env != "" {
					count = n[1]
				}
				t.Log(testutil.Run(t, []string{env}, program, what, fmt.Sprint(testutil.Repeat(count))))
			})
		}
	}
}

// TestFilteredThread: if the C library owns the area, reading it makes no system call, so no filter
// can kill for it. Under a filter for rseq(2) Query reports that the kernel could not be asked.
func TestFilteredThread(t *testing.T) {
	if testutil.AskTruth(t).Owner != rseq.OwnerLibc {
		t.Skip("the C library registers nothing here")
	}
	program := testutil.GoBuild(t, "./testdata/filtered", nil)
	for _, args := range [][]string{nil, {"kill"}, {"EPERM"}} {
		t.Log(args, testutil.Run(t, nil, program, args...))
	}
}

// TestFirstCalls counts by strace how often this package calls rseq(2): in the first reading of
// the process, by the thread that reads and by others; in the first reading of another thread;
// and in the first Query after that.
func TestFirstCalls(t *testing.T) {
	testutil.NeedCompilers(t)
	if out, _, err := testutil.Try(nil, "strace", "-e", "trace=getppid", "true"); err != nil {
		t.Skipf("strace does not work here: %v %s", err, out)
	}
	if testutil.AskTruth(t).Owner != rseq.OwnerLibc {
		t.Skip("the C library registers nothing here")
	}
	if filtered, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); filtered != 0 {
		t.Skipf("there is a seccomp filter already (mode %d, %v): a child process asks first", filtered, err)
	}
	program := testutil.GoBuild(t, "./testdata/firstcall", nil)
	filter := testutil.GoBuild(t, "./testdata/filter", nil)
	symbol := testutil.CC(t, "-DSIGNATURE=RSEQGO_SIG", "-DSYMBOL", "-shared", "-fPIC", "testdata/foreign.c", "-ldl", "-lpthread")
	for _, c := range []struct {
		name    string
		command []string
		want    [4]int // calls by the first thread, meanwhile by others, by another thread, by Query
	}{
		{"libc", []string{program}, [4]int{0, 0, 0, 3}},
		{"self", []string{"env", testutil.TunableOff, program}, [4]int{4, 2, 1, 3}},
		{"foreign, by symbol", []string{"env", testutil.TunableOff, "LD_PRELOAD=" + symbol, program}, [4]int{6, 5, 0, 3}},
		{"none, ENOSYS", []string{"env", testutil.TunableOff, filter, "ENOSYS", program}, [4]int{1, 1, 0, 0}},
		{"none, EPERM", []string{"env", testutil.TunableOff, filter, "EPERM", program}, [4]int{1, 1, 0, 2}},
		{"none, kill", []string{"env", testutil.TunableOff, filter, "kill", program}, [4]int{0, 1, 0, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "trace")
			testutil.Run(t, nil, "strace", append([]string{"-f", "-qq", "-o", file, "-e", "trace=rseq,getppid"}, append(c.command, "x")...)...)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			resumed := regexp.MustCompile(`^<\.\.\. (\w+) resumed>`)
			var got [4]int
			marks, asking := 0, "" // getppid is called before and after each reading
			for line := range strings.Lines(string(data)) {
				tid, call, _ := strings.Cut(strings.TrimSpace(line), " ")
				call = strings.TrimSpace(call)
				call = resumed.ReplaceAllString(call, "$1(") // a call is counted when it ends
				switch {
				case strings.HasSuffix(call, "<unfinished ...>"):
				case strings.HasPrefix(call, "getppid("):
					marks, asking = marks+1, tid
				case !strings.HasPrefix(call, "rseq("):
				case marks == 1 && tid == asking:
					got[0]++
				case marks == 3 && tid == asking:
					got[2]++
				case strings.HasSuffix(call, "= 0"): // a registration
				case marks == 1:
					got[1]++
				case marks == 6 && strings.Contains(call, "= -1 "): // the call has returned before the process ended
					got[3]++
				}
			}
			if got != c.want || marks != 6 {
				t.Errorf("%d calls of rseq(2) by the first thread, %d by others, %d by another thread, %d by Query, want %d:\n%s",
					got[0], got[1], got[2], got[3], c.want, data)
			}
		})
	}
}
