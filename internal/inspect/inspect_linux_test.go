package inspect

import (
	"context"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReusedID: the id of a thread of one process may become another process's before it is
// seized. Then the report does not have it.
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
		p := process{ctx: context.Background(), pid: pids[0]}
		if err := p.open(); err != nil {
			t.Error(err)
			return
		}
		defer p.close()
		if th, err := p.thread(pids[1]); !errors.Is(err, errEnded) && !errors.Is(err, unix.EPERM) {
			t.Errorf("%+v, %v: expected that the thread has ended", th, err)
		}
	})
}

// onMain counts how many goroutines that the main goroutine started began on the main thread:
// plain ones, and those of onThread.
var onMain struct{ plain, ours int }

func init() { runtime.LockOSThread() } // locks the main goroutine to the main thread

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

// TestOnThread: onThread does not use the main thread, which never ends, so that what it has
// seized would stay seized.
func TestOnThread(t *testing.T) {
	t.Logf("on the main thread: %d goroutines of 100", onMain.plain)
	if onMain.ours > 0 {
		t.Errorf("%d of 100 on the main thread", onMain.ours)
	}
}

// TestWhyNone: the reason names the C library that does not register.
func TestWhyNone(t *testing.T) {
	cmd := exec.Command("sleep", "100")
	cmd.Env = []string{"A=b"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	p := process{ctx: context.Background(), pid: cmd.Process.Pid}
	if err := p.open(); err != nil {
		t.Fatal(err)
	}
	defer p.close()
	library := func(path string, glibc int, names ...string) *object {
		o := &object{path: path, glibc: glibc, symbols: map[string]elf.Symbol{}}
		for _, name := range names {
			o.symbols[name] = elf.Symbol{Name: name}
		}
		return o
	}
	program := library("/program", 0, startMain)
	for _, c := range []struct {
		image image
		want  string
	}{
		{image{objects: []*object{library("/lib/libc.so.6", 31, startMain, glibcVersion)}}, "its C library, glibc 2.31, does not register: 2.35 does"},
		{image{objects: []*object{library("/lib/ld-musl-\x1bx.so.1", 0, startMain)}}, `its C library, "ld-musl-\x1bx.so.1", does not register: glibc 2.35 does`},
		{image{objects: []*object{program}, program: program}, "its C library, linked statically, does not register: glibc 2.35 does"},
		{image{}, "no C library was found in it"},
	} {
		c.image.dir = p.path("")
		if got := c.image.whyNone(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestParseMapping: only files that may be programs are usable, and no devices.
func TestParseMapping(t *testing.T) {
	for line, want := range map[string]bool{
		"7f0000001000-7f0000002000 r--p 00000000 fe:01 1234                       /usr/lib/libc.so.6\n": true,
		"7f0000001000-7f0000002000 r-xp 00001000 fe:01 1234                       /a b\n":               true,
		"7f0000001000-7f0000002000 rw-s 00000000 00:05 7                          /dev/mem\n":           false,
		"7f0000001000-7f0000002000 rw-s 00000000 00:15 7                          /sys/bus/resource0\n": false,
		"7f0000001000-7f0000002000 rw-p 00000000 00:00 0 \n":                                            false,
		"7f0000001000-7f0000002000 r-xp 00000000 00:00 0                          [vdso]\n":             false,
		"7f0000001000-7f0000002000 rw-p 00000000 00:00 0\n":                                             false,
		"nonsense\n": false,
	} {
		m, usable := parseMapping(line)
		if usable != want || usable && (m.start != 0x7f0000001000 || m.file != "fe:01 1234" || m.executable != (m.offset == 0x1000)) {
			t.Errorf("%q: %+v, %v", line, m, usable)
		}
	}
}
