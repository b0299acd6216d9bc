package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// TestMistakes: each mistake of the list can be made in the tree, and its tests exist.
func TestMistakes(t *testing.T) {
	all, err := parse("mistakes", mistakesFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 25 {
		t.Errorf("only %d mistakes", len(all))
	}
	for _, m := range all {
		text, err := os.ReadFile(filepath.Join("..", m.file))
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		if _, err := m.make(string(text)); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		files, _ := filepath.Glob(filepath.Join("..", m.test[len(m.test)-1], "*_test.go"))
		tests := ""
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Error(err)
			}
			tests += string(text)
		}
		for _, name := range regexp.MustCompile(`Test\w+`).FindAllString(m.command(), -1) {
			if !strings.Contains(tests, "\nfunc "+name+"(t ") {
				t.Errorf("%s: there is no %s: %s", m.name, name, m.command())
			}
		}
	}
}

func TestParse(t *testing.T) {
	const whole = "name: a\nwhy: b\nfile: c.go\nnear: func x: y\nenv: E=1\ntest: -run T .\n-\told\n-\n+new\n"
	all, err := parse("list", "# one\n"+whole)
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	if m := all[0]; m.name != "a" || m.why != "b" || m.file != "c.go" || m.near != "func x: y" || m.find != "\told\n" || m.with != "new" ||
		m.command() != "E=1 go test -run T ." {
		t.Errorf("%+v", m)
	}
	for text, want := range map[string]string{
		"what: ever\n": `list:1: "what: ever": expected name`,
		"name: a\n":    "list:1: a mistake without a ",
		strings.Replace(whole, "test: ", "env: ", 1):   "list:1: a mistake without a test",
		strings.Replace(whole, "-\told\n-\n", "", 1):   "list:1: a mistake without a line with - before it",
		whole + "\n" + whole:                           "list:11: a is there already",
		strings.Replace(whole, "+new", "+\told\n+", 1): "list:1: a changes nothing",
	} {
		if _, err := parse("list", text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestMake(t *testing.T) {
	const text = "first: x\nsecond: x\nsecond: y\n"
	for _, c := range []struct{ near, find, want string }{
		{"", "y", "first: x\nsecond: x\nsecond: z\n"},
		{"second: x", "x", "first: x\nsecond: z\nsecond: y\n"},
		{"first", "x", "first: z\nsecond: x\nsecond: y\n"},
		{"", "x", "has 2 times"},
		{"", "w", "has 0 times"},
		{"second", "x", "has 2 times"},
		{"third", "x", "has 0 times"},
		{"second: y", "x", "has 0 times"},
	} {
		m := mistake{file: "f", near: c.near, find: c.find, with: "z"}
		got, err := m.make(text)
		if err != nil {
			got = err.Error()
		}
		if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
			t.Errorf("%q near %q: %q, want %q", c.find, c.near, got, c.want)
		}
	}
}

// TestTry: mistakes in a small module get the right verdicts.
func TestTry(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the go command; not with -short")
	}
	from, dir := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.org/m\n\ngo 1.26\n",
		"m.go":   "package m\n\nfunc Add(a, b int) int { return a + b }\n\nfunc Sub(a, b int) int { return a - b }\n",
		"m_test.go": `package m

import "testing"

func TestAdd(t *testing.T) {
	if Add(1, 2) != 3 {
		t.Error("wrong")
	}
}

func TestSub(t *testing.T) { Sub(1, 2) }

func TestSkipped(t *testing.T) { t.Skip("not here") }

func TestBad(t *testing.T) { t.Error("always") }
`,
		"ignored": "", ".gitignore": "/ignored\n", "m_other.go": "package m\n",
	} {
		if err := os.WriteFile(filepath.Join(from, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("git", "init", "-q", from).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ctx := context.Background()
	if err := copyTree(ctx, from, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "ignored")); err == nil {
		t.Error("a file was copied that git ignores")
	}
	other := "arm64"
	if runtime.GOARCH == other {
		other = "amd64"
	}
	if err := os.WriteFile(filepath.Join(dir, "m_"+other+".s"), []byte("text\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := func(name, find, with, file string, test ...string) mistake {
		return mistake{name: name, why: "why " + name, file: file, find: find, with: with, test: append(test, ".")}
	}
	all := []mistake{
		m("one", "a + b", "a * b", "m.go", "-run=^TestAdd$"),
		m("two", "a - b", "a * b", "m.go", "-run=^TestSub$|^TestSkipped$"),
		m("three", "a / b", "", "m.go", "-run=^TestAdd$"),
		m("four", "a + b", "a + c", "m.go", "-run=^TestAdd$"),
		m("five", "a + b", "a * b", "m.go", "-run=^TestBad$"),
		m("six", "a + b", "a * b", "m.go", "-run=^TestNone$"),
		m("seven", "a + b", "a * b", "m.go", "-run=^TestSkipped$"),
		m("eight", "text", "", "m_"+other+".s", "-run=^TestAdd$"),
		m("nine", "a + b", "func() int { for {} }()", "m.go", "-timeout=5s", "-run=^TestAdd$"),
		m("ten", "x", "", "gone.go", "-run=^TestAdd$"),
	}
	var out bytes.Buffer
	ok, err := tryAll(ctx, dir, all, false, &out)
	if ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	t.Log(out.String())
	lines := strings.Split(out.String(), "\n")
	for _, want := range []string{
		"1/10 killed     one,|: --- FAIL: TestAdd", "2/10 SURVIVED   two,|: 1 tests passed, skipped: TestSkipped", "\twhy two|",
		"3/10 STALE      three,|: m.go has 0 times \"a / b\", expected once", "4/10 BROKEN     four,|undefined: c",
		"5/10 BROKEN     five,|: without it: --- FAIL: TestBad", "6/10 BROKEN     six,|no tests to run",
		"7/10 BROKEN     seven,|no test could be run on this machine", "8/10 elsewhere  eight,|", "9/10 killed     nine,|: panic: test timed out",
		"10/10 STALE      ten,|no such file", "10 mistakes: 2 killed, 1 SURVIVED, 2 STALE, 4 BROKEN, 1 elsewhere|",
	} {
		begin, rest, _ := strings.Cut(want, "|")
		found := false
		for _, line := range lines {
			found = found || strings.HasPrefix(line, begin) && strings.Contains(line, rest)
		}
		if !found {
			t.Errorf("no line %q ... %q", begin, rest)
		}
	}
	// Each mistake was undone.
	before, _ := os.ReadFile(filepath.Join(from, "m.go"))
	if after, err := os.ReadFile(filepath.Join(dir, "m.go")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("%v, %s", err, after)
	}
	out.Reset()
	if ok, err := tryAll(ctx, dir, []mistake{all[0], all[7]}, true, &out); !ok || err != nil || !strings.Contains(out.String(), "=== RUN   TestAdd") {
		t.Errorf("%v, %v: %s", ok, err, &out)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := tryAll(ended, dir, all[:1], false, &out); err == nil {
		t.Error("it goes on when it is to end")
	}
}
