// Package testutil holds what this module's tests share: building programs,
// running them with a bound, pinning threads.
package testutil

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Long reports whether the long storms were asked for.
func Long() bool { return os.Getenv("RSEQ_LONG") != "" }

// Repeat returns how often a test does what a machine does n times in a moment: a
// tenth in a guest, whose processors are emulated.
func Repeat(n int) int {
	if Guest() {
		return max(n/10, 1)
	}
	return n
}

// WantOwner is who must own the areas here, where a row of the matrix says so:
// "libc", "self" or "none"; else empty.
func WantOwner() string { return os.Getenv("RSEQ_WANT_OWNER") }

// GoBuild builds the package at path with the go command's args and the
// environment env added, and returns the file built. With -short it skips the test:
// the go command takes longer than most tests.
func GoBuild(t testing.TB, path string, env []string, args ...string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds programs; not with -short")
	}
	if Guest() {
		flags := slices.DeleteFunc(slices.Concat(env, args), func(f string) bool { return strings.HasPrefix(f, "CGO_CFLAGS=") })
		return cameAlong(t, filepath.Base(path), flags)
	}
	out := filepath.Join(t.TempDir(), "built")
	Run(t, env, "go", append(append([]string{"build", "-o", out}, args...), path)...)
	return out
}

// GoTest builds the tests of the package that is tested, with the environment env
// added, and returns the file built, which is called name.
func GoTest(t testing.TB, name, env string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds this test again; not with -short")
	}
	if Guest() {
		return cameAlong(t, name, nil)
	}
	out := filepath.Join(t.TempDir(), name)
	Run(t, []string{env}, "go", "test", "-c", "-o", out, ".")
	return out
}

// CC compiles with the C compiler that cgo uses and returns the program built.
func CC(t testing.TB, args ...string) string {
	t.Helper()
	if Guest() {
		source := slices.IndexFunc(args, func(a string) bool { return strings.HasSuffix(a, ".c") })
		return cameAlong(t, strings.TrimSuffix(filepath.Base(args[source]), ".c"), args[:source])
	}
	out := filepath.Join(t.TempDir(), "built")
	cc := strings.Fields(Run(t, nil, "go", "env", "CC"))
	Run(t, nil, cc[0], append(append(cc[1:], "-Wall", "-Wextra", "-Werror", "-o", out), args...)...)
	return out
}

// Root returns the repository's folder. In a guest there is none, and no test that needs it.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for root := dir; ; root = filepath.Dir(root) {
		if _, err := os.Stat(filepath.Join(root, "glibc.go")); err == nil || Guest() {
			return root
		}
		if root == "/" {
			t.Fatalf("%s is not in the repository: no glibc.go above it", dir)
		}
	}
}

// CPart returns the arguments by which CC compiles the package's C files and its assembly
// into a program, without those that the program includes itself.
func CPart(t testing.TB, included ...string) (args []string) {
	t.Helper()
	root := Root(t)
	files, err := filepath.Glob(filepath.Join(root, "*.c"))
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, filepath.Join(root, "cs_"+runtime.GOARCH+".s"))
	files = slices.DeleteFunc(files, func(f string) bool { return slices.Contains(included, filepath.Base(f)) })
	return append(append([]string{"-I" + root}, files...), "-ldl", "-lpthread")
}

// NeedCompilers skips a test that builds programs, with -short and in a guest.
func NeedCompilers(t testing.TB) {
	t.Helper()
	if testing.Short() || Guest() {
		t.Skip("builds programs: not with -short, nor in a guest")
	}
}

// Guest reports whether this is one of the guests of the matrix of kernels, which
// have no compilers.
func Guest() bool { return os.Getenv("RSEQ_PROGRAMS") != "" }

// cameAlong returns a program that vm built for the guest, and skips the test if it
// is to be built with flags of its own.
func cameAlong(t testing.TB, name string, flags []string) string {
	t.Helper()
	if len(flags) > 0 {
		t.Skipf("a guest has no compiler, for %s with %v", name, flags)
	}
	program := filepath.Join(os.Getenv("RSEQ_PROGRAMS"), name)
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("vm has to bring it along: %v", err)
	}
	return program
}

// started is when the tests' time began, or a moment later.
var started = time.Now()

// Patience is how long a program may run, or something may take that must happen at last:
// an hour, or half of the time that the tests have left, so that there is time to say what
// happened. It ends what hangs, and not what a slow machine does slowly.
func Patience() time.Duration {
	if f := flag.Lookup("test.timeout"); f != nil {
		if limit := f.Value.(flag.Getter).Get().(time.Duration); limit > 0 {
			return max((limit-time.Since(started))/2, 2*time.Minute)
		}
	}
	return time.Hour
}

// Run runs a program, which must end by itself, and returns its standard output.
func Run(t testing.TB, env []string, name string, args ...string) string {
	t.Helper()
	if name == "go" && Guest() {
		t.Skip("a guest has no go command")
	}
	stdout, stderr, err := Try(env, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, stdout, stderr)
	}
	return stdout
}

// Try is Run for a program that may fail.
func Try(env []string, name string, args ...string) (stdout, stderr string, err error) {
	limit := Patience()
	ctx, cancel := context.WithTimeoutCause(context.Background(), limit, fmt.Errorf("it did not end within %v", limit.Round(time.Second)))
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) } // Go's programs show where they are
	cmd.WaitDelay = time.Minute
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return o.String(), e.String(), err
}

// Decode decodes one JSON value.
func Decode[T any](t testing.TB, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, text)
	}
	return v
}
