//go:build linux && !android && cgo && !purego && (amd64 || arm64)

package test

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	_ "github.com/elastic/go-seccomp-bpf" // of testdata/filter, which go mod tidy does not see
	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/inspect"
	"github.com/rseq-go/rseq/internal/testutil"
)

// anyOwner: it depends on which threads are asked, as what is said of the one that asked,
// and does not matter.
const anyOwner = rseq.Owner(255)

// ownerCase is a way to start testdata/threads and what must come of it. The
// program itself checks that every reading is right, area or not.
type ownerCase struct {
	name    string
	owner   rseq.Owner
	via     string // empty: whatever
	foreign string // flags of testdata/foreign.c, preloaded; empty: not
	env     string // one more variable
	filter  string // what rseq(2) answers under testdata/filter; empty: no filter
	first   string // "main": the main thread asks first; else a new one
	areas   string // which of its threads have one it reads: "all", "some", "none"
	reason  string // part of what Info says
	ours    bool   // the thread that asked is registered with our signature, as far as known
	// confirmation of the thread that asked; empty: as it is
	confirmation string
}

// TestOwners is the table of who can own the area, each case a real program.
func TestOwners(t *testing.T) {
	program := testutil.GoBuild(t, "./testdata/threads", nil)
	filter := testutil.GoBuild(t, "./testdata/filter", nil)

	atMostKernels := testutil.AskTruth(t).FeatureSize > 0 // since Linux 6.3 a length may be more than 32
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
		// A library with the symbol keeps its right to the threads that it did not
		// register (yet).
		{name: "preloaded, main thread only, symbol", foreign: ours + " -DSYMBOL -DMAIN",
			owner: rseq.OwnerForeign, via: "symbol", areas: "none", ours: true},
		{name: "preloaded, main thread only, symbol, main thread first", foreign: ours + " -DSYMBOL -DMAIN", first: "main",
			owner: rseq.OwnerForeign, via: "symbol", areas: "none", ours: true},
		{name: "preloaded, main thread only, no symbol", foreign: ours + " -DMAIN",
			owner: rseq.OwnerSelf, via: "own", areas: "all", ours: true},
		{name: "preloaded, main thread only, no symbol, main thread first", foreign: ours + " -DMAIN", first: "main",
			owner: rseq.OwnerSelf, via: "own", areas: "all", confirmation: "elsewhere", reason: "elsewhere"},
		// The first question is about this thread and a new one: the owner may be the
		// other library or this package, and every reading is right.
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
		// glibc would be killed at its own registration: tunable off.
		{name: "filter kill", filter: "kill", areas: "none", reason: "a seccomp filter kills"},
		{name: "filter trap", filter: "trap", areas: "none", reason: "a seccomp filter kills"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.foreign != "" && !testutil.OnGlibc() {
				// A detached thread unmaps its stack before it ends, with the area in
				// it: the library would have to unregister, and this one does not.
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

// checkOwner starts args, which is testdata/threads somehow, and holds what it
// prints against c and against what the kernel says of each thread.
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

// believed is what a thread of testdata/threads has said of its area.
type believed struct {
	area   uint64
	length uint32
}

// runThreads starts testdata/threads and asks the kernel about its threads.
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

// TestBesideLibrseq: a library that registers a thread when it is told to, and ends the
// process where that fails, keeps its right to every thread, whichever of the two is asked first.
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

// TestStaticDlopen: the C part, loaded by a static C program, finds the area
// that the program's own C library registered, although the symbols of the
// loaded one read zero.
func TestStaticDlopen(t *testing.T) {
	testutil.NeedCompilers(t)
	if !testutil.OnGlibc() {
		t.Skip("a static program cannot dlopen on musl")
	}
	for _, far := range []string{"-UFAR", "-DFAR"} {
		// -w and no -Werror: the linker warns that a static dlopen wants the
		// same glibc at run time, which is the case here.
		program := filepath.Join(t.TempDir(), "static")
		testutil.Run(t, nil, "gcc", "-w", "-static", far, "-o", program, "testdata/dl.c", "-ldl")
		shim, registered := findsArea(t, program, 4, "getauxval or dlsym crashes in a library that a static program of this glibc loads (2.31 is so)")
		if !registered {
			continue
		}
		out := testutil.Run(t, []string{testutil.TunableOff}, program, shim)
		if !strings.Contains(out, ": owner 0 ") {
			t.Errorf("nothing was registered: %s", out)
		}
	}
}

// TestNamespace: a library in a namespace of its own, beside another copy of the C
// library, finds the area that the program's registered.
func TestNamespace(t *testing.T) {
	testutil.NeedCompilers(t)
	if !testutil.OnGlibc() {
		t.Skip("musl has no dlmopen")
	}
	program := testutil.CC(t, "-DNAMESPACE", "testdata/dl.c", "-ldl")
	findsArea(t, program, 1, "a dlsym that finds nothing ends the program in another namespace of this glibc (2.31 is so)")
}

// findsArea has a program that is built of testdata/dl.c load the C part, which it
// returns, and checks that this finds the area that the program's C library registered,
// if it did, in that way (enum rseqgo_via of glibc.h), and that its own area, which it
// does not need, is aligned to 64. Where the program cannot load a library that does
// less, the test is skipped.
func findsArea(t *testing.T, program string, wantVia int, otherwise string) (shim string, registered bool) {
	t.Helper()
	trivial := testutil.CC(t, "-shared", "-fPIC", "-DTRIVIAL", "testdata/shim.c", "-ldl")
	if _, _, err := testutil.Try(nil, program, trivial); err != nil {
		t.Skipf("%s: %v", otherwise, err)
	}
	shim = testutil.CC(t, append([]string{"-shared", "-fPIC", "testdata/shim.c"}, testutil.CPart(t)...)...)
	var offset, size, owner, via, reported, own int
	out := testutil.Run(t, nil, program, shim)
	if _, err := fmt.Sscanf(out, "%d %d: owner %d via %d offset %d own %d", &offset, &size, &owner, &via, &reported, &own); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	if own != 0 {
		t.Errorf("its own area is not aligned: %s", out)
	}
	if size == 0 { // an old C library: nobody registered
		if owner != int(rseq.OwnerNone) {
			t.Error(out)
		}
		return shim, false
	}
	if owner != int(rseq.OwnerLibc) || via != wantVia || reported != offset {
		t.Errorf("the program's area is at %d: %s", offset, out)
	}
	return shim, true
}

// TestManyThreadsBeforeDlopen loads a c-shared library into a C program that
// already runs 100 threads, each of which then asks.
func TestManyThreadsBeforeDlopen(t *testing.T) {
	library := testutil.GoBuild(t, "./testdata/lib", nil, "-buildmode=c-shared")
	host := testutil.CC(t, "testdata/host.c", "-ldl", "-lpthread")
	for env, owner := range map[string]rseq.Owner{"": testutil.AskTruth(t).Owner, testutil.TunableOff: rseq.OwnerSelf} {
		got := testutil.Decode[testutil.Show](t, testutil.Run(t, []string{env}, host, library, "100"))
		if got.Owner != owner.String() || !got.Confirmed {
			t.Errorf("%q: %+v", env, got)
		}
	}
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
