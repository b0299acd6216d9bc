//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package test

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/inspect"
	"github.com/rseq-go/rseq/internal/testutil"
)

// anyOwner: the owner, and what is known of the thread that asked, depend on which threads ask,
// and are not checked.
const anyOwner = rseq.Owner(255)

// ownerCase is a way to start testdata/threads, and what the program must print. The program
// itself checks that every reading is right, with and without an area.
type ownerCase struct {
	name    string
	owner   rseq.Owner
	via     string // any if empty
	foreign string // the flags of testdata/foreign.c, which is preloaded unless they are empty
	env     string // a variable added to the environment
	filter  string // the argument of testdata/filter; no filter if empty
	first   string // "main" if the main thread asks first, else a new thread does
	areas   string // which threads have an area that they read: "all", "some", "none"
	reason  string // a part of Info.Reason
	ours    bool   // the signature of the thread that asked is known to be ours
	// confirmation of the thread that asked; any if empty
	confirmation string
}

// TestOwners is the table of the possible owners. Each case is a program.
func TestOwners(t *testing.T) {
	program := testutil.GoBuild(t, "./testdata/threads", nil)
	filter := testutil.GoBuild(t, "./testdata/filter", nil)

	atMostKernels := testutil.AskTruth(t).FeatureSize > 0 // from Linux 6.3 on a length may be more than 32
	const ours, other = "-DSIGNATURE=RSEQGO_SIG", "-DSIGNATURE=0x12345678"
	libc := ownerCase{owner: testutil.AskTruth(t).Owner, areas: "all", ours: true}
	for _, c := range []ownerCase{
		{name: "tunable off", owner: rseq.OwnerSelf, via: "own", areas: "all", ours: true},
		{name: "tunable off, main thread first", owner: rseq.OwnerSelf, via: "own", first: "main", areas: "all", ours: true},

		{name: "preloaded, symbol", foreign: ours + " -DSYMBOL",
			owner: rseq.OwnerForeign, via: "symbol", areas: "all", ours: true},
		{name: "preloaded, no symbol", foreign: ours,
			owner: rseq.OwnerForeign, via: "kernel", areas: "all", ours: true},
		{name: "preloaded, no symbol, main thread first", foreign: ours, first: "main",
			owner: rseq.OwnerForeign, via: "kernel", areas: "all", ours: true},
		{name: "preloaded, no symbol, 20 KB away", foreign: ours + " -DFAR",
			owner: rseq.OwnerForeign, via: "kernel", areas: "all", ours: true},
		{name: "preloaded, symbol, other signature", foreign: other + " -DSYMBOL",
			owner: rseq.OwnerForeign, via: "symbol", areas: "all", reason: "another signature"},
		{name: "preloaded, no symbol, other signature", foreign: other,
			owner: rseq.OwnerForeign, via: "kernel", areas: "all", reason: "another signature"},
		{name: "preloaded, symbol, 64 bytes", foreign: ours + " -DSYMBOL -DLEN=64",
			owner: rseq.OwnerForeign, via: "symbol", areas: "all", ours: true},
		{name: "preloaded, no symbol, 64 bytes", foreign: ours + " -DLEN=64",
			owner: rseq.OwnerNone, areas: "none", reason: "another registration exists"},
		{name: "preloaded, allocated areas", foreign: ours + " -DHEAP",
			owner: rseq.OwnerNone, areas: "none", reason: "another registration exists"},
		{name: "preloaded, at a distance of each thread's own", foreign: ours + " -DSHIFT",
			owner: rseq.OwnerNone, areas: "none", reason: "another registration exists"},
		{name: "preloaded, symbol, when a thread allocates", foreign: ours + " -DSYMBOL -DLAZY",
			owner: rseq.OwnerForeign, via: "symbol", areas: "all", ours: true},
		{name: "preloaded, areas begin as zeros", foreign: ours + " -DZEROS",
			owner: rseq.OwnerNone, areas: "none", reason: "another registration exists"},
		// A library with the symbol owns all threads, also those that it has not registered
		// yet.
		{name: "preloaded, main thread only, symbol", foreign: ours + " -DSYMBOL -DMAIN",
			owner: rseq.OwnerForeign, via: "symbol", areas: "none", ours: true},
		{name: "preloaded, main thread only, symbol, main thread first", foreign: ours + " -DSYMBOL -DMAIN", first: "main",
			owner: rseq.OwnerForeign, via: "symbol", areas: "none", ours: true},
		{name: "preloaded, main thread only, no symbol", foreign: ours + " -DMAIN",
			owner: rseq.OwnerSelf, via: "own", areas: "all", ours: true},
		{name: "preloaded, main thread only, no symbol, main thread first", foreign: ours + " -DMAIN", first: "main",
			owner: rseq.OwnerSelf, via: "own", areas: "all", confirmation: "elsewhere", reason: "elsewhere"},
		// The owner is found by looking at this thread and a new one: it may be the other
		// library or this package. Every reading is right.
		{name: "preloaded, every second thread", foreign: ours + " -DSECOND",
			owner: anyOwner, areas: "some", ours: true},
		{name: "preloaded, every second thread, symbol", foreign: ours + " -DSYMBOL -DSECOND",
			owner: rseq.OwnerForeign, via: "symbol", areas: "some", ours: true},
		{name: "tunable off, registering forbidden", env: "RSEQ_GO_REGISTER=0", areas: "none", reason: "RSEQ_GO_REGISTER=0"},
		{name: "preloaded, no symbol, registering forbidden", env: "RSEQ_GO_REGISTER=0", foreign: ours,
			owner: rseq.OwnerForeign, via: "kernel", areas: "all", ours: true},

		{name: "filter ENOSYS", filter: "ENOSYS", areas: "none", reason: "not supported: the kernel has no rseq(2)"},
		{name: "filter EPERM", filter: "EPERM", areas: "none", reason: "operation not permitted"},
		{name: "filter EACCES", filter: "EACCES", areas: "none", reason: "permission denied"},
		{name: "filter EINVAL", filter: "EINVAL", areas: "none", reason: "a filter answers EINVAL"},
		// The tunable is off, since the filter would kill the process for glibc's own
		// registration.
		{name: "filter kill", filter: "kill", areas: "none", reason: "a seccomp filter kills"},
		{name: "filter trap", filter: "trap", areas: "none", reason: "a seccomp filter kills"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.foreign != "" && !testutil.OnGlibc() {
				// On musl a detached thread unmaps its stack, with the area, before it ends.
				// The library would have to unregister the thread, and does not.
				t.Skip("a library that registers so kills its program on musl")
			}
			if strings.Contains(c.foreign, "LEN") && !atMostKernels {
				t.Skip("this kernel, before 6.3, takes a registration of 32 bytes alone")
			}
			env := []string{testutil.TunableOff}
			if c.foreign != "" {
				flags := append(strings.Fields(c.foreign), "-shared", "-fPIC", "testdata/foreign.c", "-ldl", "-lpthread")
				env = append(env, "LD_PRELOAD="+testutil.CC(t, flags...))
			}
			if c.env != "" {
				env = append(env, c.env)
			}
			args := []string{program, c.first}
			if c.filter != "" {
				args = append([]string{filter, c.filter}, args...)
			}
			checkOwner(t, c, env, args...)
		})
	}
	plain, linked := libc, libc
	if libc.owner == rseq.OwnerLibc {
		plain.via, linked.via = "dlsym", "direct"
	}
	t.Run("plain", func(t *testing.T) { checkOwner(t, plain, nil, program) })
	if libc.owner == rseq.OwnerLibc {
		t.Run("filter EPERM, glibc refused too", func(t *testing.T) {
			checkOwner(t, ownerCase{areas: "none", reason: "operation not permitted"}, nil, filter, "EPERM", program)
		})
	}
	for _, link := range []string{"-static", "-static-pie"} {
		mode := map[string]string{"-static": "exe", "-static-pie": "pie"}[link]
		static := testutil.GoBuild(t, "./testdata/threads", nil, "-buildmode="+mode, "-ldflags=-linkmode=external -extldflags="+link)
		t.Run(link[1:], func(t *testing.T) { checkOwner(t, linked, nil, static) })
		t.Run(link[1:]+", tunable off", func(t *testing.T) {
			checkOwner(t, ownerCase{owner: rseq.OwnerSelf, via: "own", areas: "all", ours: true}, []string{testutil.TunableOff}, static)
		})
	}
	if _, err := exec.LookPath("musl-gcc"); err != nil {
		t.Logf("musl not tested: %v", err)
		return
	}
	for name, flags := range map[string]string{"musl": "", "musl, static": "-static"} {
		t.Run(name, func(t *testing.T) {
			musl := testutil.GoBuild(t, "./testdata/threads", []string{"CC=musl-gcc"}, "-ldflags=-linkmode=external -extldflags="+flags)
			checkOwner(t, ownerCase{owner: rseq.OwnerSelf, via: "own", areas: "all", ours: true}, nil, musl)
			if flags == "" {
				t.Run("its C library registers", func(t *testing.T) {
					libc := filepath.Join(t.TempDir(), "libc.so")
					testutil.Run(t, nil, "musl-gcc", "-Wall", "-Werror", ours, "-DLIBC", "-shared", "-fPIC", "-o", libc, "testdata/foreign.c")
					checkOwner(t, ownerCase{owner: rseq.OwnerLibc, via: "dlsym", areas: "all", ours: true}, []string{"LD_PRELOAD=" + libc}, musl)
				})
			}
		})
	}
}

// checkOwner starts args, which runs testdata/threads, and compares what that prints with c and
// with what the kernel says of each thread.
func checkOwner(t *testing.T, c ownerCase, env []string, args ...string) {
	t.Helper()
	info, believed, kernel := runThreads(t, env, args...)
	if c.owner != anyOwner && info.Owner != c.owner.String() || c.via != "" && info.Via != c.via || !strings.Contains(info.Reason, c.reason) {
		t.Errorf("owner %s via %s (%s), want %v via %s (%s)", info.Owner, info.Via, info.Reason, c.owner, c.via, c.reason)
	}
	if c.owner != anyOwner && (info.Signature != 0) != c.ours {
		t.Errorf("signature %#x", info.Signature)
	}
	if c.confirmation != "" && info.Confirmation != c.confirmation {
		t.Errorf("%s, want %s", info.Confirmation, c.confirmation)
	}
	if !info.Confirmed && (info.Signature != 0 || info.RegisteredLen != 0 || info.Mode != rseq.ModeUnknown || info.Confirmation != "could not ask" && info.CriticalSections) {
		t.Errorf("%s, and yet %+v", info.Confirmation, info)
	}
	if c.owner != anyOwner && info.CriticalSections != (c.ours && c.owner != rseq.OwnerNone) {
		t.Errorf("critical sections: %v, signature %#x", info.CriticalSections, info.Signature)
	}
	if info.Size > max(info.KernelFeatureSize, 20) {
		t.Errorf("%d bytes of fields, of which the kernel knows %d", info.Size, info.KernelFeatureSize)
	}
	with := 0
	for tid, b := range believed {
		area := b.area
		truth, ok := kernel[tid]
		if !ok {
			t.Errorf("the kernel does not know thread %d", tid)
		}
		if area == 0 {
			continue
		}
		with++
		if truth.Address != area || truth.Length != b.length || info.Signature != 0 && truth.Signature != info.Signature {
			t.Errorf("thread %d: area at %#x, length %d; the kernel says %+v", tid, area, b.length, truth)
		}
	}
	name := strings.ReplaceAll(strings.TrimPrefix(t.Name(), "TestOwners/"), "_", " ")
	t.Logf("| %s | `%s` | %s | %d of %d |", name, info.Owner, cmp.Or(info.Via, "-"), with, len(believed))
	areas := "some"
	if with == len(believed) {
		areas = "all"
	} else if with == 0 {
		areas = "none"
	}
	if areas != c.areas || len(believed) == 0 {
		t.Errorf("%d of %d threads have an area that is read, want %s", with, len(believed), c.areas)
	}
}

// believed is what a thread of testdata/threads printed about its area.
type believed struct {
	area   uint64
	length uint32
}

// runThreads starts testdata/threads, and asks the kernel for the registrations of its threads.
func runThreads(t *testing.T, env []string, args ...string) (info testutil.Show, said map[int]believed, kernel map[int]inspect.Thread) {
	t.Helper()
	child := exec.Command(args[0], args[1:]...)
	child.Env = append(os.Environ(), env...)
	var stderr strings.Builder
	child.Stderr = &stderr
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close()
		if err := child.Wait(); err != nil || stderr.Len() > 0 {
			t.Errorf("%s: %v\n%s", filepath.Base(args[0]), err, stderr.String())
		}
	}()
	said = map[int]believed{}
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() {
		t.Fatal("no output")
	}
	info = testutil.Decode[testutil.Show](t, lines.Text())
	for lines.Scan() && lines.Text() != "ready" {
		var tid int
		var b believed
		if _, err := fmt.Sscan(lines.Text(), &tid, &b.area, &b.length); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		said[tid] = b
	}
	report, err := inspect.Process(context.Background(), child.Process.Pid, nil)
	if err != nil {
		t.Fatal(err)
	}
	kernel = map[int]inspect.Thread{}
	for _, th := range report.Threads {
		kernel[th.TID] = th
	}
	return info, said, kernel
}

// TestBesideLibrseq: a library registers a thread when the program calls it, and aborts if that
// fails. This package registers no thread then, whichever of the two is called first.
func TestBesideLibrseq(t *testing.T) {
	testutil.NeedCompilers(t)
	if !testutil.OnGlibc() {
		t.Skip("on musl a thread has to unregister before it ends, which librseq leaves to the program")
	}
	dir := t.TempDir()
	library, object := filepath.Join(dir, "librseq.so"), filepath.Join(dir, "librseq.o")
	testutil.Run(t, nil, "gcc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-Wl,-soname,"+library, "-o", library, "testdata/librseq.c")
	testutil.Run(t, nil, "gcc", "-Wall", "-Wextra", "-Werror", "-fPIC", "-c", "-o", object, "testdata/librseq.c")
	plain := testutil.GoBuild(t, "./testdata/beside", nil)
	linked := testutil.GoBuild(t, "./testdata/beside", nil, "-ldflags=-extldflags=-Wl,--no-as-needed,"+library)
	inside := testutil.GoBuild(t, "./testdata/beside", nil, "-ldflags=-extldflags="+object)
	for _, first := range []string{"rseq", "librseq"} {
		t.Run("preloaded, "+first+" first", func(t *testing.T) {
			testutil.Run(t, []string{testutil.TunableOff, "LD_PRELOAD=" + library}, plain, first)
		})
		t.Run("linked, "+first+" first", func(t *testing.T) { testutil.Run(t, []string{testutil.TunableOff}, linked, first) })
		t.Run("linked statically, "+first+" first", func(t *testing.T) { testutil.Run(t, []string{testutil.TunableOff}, inside, first) })
	}
}
