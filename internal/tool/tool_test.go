package tool

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestExtract(t *testing.T) {
	var stacks strings.Builder
	for i := range 200 {
		fmt.Fprintf(&stacks, "goroutine %d [running]:\n\tx.go:%d\n", i, i)
	}
	for name, c := range map[string]struct {
		output       string
		want, absent []string
	}{
		"short": {"a\nb\n", []string{"a\nb"}, []string{"[...]"}},
		"timed out": {"    x_test.go:1: passed\n--- PASS: TestA\npanic: test timed out after 5m0s\n\trunning tests:\n\t\tTestSlow (4m59s)\n\n" + stacks.String() + "exit status 2",
			[]string{"panic: test timed out after 5m0s\n\trunning tests:\n\t\tTestSlow (4m59s)\n[...]\n", "\nexit status 2"}, []string{"x_test.go", "goroutine 0 "}},
		"quiet tests": {"--- FAIL: TestB (1.00s)\n    --- FAIL: TestB/sub (0.01s)\n        b_test.go:7: 3, want 4\n" + stacks.String(),
			[]string{"--- FAIL: TestB (1.00s)\n    --- FAIL: TestB/sub (0.01s)\n        b_test.go:7: 3, want 4\n[...]"}, nil},
		"with -test.v": {"=== RUN   TestB\n    b_test.go:7: 3, want 4\n--- FAIL: TestB (1.00s)\n" + stacks.String(),
			[]string{"    b_test.go:7: 3, want 4\n--- FAIL: TestB (1.00s)\n[...]"}, nil},
		"told twice": {"panic: x\n" + stacks.String() + "panic: x\nend", []string{"[...]\ngoroutine", "panic: x\nend"}, []string{"panic: x\n[...]"}},
		"many":       {strings.Repeat("fatal error: x\n", 5) + stacks.String(), []string{"fatal error: x\n[...]"}, []string{"x\nfatal"}},
	} {
		got := Extract(c.output)
		for _, w := range c.want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: %q is not in\n%s", name, w, got)
			}
		}
		for _, w := range c.absent {
			if strings.Contains(got, w) {
				t.Errorf("%s: %q is in\n%s", name, w, got)
			}
		}
		if n := strings.Count(got, "\n"); n > lastLines+namingLines {
			t.Errorf("%s: %d lines", name, n)
		}
	}
}

// lines is a writer that sends each printed line.
type lines chan string

func (l lines) Write(data []byte) (int, error) {
	l <- string(data)
	return len(data), nil
}

func TestProgress(t *testing.T) {
	out := make(lines, 1000)
	p := newProgress(out, 10*time.Millisecond)
	defer p.Stop()
	next := func(want string) {
		t.Helper()
		for line := range out {
			if regexp.MustCompile(`^ *\w+  ` + want + `\n$`).MatchString(line) {
				return
			}
			if !strings.Contains(line, "under way: ") {
				t.Errorf("%q, want %q", line, want)
			}
		}
	}
	one := p.Begin("one")
	next("one: starts")
	one.Say("pulls %d", 1)
	next("one: pulls 1")
	next(`under way: one \(pulls 1, \w+\)`)
	two := p.Begin("two")
	next("two: starts")
	next(`under way: one \(pulls 1, \w+\), two \(\w+\)`)
	two.At("step 2")
	one.End()
	next(`under way: two \(step 2, \w+\)`)
	p.Line("a\nb")
	next(`a\n\tb`)
}

func TestExitStatus(t *testing.T) {
	for status, err := range map[int]error{0: nil, 2: errors.New("x"), 130: fmt.Errorf("%w: x", ErrInterrupted)} {
		if got := ExitStatus(true, err); got != status {
			t.Errorf("%v: %d", err, got)
		}
	}
	if got := ExitStatus(false, nil); got != 1 {
		t.Errorf("a check failed: %d", got)
	}
}
