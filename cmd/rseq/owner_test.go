//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/testutil"
)

// TestInspectOwner: the owner, or the reason why there is no area, in programs that are linked
// and started in various ways.
func TestInspectOwner(t *testing.T) {
	testutil.NeedCompilers(t)
	info, _ := rseq.Query()
	if !strings.HasPrefix(info.Libc, "glibc") {
		t.Skipf("%q: the programs are for glibc", info.Libc)
	}
	const off = "GLIBC_TUNABLES=glibc.pthread.rseq=0"
	libc := info.Owner.String()
	if info.Owner != rseq.OwnerLibc || os.Getenv("GLIBC_TUNABLES") != "" {
		t.Skipf("the owner here is %v: the programs are for a C library that registers", info.Owner)
	}
	idle := testutil.CC(t, "testdata/idle.c", "-lpthread")
	lazy := testutil.CC(t, "-shared", "-fPIC", "testdata/lazy.c")
	hidden := testutil.CC(t, "-shared", "-fPIC", "-D__rseq_abi=area", "testdata/lazy.c")
	for _, c := range []struct {
		name, program, preload, owner, object, why string
		env                                        []string
	}{
		{name: "dynamic", program: idle, owner: libc},
		{name: "not position-independent", program: testutil.CC(t, "-no-pie", "-fno-pie", "testdata/idle.c", "-lpthread"), owner: libc},
		{name: "System V hash", program: testutil.CC(t, "-Wl,--hash-style=sysv", "testdata/idle.c", "-lpthread"), owner: libc},
		{name: "static", program: testutil.CC(t, "-static", "testdata/idle.c", "-lpthread"), owner: libc},
		{name: "static-pie", program: testutil.CC(t, "-static-pie", "testdata/idle.c", "-lpthread"), owner: libc},
		{name: "static, without symbols", program: testutil.CC(t, "-static", "-s", "testdata/idle.c", "-lpthread"), owner: "unknown"},
		{name: "tunable off", program: idle, env: []string{off}, owner: "none", why: "its environment has glibc.pthread.rseq=0"},
		{name: "tunable on, the library is late", program: idle, env: []string{"LD_PRELOAD=" + lazy}, owner: libc},
		{name: "library", program: idle, env: []string{off, "LD_PRELOAD=" + lazy}, owner: "object", object: lazy},
		{name: "library without the symbol", program: idle, env: []string{off, "LD_PRELOAD=" + hidden}, owner: "unknown"},
		{name: "linked in", program: testutil.CC(t, "-s", "testdata/idle.c", "testdata/lazy.c", "-lpthread"), env: []string{off}, owner: "object", object: "itself"},
		{name: "linked in, without the symbol", program: testutil.CC(t, "-D__rseq_abi=area", "testdata/idle.c", "testdata/lazy.c", "-lpthread"),
			env: []string{off}, owner: "object", object: "itself"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pid := startSaying(t, c.env, c.program, "3")
			if c.object == "itself" {
				c.object = c.program
			}
			p := inspectOne(t, pid)
			if len(p.Threads) != 3 {
				t.Errorf("%d threads", len(p.Threads))
			}
			for _, th := range p.Threads {
				if th.Owner != c.owner || c.object != "" && (th.Object == nil || *th.Object != c.object) ||
					c.why != "" && (th.Why == nil || *th.Why != c.why) {
					t.Errorf("owner %s, object %v, why %v: expected %s %s %s", th.Owner, th.Object, th.Why, c.owner, c.object, c.why)
				}
				if (th.Address != nil) != (c.owner != "none") || th.Address != nil && (*th.Length != 32 && *th.Length < 33 || !strings.HasPrefix(*th.Signature, "0x")) {
					t.Errorf("%+v", th)
				}
			}
			for _, args := range [][]string{{"inspect"}, {"inspect", "--threads"}} {
				r := rseqCommand(t, append(args, fmt.Sprint(pid))...)
				fits(t, r.stdout)
				shown := c.owner
				if c.object != "" {
					shown = quote(filepath.Base(c.object))
				}
				if !strings.Contains(r.stdout, "  "+shown+" ") || c.why != "" && !strings.Contains(r.stdout, c.why) {
					t.Errorf("%s", r.stdout)
				}
			}
		})
	}
	t.Run("filter", func(t *testing.T) {
		filter := testutil.GoBuild(t, "../../test/testdata/filter", nil)
		p := inspectOne(t, startSaying(t, nil, filter, "EPERM", idle))
		if p.Threads[0].Owner != "none" || !strings.Contains(*p.Threads[0].Why, "seccomp filter") {
			t.Errorf("%+v", p)
		}
	})
	t.Run("Go without cgo", func(t *testing.T) {
		program := testutil.GoBuild(t, ".", []string{"CGO_ENABLED=0"})
		cmd := exec.Command(program, "run", "sleep", "100")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
		defer cmd.Process.Signal(syscall.SIGTERM)
		p := inspectOne(t, cmd.Process.Pid)
		if p.Threads[0].Owner != "none" || !strings.Contains(*p.Threads[0].Why, "a program in Go, without a C library") {
			t.Errorf("%+v", p)
		}
	})
	t.Run("musl", func(t *testing.T) {
		musl, err := exec.LookPath("musl-gcc")
		if err != nil {
			t.Skip(err)
		}
		for how, why := range map[string]string{"-pie": "its C library, ", "-static": "its C library, linked statically, does not register"} {
			program := filepath.Join(t.TempDir(), "idle")
			testutil.Run(t, nil, musl, how, "-o", program, "testdata/idle.c")
			p := inspectOne(t, startSaying(t, nil, program))
			if p.Threads[0].Owner != "none" || !strings.Contains(*p.Threads[0].Why, why) {
				t.Errorf("%s: %+v", how, *p.Threads[0].Why)
			}
		}
	})
}

// TestInspectThis: the owner of this process's areas is the one that Query says, on each C
// library and architecture.
func TestInspectThis(t *testing.T) {
	info, err := rseq.Query()
	if err != nil {
		t.Skip(err)
	}
	want := map[rseq.Owner]string{rseq.OwnerLibc: "libc", rseq.OwnerSelf: "object"}[info.Owner]
	if want == "" {
		t.Skipf("the owner is %v", info.Owner)
	}
	registered := 0
	for _, th := range inspectOne(t, os.Getpid()).Threads {
		if th.Address == nil {
			continue // the thread never asked for an area, or has just started
		}
		registered++
		if th.Owner != want || want == "object" && filepath.Base(*th.Object) != filepath.Base(os.Args[0]) ||
			*th.Length != int(info.RegisteredLen) || *th.Signature != fmt.Sprintf("%#x", info.Signature) {
			t.Errorf("%+v, length %d, signature %s: expected %s, %+v", th, *th.Length, *th.Signature, want, info)
		}
	}
	if registered == 0 {
		t.Error("no thread is registered")
	}
}

// TestInspectAll: every process has a line while others start and end, and the owners are those
// that a script finds which shares no code.
func TestInspectAll(t *testing.T) {
	pid := start(t, "sleep", "100")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				exec.Command("true").Run()
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	var all []inspected
	for range 3 {
		r := rseqCommand(t, "inspect", "--all")
		skipIfOld(t, r)
		fits(t, r.stdout)
		if r.status != exitOK && r.status != exitNo || r.stderr != "" || !regexp.MustCompile(fmt.Sprintf(`(?m)^ *%d  "sleep" +1  `, pid)).MatchString(r.stdout) {
			t.Errorf("%+v", r)
		}
		all = inspectJSON(t, "--all")
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip(err)
	}
	args := []string{"testdata/owners.py"}
	for _, p := range all {
		args = append(args, fmt.Sprint(p.PID))
	}
	out, stderr, err := testutil.Try(nil, python, args...)
	if err != nil {
		t.Fatal(err, stderr)
	}
	want := map[int]string{}
	for line := range strings.Lines(out) {
		var pid int
		var owner string
		if _, err := fmt.Sscan(line, &pid, &owner); err != nil {
			t.Fatal(line, err)
		}
		want[pid] = owner
	}
	checked := 0
	for _, p := range all {
		for _, th := range p.Threads {
			owner := want[p.PID]
			if owner == "unknown" && th.Owner == "object" {
				continue // it is in the main program's TLS, where the script does not look
			}
			if owner != "" && th.TID == p.PID {
				if checked++; th.Owner != owner {
					// The owner may have changed if the process has just started or is ending.
					if again := inspectOne(t, p.PID); again.Threads[0].Owner != owner {
						t.Errorf("process %d, %q: owner %s, the script says %s", p.PID, p.Name, th.Owner, owner)
					}
				}
			}
		}
	}
	t.Logf("%d processes, %d compared", len(all), checked)
	if checked == 0 {
		t.Error("none was compared")
	}
}
