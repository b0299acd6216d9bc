// Command mutate shows that the tests can fail. In a copy of the tree it makes each mistake that
// mutate/mistakes lists, one after another, and runs the tests that must notice it.
//
//	go run ./mutate [-only NAMES] [-list] [-v]
//
// Run it in the repository's root. The exit status is 0 if every mistake was noticed, 1 if one
// was not noticed or cannot be made any more, and 2 if the tool failed.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

//go:embed mistakes
var mistakesFile string

type options struct {
	only    string
	list    bool
	verbose bool
}

func main() {
	var o options
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./mutate [flags], from the repository's root")
		flag.PrintDefaults()
	}
	flag.StringVar(&o.only, "only", "", "make only the mistakes whose names have one of these in them, with commas")
	flag.BoolVar(&o.list, "list", false, "list the mistakes and what must notice them, and make none")
	flag.BoolVar(&o.verbose, "v", false, "show what the tests printed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process
	ok, err := run(ctx, o, flag.Args(), os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(2)
	case !ok:
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, args []string, out io.Writer) (ok bool, err error) {
	if len(args) > 0 {
		return false, fmt.Errorf("unexpected argument %q: mistakes are named by -only", args[0])
	}
	if _, err := os.Stat("mutate/mistakes"); err != nil {
		return false, errors.New("no mutate/mistakes here: run it from the repository's root")
	}
	all, err := parse("mutate/mistakes", mistakesFile)
	if err != nil {
		return false, err
	}
	all = slices.DeleteFunc(all, func(m mistake) bool {
		return o.only != "" && !slices.ContainsFunc(strings.Split(o.only, ","), func(part string) bool { return strings.Contains(m.name, part) })
	})
	if len(all) == 0 {
		return false, fmt.Errorf("no mistake has %q in its name: -list names them", o.only)
	}
	if o.list {
		for _, m := range all {
			fmt.Fprintf(out, "%s: %s\n\t%s: %s\n", m.name, m.why, m.file, m.command())
		}
		return true, nil
	}
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	if err := copyTree(ctx, ".", dir); err != nil {
		return false, err
	}
	return tryAll(ctx, dir, all, o.verbose, out)
}

// copyTree copies the working tree: the files that git tracks or does not ignore.
func copyTree(ctx context.Context, from, to string) error {
	cmd := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = from
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	names, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("git ls-files, to copy the tree: %w: %s", err, &stderr)
	}
	for name := range strings.SplitSeq(strings.Trim(string(names), "\x00"), "\x00") {
		is, err := os.Lstat(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed, but not committed
		}
		if err == nil && !is.Mode().IsRegular() {
			err = fmt.Errorf("%s is no regular file", name)
		}
		if err != nil {
			return err
		}
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(to, filepath.Dir(name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), data, is.Mode().Perm()); err != nil {
			return err
		}
	}
	return nil
}

// tryAll makes each mistake in the copy dir and prints its verdict. It reports whether every
// mistake was noticed that can be made on this machine.
func tryAll(ctx context.Context, dir string, all []mistake, verbose bool, out io.Writer) (ok bool, err error) {
	count := map[verdict]int{}
	right := map[string]result{} // the results without a mistake, by command
	for n, m := range all {
		begin := time.Now()
		r, err := try(ctx, dir, m, right)
		if err != nil {
			return false, err
		}
		count[r.verdict]++
		fmt.Fprintf(out, "%d/%d %-10s %s, %.0fs: %s\n", n+1, len(all), r.verdict, m.name, time.Since(begin).Seconds(), r.what)
		if r.verdict == survived {
			fmt.Fprintf(out, "\t%s\n\t%s\n", m.why, m.command())
		}
		if verbose {
			fmt.Fprintf(out, "%s\n", r.output)
		}
	}
	fmt.Fprintf(out, "%d mistakes: ", len(all))
	sep := ""
	for _, v := range []verdict{noticed, survived, stale, broken, elsewhere} {
		if count[v] > 0 {
			fmt.Fprintf(out, "%s%d %s", sep, count[v], v)
			sep = ", "
		}
	}
	fmt.Fprintln(out)
	return count[noticed]+count[elsewhere] == len(all), nil
}

// verdict is the result of a mistake.
type verdict string

const (
	noticed   verdict = "killed"    // a test failed
	survived  verdict = "SURVIVED"  // no test failed
	stale     verdict = "STALE"     // the file does not have its text, or has it twice
	broken    verdict = "BROKEN"    // it does not compile, or the tests fail without it
	elsewhere verdict = "elsewhere" // its file is not built on this machine
)

type result struct {
	verdict
	what   string // the reason, in one line
	output string // of the tests
}

// try makes a mistake, runs its tests, and undoes the mistake.
func try(ctx context.Context, dir string, m mistake, right map[string]result) (result, error) {
	path := filepath.Join(dir, m.file)
	info, err := os.Stat(path)
	if err != nil {
		return result{stale, err.Error(), ""}, nil
	}
	before, err := os.ReadFile(path)
	if err != nil {
		return result{}, err
	}
	after, err := m.make(string(before))
	if err != nil {
		return result{stale, err.Error(), ""}, nil
	}
	if !m.here() {
		return result{elsewhere, m.file + " is not built on this machine", ""}, nil
	}
	base, known := right[m.command()]
	if !known {
		if base, err = test(ctx, dir, m); err != nil {
			return result{}, err
		}
		right[m.command()] = base
	}
	if base.verdict != survived {
		return result{broken, "without it: " + base.what, base.output}, nil
	}
	if err := os.WriteFile(path, []byte(after), info.Mode().Perm()); err != nil {
		return result{}, err
	}
	r, err := test(ctx, dir, m)
	if err == nil && r.verdict == survived {
		r.what = base.what // it names the skipped tests
	}
	return r, errors.Join(err, os.WriteFile(path, before, info.Mode().Perm()))
}

// patience bounds a test command: with a mistake it may never end.
const patience = 5 * time.Minute

// test runs the tests that must notice m, in dir.
func test(ctx context.Context, dir string, m mistake) (result, error) {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(limited, "go", append([]string{"test", "-count=1", "-vet=off", "-v", "-timeout=2m"}, m.test...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), m.env...)
	// The process group is killed: processes that it started may keep the output open.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	output, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return result{}, ctx.Err()
	}
	if limited.Err() != nil {
		return result{noticed, fmt.Sprintf("did not end within %v", patience), string(output)}, nil
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return result{}, err
	}
	verdict, what := judge(string(output), err != nil)
	return result{verdict, what, string(output)}, nil
}

// judge returns the verdict for the output of go test -v, and whether that failed.
func judge(output string, failed bool) (v verdict, what string) {
	var skipped, passed []string
	first := "" // the first sign of a failure
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		fields := strings.Fields(line)
		switch {
		case strings.HasSuffix(line, "[build failed]"), strings.HasSuffix(line, "[setup failed]"):
			return broken, "it does not compile: " + strings.TrimSpace(lineAfter(output, "# "))
		case strings.Contains(line, "testing: warning: no tests to run"), strings.HasSuffix(line, "[no test files]"):
			return broken, "there are no such tests: " + line
		case strings.HasPrefix(line, "--- SKIP: ") && len(fields) > 2:
			skipped = append(skipped, fields[2])
		case strings.HasPrefix(line, "--- PASS: ") && len(fields) > 2:
			passed = append(passed, fields[2])
		case first == "" && failed:
			for _, sign := range []string{"--- FAIL: ", "panic: ", "fatal error: ", "signal: ", "SIG", "FAIL\t"} {
				if strings.HasPrefix(line, sign) {
					first = line
				}
			}
		}
	}
	what = fmt.Sprintf("%d tests passed", len(passed))
	if len(skipped) > 0 {
		what += ", skipped: " + strings.Join(skipped, " ")
	}
	switch {
	case failed && first == "":
		return broken, "go test failed, but no test: " + strings.TrimSpace(lineAfter(output, ""))
	case failed:
		return noticed, first
	case len(passed) == 0:
		return broken, "no test could be run on this machine: " + what
	}
	return survived, what
}

// lineAfter returns the line after the first line that starts with begin.
func lineAfter(text, begin string) string {
	next := begin == ""
	for line := range strings.Lines(text) {
		if next {
			return line
		}
		next = strings.HasPrefix(line, begin)
	}
	return ""
}
