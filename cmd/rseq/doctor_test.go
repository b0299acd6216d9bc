//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/testutil"
)

// doctorSaid runs doctor with env added, and returns the line of each check by name.
func doctorSaid(t *testing.T, env []string, args ...string) (status int, lines map[string]string) {
	t.Helper()
	cmd := exec.Command("rseq", append([]string{"doctor"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	lines = map[string]string{}
	name := ""
	for line := range strings.Lines(string(out)) {
		if len(line) > 6 && line[0] != ' ' {
			name, _, _ = strings.Cut(line[6:], ":")
		}
		lines[name] += line
	}
	return cmd.ProcessState.ExitCode(), lines
}

// TestDoctorLazyOwner: an allocator owns the areas and registers a thread at its first
// allocation. No check fails then, but some are inconclusive.
func TestDoctorLazyOwner(t *testing.T) {
	testutil.NeedCompilers(t)
	if info, _ := rseq.Query(); info.Owner == rseq.OwnerNone || !strings.HasPrefix(info.Libc, "glibc") {
		t.Skipf("owner %v, %s", info.Owner, info.Libc) // musl's free would get memory that musl did not allocate
	}
	lazy := testutil.CC(t, "-shared", "-fPIC", "testdata/lazy.c")
	status, lines := doctorSaid(t, []string{"GLIBC_TUNABLES=glibc.pthread.rseq=0", "LD_PRELOAD=" + lazy})
	if !strings.Contains(lines["an area is registered"], "by foreign") {
		t.Errorf("%q", lines)
	}
	for name, line := range lines {
		if strings.HasPrefix(line, "FAIL") {
			t.Errorf("%s: %s", name, line)
		}
		if runtime.GOARCH != "arm64" && strings.Contains(line, "arm64") {
			t.Errorf("advice for another architecture: %s", line)
		}
	}
	if status != exitOK {
		t.Errorf("status %d", status)
	}
}

// TestDoctorRealtime: the threads that add end by themselves if the thread that should stop them
// never runs.
func TestDoctorRealtime(t *testing.T) {
	if testing.Short() {
		t.Skip("takes this machine's processors for seconds")
	}
	var out bytes.Buffer
	path, err := exec.LookPath("rseq")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "doctor", "--stress")
	cmd.Stdout, cmd.Stderr = &out, &out
	testutil.OnThread(func() { // a child inherits its scheduling policy
		fifo := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 10}
		if err = unix.SchedSetAttr(0, &fifo, 0); err != nil {
			return
		}
		err = cmd.Start()
	})
	if errors.Is(err, unix.EPERM) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != exitNo {
		t.Errorf("%v\n%s", err, out.String())
	}
	info, _ := rseq.Query()
	if info.Owner != rseq.OwnerNone && !strings.Contains(out.String(), "no update is lost") && info.CriticalSections {
		t.Errorf("%s", out.String())
	}
}

// affinities is a command that runs the checks that bind threads, on the main thread too if Go
// uses that for them, and prints the threads that are bound afterwards.
func affinities() {
	runtime.GOMAXPROCS(1)
	all := unix.NewCPUSet(1 << 14)
	if err := unix.SchedGetaffinityDynamic(0, all); err != nil {
		panic(err)
	}
	fmt.Println("main thread", unix.Gettid() == unix.Getpid())
	checkCPUs()
	checkLost(newProgress(io.Discard))
	tasks, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		panic(err)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(filepath.Base(task))
		if err != nil {
			panic(err)
		}
		now := unix.NewCPUSet(1 << 14)
		if unix.SchedGetaffinityDynamic(tid, now) == nil && fmt.Sprint(now) != fmt.Sprint(all) {
			fmt.Println("bound", tid)
		}
	}
}

// TestDoctorRestores: no thread stays bound to a CPU, not even the main thread, which does not
// end with its goroutine.
func TestDoctorRestores(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("there is one CPU")
	}
	out, err := exec.Command("affinities").CombinedOutput()
	t.Logf("%s", out)
	if err != nil || strings.Contains(string(out), "bound") {
		t.Error(err)
	}
}

// TestDoctorAround: filters, tools and emulators that cause trouble are warnings, not failures.
func TestDoctorAround(t *testing.T) {
	testutil.NeedCompilers(t)
	info, err := rseq.Query()
	if err != nil || !strings.HasPrefix(info.Libc, "glibc") {
		t.Skipf("%q, %v", info.Libc, err)
	}
	t.Run("filter", func(t *testing.T) {
		filter := testutil.GoBuild(t, "../../test/testdata/filter", nil)
		path, err := exec.LookPath("rseq")
		if err != nil {
			t.Fatal(err)
		}
		out, stderr, err := testutil.Try(nil, filter, "EPERM:membarrier", path, "doctor")
		if err != nil || !strings.Contains(strings.Join(strings.Fields(out), " "), " warn membarrier(2) fences critical sections: it is refused (operation not permitted) What to do: ") {
			t.Errorf("%v\n%s%s", err, out, stderr)
		}
	})
	t.Run("allocator", func(t *testing.T) {
		if info.Owner != rseq.OwnerLibc {
			t.Skipf("the owner is %v", info.Owner)
		}
		lazy := testutil.CC(t, "-shared", "-fPIC", "testdata/lazy.c")
		status, lines := doctorSaid(t, []string{"LD_PRELOAD=" + lazy})
		if got := lines["no other library wants the areas"]; status != exitOK || !strings.HasPrefix(got, "warn") ||
			!strings.Contains(strings.Join(strings.Fields(got), " "), "glibc.pthread.rseq=0") {
			t.Errorf("status %d: %s", status, got)
		}
	})
	t.Run("emulator", func(t *testing.T) {
		qemu, err := exec.LookPath("qemu-aarch64")
		if err != nil {
			t.Skip(err)
		}
		program := testutil.GoBuild(t, ".", []string{"CGO_ENABLED=0", "GOARCH=arm64"})
		out, _, _ := testutil.Try(nil, qemu, program, "doctor")
		if !strings.Contains(out, "\nwarn  the kernel itself runs this process: it is qemu's user mode") {
			t.Errorf("%s", out)
		}
	})
}

// TestCheckLength: a registration that a tool cannot handle is a warning if the tool is
// installed.
func TestCheckLength(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	for _, c := range []struct {
		length  uint32
		install string
		want    verdict
	}{{0, "", skip}, {32, "", ok}, {33, "", ok}, {33, "rr", warn}, {32, "rr", ok}} {
		if c.install != "" {
			if err := os.WriteFile(filepath.Join(dir, c.install), nil, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if got := checkLength(rseq.Info{RegisteredLen: c.length}); got.Verdict != c.want || c.want == warn && !strings.Contains(got.Found, "rr is installed") {
			t.Errorf("%d bytes, %q installed: %+v", c.length, c.install, got)
		}
	}
}
