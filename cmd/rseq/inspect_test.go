//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/testutil"
)

// result is the result of a command.
type result struct {
	status         int
	stdout, stderr string
}

// rseqCommand runs the command in a process of its own. That is this test binary, which
// testscript.Main runs as the command under the name "rseq".
func rseqCommand(t *testing.T, args ...string) result {
	t.Helper()
	var o, e bytes.Buffer
	cmd := exec.Command("rseq", args...)
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), o.String(), e.String()}
}

// refused checks that inspecting pid fails with status 1 and an error that has all words.
func refused(t *testing.T, pid int, words ...string) {
	t.Helper()
	r := rseqCommand(t, "inspect", fmt.Sprint(pid))
	if r.status != exitNo || r.stdout != "" || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("%+v", r)
	}
	for _, w := range words {
		if !strings.Contains(r.stderr, w) {
			t.Errorf("%q does not say %q", r.stderr, w)
		}
	}
}

// start starts a program and waits until it sleeps. The program is killed after the test.
func start(t *testing.T, name string, args ...string) int {
	t.Helper()
	cmd := exec.Command(name, args...)
	stop, err := startSleeper(cmd)
	t.Cleanup(stop)
	if err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// startSleeper starts a program and waits until it sleeps: then its C library has registered its
// area. stop kills the program.
func startSleeper(cmd *exec.Cmd) (stop func(), err error) {
	if err := cmd.Start(); err != nil {
		return func() {}, err
	}
	return func() {
		cmd.Process.Kill()
		cmd.Wait()
	}, reachState(cmd.Process.Pid, "S")
}

// waitState waits until the process is in one of states, letters of /proc/PID/stat.
func waitState(t *testing.T, pid int, states string) {
	t.Helper()
	if err := reachState(pid, states); err != nil {
		t.Fatal(err)
	}
}

func reachState(pid int, states string) error {
	var now string
	for range 500 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return err
		}
		now = string(stat[bytes.LastIndexByte(stat, ')')+2])
		if strings.Contains(states, now) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("process %d is in state %s, expected one of %s", pid, now, states)
}

// skipIfOld skips the test if the kernel is too old for inspect.
func skipIfOld(t *testing.T, r result) {
	t.Helper()
	if r.status == exitNo && strings.Contains(r.stderr, "needs Linux 5.13") {
		t.Skip(r.stderr)
	}
}

// inspected is a process in the JSON of inspect. Numbers and texts that are not known are nil.
type inspected struct {
	PID     int
	Name    string
	Threads []struct {
		TID       int
		Name      string
		Owner     string
		Object    *string
		Address   *string
		Length    *int
		Signature *string
		Flags     *int
		Why       *string
	}
	Missing *string
}

func (p inspected) missing() string {
	if p.Missing == nil {
		return ""
	}
	return *p.Missing
}

// inspectJSON inspects processes and checks that the status agrees with the JSON.
func inspectJSON(t *testing.T, args ...string) (got []inspected) {
	t.Helper()
	r := rseqCommand(t, append([]string{"inspect", "--json"}, args...)...)
	skipIfOld(t, r)
	all := testutil.Decode[struct {
		Schema    int
		Kernel    string
		Go        string
		Processes []inspected
		Unread    []struct {
			PID int
			Why string
		}
	}](t, r.stdout)
	if all.Schema != 1 || all.Kernel != kernel.Release() || all.Go != runtime.Version() {
		t.Errorf("%.200s", r.stdout)
	}
	every, any := true, false
	for _, p := range all.Processes {
		registered := false
		for _, th := range p.Threads {
			registered = registered || th.Address != nil
			if (th.Owner == "none") != (th.Address == nil) || (th.Address == nil) != (th.Length == nil) || (th.Owner == "object") != (th.Object != nil) {
				t.Errorf("%+v", th)
			}
		}
		every, any = every && registered, any || registered
	}
	want := exitNo
	if every && len(all.Unread) == 0 || any && args[0] == "--all" {
		want = exitOK
	}
	if r.status != want {
		t.Errorf("status %d, want %d: %.300s", r.status, want, r.stdout)
	}
	return all.Processes
}

// inspectOne inspects one process.
func inspectOne(t *testing.T, pid int) inspected {
	t.Helper()
	got := inspectJSON(t, fmt.Sprint(pid))
	if len(got) != 1 || got[0].PID != pid || len(got[0].Threads) == 0 {
		t.Fatalf("%+v", got)
	}
	return got[0]
}

// fits checks that no line is wider than a terminal, and that the text has no control characters
// but line ends.
func fits(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if line = strings.TrimSuffix(line, "\n"); len(line) > width {
			t.Errorf("%d columns: %q", len(line), line)
		}
		if i := strings.IndexFunc(line, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
			t.Errorf("byte %d is %#x: %q", i, line[i], line)
		}
	}
}

func tracerOf(t *testing.T, pid int) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // works with a thread's id too
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "TracerPid:\t")
	tracer, _, _ := strings.Cut(rest, "\n")
	return tracer
}

func TestInspectStranger(t *testing.T) {
	pid := start(t, "sleep", "100")
	got := inspectOne(t, pid)
	if got.Name != "sleep" || len(got.Threads) != 1 || got.Threads[0].TID != pid || got.Threads[0].Name != "sleep" {
		t.Errorf("%+v", got)
	}
	if r := rseqCommand(t, "inspect", fmt.Sprint(pid)); !strings.Contains(r.stdout, "sleep") {
		t.Errorf("%+v", r)
	}
	waitState(t, pid, "S")
	if tracer := tracerOf(t, pid); tracer != "0" {
		t.Errorf("still traced by %s", tracer)
	}
}

// TestInspectThreads inspects a Python program with threads, if Python is installed.
func TestInspectThreads(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip(err)
	}
	pid := start(t, "python3", "-c", `
import threading, time
for i in range(10): threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
time.sleep(100)`)
	for range 500 {
		if tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid)); len(tasks) == 11 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	got := inspectOne(t, pid)
	if len(got.Threads) != 11 {
		t.Errorf("%d threads, want 11", len(got.Threads))
	}
	for _, th := range got.Threads {
		if (th.Address == nil) != (got.Threads[0].Address == nil) {
			t.Errorf("%+v differs from the first thread, %+v", th, got.Threads[0])
		}
	}
}

// TestInspectStopped: a stopped process is inspected and stays stopped.
func TestInspectStopped(t *testing.T) {
	pid := start(t, "sleep", "100")
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	waitState(t, pid, "T")
	inspectOne(t, pid)
	time.Sleep(10 * time.Millisecond)
	waitState(t, pid, "T")
}

func TestInspectRefused(t *testing.T) {
	refused(t, 999999999, "there is no process 999999999")
	if stat, err := os.ReadFile("/proc/2/comm"); err == nil && string(stat) == "kthreadd\n" {
		refused(t, 2, "process 2 is a kernel thread")
	}
}

func TestInspectTraced(t *testing.T) {
	pid := start(t, "sleep", "100")
	done, release := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		done <- unix.PtraceSeize(pid)
		<-release
		// The thread ends with this goroutine, and the tracing ends with the thread.
	}()
	if err := <-done; err != nil {
		t.Skipf("cannot trace here: %v", err)
	}
	refused(t, pid, "is traced already, by thread ")
	close(release)
}

// TestInspectForeign: a process of another user is refused.
func TestInspectForeign(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can run the command as another user")
	}
	pid := start(t, "sleep", "100")
	path, err := exec.LookPath("rseq")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "") // other users may not enter the folder of path
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path = filepath.Join(dir, "rseq")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, program, 0o755), os.Chmod(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "inspect", fmt.Sprint(pid))
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	var e bytes.Buffer
	cmd.Stderr = &e
	err = cmd.Run()
	// The child changed its user while it shared this process's memory. The kernel then
	// marks that as not dumpable, and without CAP_SYS_PTRACE this process could not be
	// inspected any more.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if errors.Is(err, os.ErrPermission) {
		t.Skipf("this user may not become another, or not run a program of %s: %v", dir, err)
	}
	if cmd.ProcessState.ExitCode() != exitNo || !strings.Contains(e.String(), "belongs to user 0") {
		t.Errorf("%v: %s", err, e.String())
	}
}

// TestInspectEnding: a process that ends while it is inspected gives a result or an error, and
// the command does not fail.
func TestInspectEnding(t *testing.T) {
	for i := range 30 {
		cmd := exec.Command("sleep", fmt.Sprintf("0.00%d", i%10))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go cmd.Wait()
		r := rseqCommand(t, "inspect", fmt.Sprint(cmd.Process.Pid))
		if r.status != exitOK && r.status != exitNo {
			t.Errorf("%+v", r)
		}
		if r.status == exitNo && !strings.Contains(r.stderr, "process") && !strings.Contains(r.stdout, "\nnone: ") {
			t.Errorf("%+v", r)
		}
	}
}

// TestInspectChurn: threads start and end while the process is inspected.
func TestInspectChurn(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	for range 4 {
		go func() {
			for {
				done := make(chan struct{})
				go func() {
					runtime.LockOSThread() // the thread ends with the goroutine
					close(done)
				}()
				<-done
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
	}
	rounds := 10
	if testing.Short() {
		rounds = 1
	}
	for range rounds {
		inspectOne(t, os.Getpid())
	}
}

// startC builds a program of testdata and starts it.
func startC(t *testing.T, name string, args ...string) int {
	t.Helper()
	testutil.NeedCompilers(t)
	return startSaying(t, nil, append([]string{testutil.CC(t, "testdata/"+name+".c", "-lpthread")}, args...)...)
}

// startSaying starts a program and waits until it prints that it runs.
func startSaying(t *testing.T, env []string, args ...string) int {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "runs\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd.Process.Pid
}

// TestInspectEndless: a process makes threads faster than they can be asked about. The report
// has those of some passes, and says that there may be more.
func TestInspectEndless(t *testing.T) {
	const threads = 400
	pid := startC(t, "churn", fmt.Sprint(threads))
	// It may not run while inspect does, on a machine that is busy with something else.
	for try := 0; ; try++ {
		got := inspectOne(t, pid)
		r := rseqCommand(t, "inspect", fmt.Sprint(pid))
		fits(t, r.stdout)
		if len(got.Threads) < threads {
			t.Fatalf("%d threads; missing: %q", len(got.Threads), got.missing())
		}
		json, text := strings.Contains(got.missing(), "come and go faster"), strings.Contains(r.stdout, "more threads: its threads come and go")
		if json && text {
			return
		}
		if try == 100 {
			t.Fatalf("missing: %q; status %d, %s, %.100s", got.missing(), r.status, r.stderr, r.stdout)
		}
	}
}

// TestInspectUnstoppable: a thread in an uninterruptible system call does not stop. The others are
// reported, and all are detached.
func TestInspectUnstoppable(t *testing.T) {
	pid := startC(t, "vforked")
	waitState(t, pid, "D")
	got := inspectOne(t, pid)
	if len(got.Threads) != 3 || !strings.Contains(got.missing(), "1 thread did not stop") {
		t.Errorf("%+v", got)
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil || len(tasks) != 4 {
		t.Fatalf("%d threads, %v", len(tasks), err)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			t.Fatal(err)
		}
		if tracer := tracerOf(t, tid); tracer != "0" {
			t.Errorf("thread %d is still traced by %s", tid, tracer)
		}
	}
}

// TestInspectNames: the name of a thread is unchanged in JSON, and in quotes without control
// characters on a terminal.
func TestInspectNames(t *testing.T) {
	for name, shown := range map[string]string{
		"\x1b[31mred":        `"\x1b[31mred"`,
		"a\rb\fc\vd\be\a":    `"a\rb\fc\vd\be\a"`,
		" blank\n":           `" blank\n"`,
		"quo\"te\\":          `"quo\"te\\"`,
		"\u202eabc\u009b31m": `"\u202eabc\u00...`,
		"bad\xff\xfe":        `"bad\xff\xfe"`,
	} {
		testutil.OnThread(func() {
			if err := os.WriteFile("/proc/thread-self/comm", []byte(name), 0); err != nil {
				t.Error(err)
			}
			r := rseqCommand(t, "inspect", "--threads", fmt.Sprint(os.Getpid()))
			skipIfOld(t, r)
			if !strings.Contains(r.stdout, " "+shown) {
				t.Errorf("%q: %+v", name, r)
			}
			fits(t, r.stdout)
			want, found := strings.ToValidUTF8(name, "\ufffd\ufffd"), false
			for _, th := range inspectOne(t, os.Getpid()).Threads {
				found = found || th.Name == want
			}
			if !found {
				t.Errorf("no thread has the name %q in JSON", want)
			}
		})
	}
}

// TestInspectNamespace: if /proc has the ids of another namespace no process is inspected, since
// an id would be another process.
func TestInspectNamespace(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make a namespace")
	}
	path, err := exec.LookPath("rseq")
	if err != nil {
		t.Fatal(err)
	}
	pid := start(t, "sleep", "100")
	cmd := exec.Command(path, "inspect", fmt.Sprint(pid))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	var e bytes.Buffer
	cmd.Stderr = &e
	err = cmd.Run()
	if errors.Is(err, os.ErrPermission) {
		t.Skip(err)
	}
	if cmd.ProcessState.ExitCode() != exitNo || !strings.Contains(e.String(), "another namespace") {
		t.Errorf("%v: %s", err, e.String())
	}
}

// TestInspectInterrupted: after the command was interrupted, at any moment, the process runs and
// is not traced.
func TestInspectInterrupted(t *testing.T) {
	pid := start(t, "sleep", "100")
	for i := range 20 {
		cmd := exec.Command("rseq", "inspect", fmt.Sprint(pid))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * time.Millisecond)
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		waitState(t, pid, "S")
		if tracer := tracerOf(t, pid); tracer != "0" {
			t.Errorf("still traced by %s", tracer)
		}
	}
}

// TestInspectFirstGone: if the first thread of a process has ended, the process's folder in /proc
// shows no mappings, but the folders of its other threads do.
func TestInspectFirstGone(t *testing.T) {
	pid := startC(t, "idle", "5", "leave")
	waitState(t, pid, "Z")
	p := inspectOne(t, pid)
	info, _ := rseq.Query()
	for _, th := range p.Threads {
		if info.Owner == rseq.OwnerLibc && th.Owner != "libc" {
			t.Errorf("%+v", th)
		}
	}
	if len(p.Threads) != 4 {
		t.Errorf("%d threads", len(p.Threads))
	}
}

// TestInspectMany: 5,000 equal threads are one line.
func TestInspectMany(t *testing.T) {
	const threads = 5000
	pid := startC(t, "idle", fmt.Sprint(threads))
	began := time.Now()
	r := rseqCommand(t, "inspect", fmt.Sprint(pid))
	skipIfOld(t, r)
	t.Log(time.Since(began))
	fits(t, r.stdout)
	if n := strings.Count(r.stdout, "\n"); n > 8 || !strings.Contains(r.stdout, fmt.Sprintf("\n   %d  ", threads)) {
		t.Errorf("%d lines:\n%.2000s", n, r.stdout)
	}
	p := inspectOne(t, pid)
	if len(p.Threads) != threads || p.Missing != nil {
		t.Errorf("%d threads, %s", len(p.Threads), p.missing())
	}
}

// TestInspectByName: a process is found by its name and by the name of its program.
func TestInspectByName(t *testing.T) {
	program := filepath.Join(t.TempDir(), "a-name-of-more-than-15-bytes")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	if exec.Command(program, "0").Run() != nil {
		t.Skip("this sleep does not run under another name") // busybox
	}
	pids := map[int]bool{start(t, program, "100"): true, start(t, program, "100"): true}
	got := inspectJSON(t, filepath.Base(program))
	if len(got) != 2 || !pids[got[0].PID] || !pids[got[1].PID] {
		t.Errorf("%+v, expected %v", got, pids)
	}
	r := rseqCommand(t, "inspect", filepath.Base(program))
	fits(t, r.stdout)
	if strings.Count(r.stdout, "\n") != 3 || !strings.Contains(r.stdout, `"a-name-of-more-"`) && !strings.Contains(r.stdout, `"a-name-of-mor...`) {
		t.Errorf("%s", r.stdout)
	}
}

// TestProgress: on a terminal a line shows the progress after a second, and is cleared at the
// end.
func TestProgress(t *testing.T) {
	pid := startC(t, "vforked") // its first thread does not stop, which takes seconds
	waitState(t, pid, "D")
	master, terminal := openTerminal(t)
	path, err := exec.LookPath("rseq")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "inspect", fmt.Sprint(pid))
	cmd.Stderr = terminal
	if err := cmd.Run(); cmd.ProcessState.ExitCode() == exitFailed {
		t.Fatal(err)
	}
	terminal.Close()
	said, _ := io.ReadAll(master) // until EIO
	lines := strings.Split(string(said), "\r")
	if len(lines) < 4 || !strings.HasPrefix(lines[1], "process 1 of 1, thread 3 of 4 ") || len(lines[1]) != width-1 ||
		lines[len(lines)-1] != "" || strings.TrimSpace(lines[len(lines)-2]) != "" {
		t.Errorf("%q", said)
	}
}

// TestErrorOnTerminal: a long error is wrapped on a terminal.
func TestErrorOnTerminal(t *testing.T) {
	master, terminal := openTerminal(t)
	path, err := exec.LookPath("rseq")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "show", strings.Repeat("extra", 50), "and more")
	cmd.Stderr = terminal
	cmd.Run()
	terminal.Close()
	said, _ := io.ReadAll(master)
	text := strings.ReplaceAll(string(said), "\r\n", "\n")
	fits(t, text)
	if strings.Count(text, "\n") < 4 || !strings.HasPrefix(text, "rseq: show: extra argument") {
		t.Errorf("%q", text)
	}
}

// openTerminal returns the two ends of a terminal.
func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Skip(err)
	}
	return master, terminal
}
