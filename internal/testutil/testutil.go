// Package testutil has what this module's tests share: it builds programs, runs them with a
// time limit, pins threads and runs storms.
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

// Long reports whether long storms are wanted.
func Long() bool { return os.Getenv("RSEQ_LONG") != "" }

// Repeat returns how often a test repeats what it would do n times on a real machine: a tenth
// of that in a guest, whose processors are emulated.
func Repeat(n int) int {
	if Guest() {
		return max(n/10, 1)
	}
	return n
}

// WantOwner returns who must own the areas: "libc", "self" or "none", as a row of a matrix
// says, and "" outside the matrices.
func WantOwner() string { return os.Getenv("RSEQ_WANT_OWNER") }

// GoBuild builds the package at path with the go command, args and env added, and returns the
// program's file. With -short it skips the test: the go command takes longer than most tests.
func GoBuild(t testing.TB, path string, env []string, args ...string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds programs; not with -short")
	}
	if Guest() {
		flags := slices.DeleteFunc(slices.Concat(env, args), func(f string) bool { return strings.HasPrefix(f, "CGO_CFLAGS=") })
		return guestProgram(t, filepath.Base(path), flags)
	}
	out := filepath.Join(t.TempDir(), "built")
	Run(t, env, "go", append(append([]string{"build", "-o", out}, args...), path)...)
	return out
}

// GoTest builds the tests of the package under test, with env added to the environment, and
// returns the program's file, whose name is name.
func GoTest(t testing.TB, name, env string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds this test again; not with -short")
	}
	if Guest() {
		return guestProgram(t, name, nil)
	}
	out := filepath.Join(t.TempDir(), name)
	Run(t, []string{env}, "go", "test", "-c", "-o", out, ".")
	return out
}

// CC runs the C compiler that cgo uses and returns the program's file.
func CC(t testing.TB, args ...string) string {
	t.Helper()
	if Guest() {
		source := slices.IndexFunc(args, func(a string) bool { return strings.HasSuffix(a, ".c") })
		return guestProgram(t, strings.TrimSuffix(filepath.Base(args[source]), ".c"), args[:source])
	}
	out := filepath.Join(t.TempDir(), "built")
	cc := strings.Fields(Run(t, nil, "go", "env", "CC"))
	Run(t, nil, cc[0], append(append(cc[1:], "-Wall", "-Wextra", "-Werror", "-o", out), args...)...)
	return out
}

// Root returns the repository's folder. A guest has no repository; there Root returns the
// working directory, since no test reads files below it.
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

// CPart returns the arguments that make CC link the package's C files and assembly into a
// program, except the files that the program includes itself.
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

// Guest reports whether this machine is a guest of vm. Guests have no compilers.
func Guest() bool { return os.Getenv("RSEQ_PROGRAMS") != "" }

// guestProgram returns a program that vm built for the guest. It skips the test if the program
// needs flags, since vm builds each once.
func guestProgram(t testing.TB, name string, flags []string) string {
	t.Helper()
	if len(flags) > 0 {
		t.Skipf("a guest has no compiler, for %s with %v", name, flags)
	}
	program := filepath.Join(os.Getenv("RSEQ_PROGRAMS"), name)
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("vm must build it for the guest: %v", err)
	}
	return program
}

// started is about the time when the tests started.
var started = time.Now()

// Patience returns how long a test waits for a program, or for an event that must happen: half
// of the time that the tests have left, so that there is time to report a failure, or an
// hour without a time limit. It ends what hangs, and not what is slow.
func Patience() time.Duration {
	if f := flag.Lookup("test.timeout"); f != nil {
		if limit := f.Value.(flag.Getter).Get().(time.Duration); limit > 0 {
			return max((limit-time.Since(started))/2, 2*time.Minute)
		}
	}
	return time.Hour
}

// Run runs a program, which must end with status 0, and returns its standard output.
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

// Try runs a program that may fail.
func Try(env []string, name string, args ...string) (stdout, stderr string, err error) {
	limit := Patience()
	ctx, cancel := context.WithTimeoutCause(context.Background(), limit, fmt.Errorf("it did not end within %v", limit.Round(time.Second)))
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) } // a Go program prints its stacks
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
