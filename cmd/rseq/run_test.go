//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq/internal/testutil"
)

// TestRunSignals: the command can be stopped and continued as without rseq, a signal that ends
// rseq is passed on to it, and all its threads are counted, also those that ended before.
func TestRunSignals(t *testing.T) {
	testutil.NeedCompilers(t)
	cmd := exec.Command("rseq", "run", "--json", testutil.CC(t, "testdata/churn.c", "-lpthread"), "3")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "runs\n" {
		cmd.Wait()
		t.Skipf("%q, %v, %s", line, err, said.String()) // no ptrace here
	}
	var children []byte // the children of the thread that traces
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", cmd.Process.Pid))
	for _, task := range tasks {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", cmd.Process.Pid, task.Name()))
		children = append(children, data...)
	}
	var child int
	if _, err := fmt.Sscan(string(children), &child); err != nil {
		t.Fatalf("%q: %v", children, err)
	}
	if err := unix.Kill(child, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	waitState(t, child, "tT")
	if err := unix.Kill(child, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	waitState(t, child, "SR")
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != 128+int(unix.SIGTERM) {
		t.Errorf("status %d", status)
	}
	got := testutil.Decode[struct {
		PID     int
		Groups  []struct{ Threads int }
		Missing *string
	}](t, said.String())
	threads := 0
	for _, g := range got.Groups {
		threads += g.Threads
	}
	old := got.Missing != nil && strings.Contains(*got.Missing, "needs Linux 5.13")
	if got.PID != child || !old && (threads < 4 || got.Missing != nil) {
		t.Errorf("%s", said.String())
	}
	t.Logf("%d threads", threads)
}
