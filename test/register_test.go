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

// TestEdges has a signal, a fork or a limit come at each moment where it could leave
// something behind: testdata/edges.c.
func TestEdges(t *testing.T) {
	testutil.NeedCompilers(t)
	if _, err := rseq.Query(); err != nil {
		t.Skipf("nobody can register here: %v", err)
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

// TestLimited: what cannot be found out when it is asked for first is not remembered for
// ever, and a question that comes meanwhile waits.
func TestLimited(t *testing.T) {
	testutil.NeedCompilers(t)
	program := testutil.GoBuild(t, "./testdata/limited", []string{"CGO_CFLAGS=-I" + testutil.Root(t)})
	if testutil.AskTruth(t, testutil.TunableOff).Owner != rseq.OwnerSelf {
		t.Skip("nobody can register here")
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

// TestLifetime makes and ends threads in the ways that could hurt a
// registration, ours and the C library's.
func TestLifetime(t *testing.T) {
	include := "CGO_CFLAGS=-I" + testutil.Root(t)
	programs := map[string]string{"": testutil.GoBuild(t, "./testdata/lifetime", []string{include})}
	programs[testutil.TunableOff] = programs[""]
	if _, err := exec.LookPath("musl-gcc"); err == nil {
		programs["MUSL=1"] = testutil.GoBuild(t, "./testdata/lifetime", []string{include, "CC=musl-gcc"})
	}
	counts := map[string][2]int{ // by default, and with RSEQ_LONG
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

// TestFilteredThread: a program whose C library owns the area makes no system call to
// read it, so no filter can hurt it; and where a filter is for rseq(2), Query says that
// the kernel could not be asked, and lives.
func TestFilteredThread(t *testing.T) {
	if testutil.AskTruth(t).Owner != rseq.OwnerLibc {
		t.Skip("the C library registers nothing here")
	}
	program := testutil.GoBuild(t, "./testdata/filtered", nil)
	for _, args := range [][]string{nil, {"kill"}, {"EPERM"}} {
		t.Log(args, testutil.Run(t, nil, program, args...))
	}
}

// TestFirstCalls counts the calls of rseq(2) that this package makes, by strace: in the
// first reading of the process, by the thread that asks and by others, in the first of a
// further thread, and in the first Query after that.
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
		want    [4]int // by who asks first, by other threads and processes, by a further thread, by Query
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
			marks, asking := 0, "" // getppid stands before and after what asks
			for line := range strings.Lines(string(data)) {
				tid, call, _ := strings.Cut(strings.TrimSpace(line), " ")
				call = strings.TrimSpace(call)
				call = resumed.ReplaceAllString(call, "$1(") // counted when it ends
				switch {
				case strings.HasSuffix(call, "<unfinished ...>"):
				case strings.HasPrefix(call, "getppid("):
					marks, asking = marks+1, tid
				case !strings.HasPrefix(call, "rseq("):
				case marks == 1 && tid == asking:
					got[0]++
				case marks == 3 && tid == asking:
					got[2]++
				case strings.HasSuffix(call, "= 0"): // the owner's registration of a thread, or ours
				case marks == 1:
					got[1]++
				case marks == 6 && strings.Contains(call, "= -1 "): // not a thread that the end of the process cut off
					got[3]++
				}
			}
			if got != c.want || marks != 6 {
				t.Errorf("%d calls of rseq(2) by who asks first, %d by others, %d by a further thread, %d by Query, want %d:\n%s",
					got[0], got[1], got[2], got[3], c.want, data)
			}
		})
	}
}
