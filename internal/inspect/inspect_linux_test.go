package inspect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReusedID: a thread whose id came from one process's list and is another's by the
// time that it is seized is not taken for the first one's.
func TestReusedID(t *testing.T) {
	var pids []int
	for range 2 {
		cmd := exec.Command("sleep", "100")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
		defer cmd.Process.Kill()
		pids = append(pids, cmd.Process.Pid)
	}
	onThread(func() {
		dir, err := os.Open(fmt.Sprintf("/proc/%d", pids[0]))
		if err != nil {
			t.Error(err)
			return
		}
		defer dir.Close()
		p := process{ctx: context.Background(), pid: pids[0], dir: dir}
		if th, err := p.thread(pids[1]); !errors.Is(err, errEnded) && !errors.Is(err, unix.EPERM) {
			t.Errorf("%+v, %v: expected that the thread has ended", th, err)
		}
	})
}

// onMain counts how often a goroutine that the main goroutine started began on the main
// thread: a plain one, and one of onThread.
var onMain struct{ plain, ours int }

func init() { runtime.LockOSThread() } // the main goroutine to the main thread

func TestMain(m *testing.M) {
	runtime.UnlockOSThread()
	procs := runtime.GOMAXPROCS(1)
	count := func(n *int) {
		if unix.Gettid() == unix.Getpid() {
			*n++
		}
	}
	for range 100 {
		done := make(chan bool)
		go func() { count(&onMain.plain); done <- true }()
		<-done
	}
	for range 100 {
		onThread(func() { count(&onMain.ours) })
	}
	runtime.GOMAXPROCS(procs)
	os.Exit(m.Run())
}

// TestOnThread: what is seized by the main thread would stay so, since it never ends.
func TestOnThread(t *testing.T) {
	t.Logf("on the main thread: %d goroutines of 100", onMain.plain)
	if onMain.ours > 0 {
		t.Errorf("%d of 100 on the main thread", onMain.ours)
	}
}
