package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rseq-go/rseq/internal/tool"
)

func TestCells(t *testing.T) {
	m, err := parseCells(cellsFile)
	if err != nil || len(m.kernels) < 8 || len(m.cells) < 40 {
		t.Fatalf("%d kernels, %d cells, %v", len(m.kernels), len(m.cells), err)
	}
	const head = "kernel 7.2+ amd64 forky k\nlibc 2.41 trixie\n"
	const cell = "cell 7.2+/amd64 2.41 "
	for text, want := range map[string]string{
		"kernel 7.2 amd64 forky":          "vm/cells:1: 4 fields: expected 5 for a kernel",
		"# x\n\nkernel 7.2 riscv forky k": `vm/cells:3: architecture "riscv": expected one of amd64, arm64, riscv64`,
		"kernel 7.2 amd64 forky k once":   `"once": expected only, optional, or nothing`,
		head + "kernel 7.2+ amd64 sid k":  "kernel 7.2+/amd64 is there twice",
		"guest 1 2":                       `"guest": expected kernel, libc or cell`,
		head + "cell 7.3/amd64 2.41 off self 33 33 64 v2 - yes yes no short":       "there is no kernel 7.3/amd64 above",
		head + "cell 7.2+/amd64 2.40 off self 33 33 64 v2 - yes yes no short":      "there is no libc 2.40 above",
		head + cell + "shared self 33 33 64 v2 - yes yes no short":                 `"shared": expected some of dynamic,static,off`,
		head + cell + "off me 33 33 64 v2 - yes yes no short":                      `owner "me": expected libc or self`,
		head + cell + "off self many 33 64 v2 - yes yes no short":                  `"many": expected a number of bytes`,
		head + cell + "off self 33 33 64 v3 - yes yes no short":                    `mode "v3": expected legacy or v2`,
		head + cell + "off self 33 33 64 v2 - yes yes maybe short":                 `"maybe": expected yes or no`,
		head + cell + "off self 33 33 64 v2 - yes yes no all":                      `tests "all": expected short or full`,
		head + strings.Repeat(cell+"off self 33 33 64 v2 - yes yes no short\n", 2): "cell 7.2+/amd64/2.41/off is there twice",
	} {
		if _, err := parseCells(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestSelect(t *testing.T) {
	m, err := parseCells(cellsFile)
	if err != nil {
		t.Fatal(err)
	}
	count := func(only string) int {
		cells, err := m.selectCells(only)
		if err != nil {
			t.Errorf("-only %s: %v", only, err)
		}
		return len(cells)
	}
	all := count("")
	if n := count("amd64,arm64,riscv64"); n != all {
		t.Errorf("%d cells of the architectures, %d in all", n, all)
	}
	for only, want := range map[string]int{"5.10/amd64": 6, "5.10/amd64/2.36/off": 1, "7.0.13": 5, "7.2+slice": 6, "7.2+off,7.2+slice/amd64/2.36": 4} {
		if n := count(only); n != want {
			t.Errorf("-only %s: %d cells, want %d", only, n, want)
		}
	}
	if _, err := m.selectCells("off,5.1"); err == nil || !strings.Contains(err.Error(), "-only 5.1: no cell has that in its name") {
		t.Error(err)
	}
}

func TestVersion(t *testing.T) {
	for name, want := range map[string]string{"5.10.0-32-amd64": "5.10.0", "7.2.12+deb14-amd64": "7.2.12", "": ""} {
		if got := version(name); got != want {
			t.Errorf("%q: %q", name, got)
		}
	}
}

// fake puts a shell script in place of the emulator. It gets the nonce as $nonce and the other
// arguments of init.sh as $1 and so on.
func fake(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	text := "#!/bin/sh\nfor last; do :; done\nnonce=${last##*-- }\nset -- $nonce\nnonce=$1; shift\n" + script
	for _, m := range machines {
		if err := os.WriteFile(filepath.Join(dir, m.qemu), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// good prints what a guest prints that runs one cell without a failure.
const good = `
say() { printf '\n%s %s\r\n' "$nonce" "$*"; }
job() { say start "$1"; printf '%b' "$3"; say end "$1" "$2" 1.0 2.5 ${4:-0} 1; }
say boot 7.2.12-test
job off/show 0 '{"owner":"self","size":33,"registered_len":33,"align_required":64,"mode":"v2","features":["cpu_id"],"critical_sections":true}\n'
job off/inspect 0
job off/doctor ${doctor:-0} "the doctor's words\n"
job off/rseq 0 '' 3
job off/test 0 '' ${passed:-7}
job off/percpu 0 '' 5
`

// quiet returns a Progress whose lines are dropped.
func quiet(t *testing.T) *tool.Progress {
	p := tool.NewProgress(io.Discard)
	t.Cleanup(p.Stop)
	return p
}

func runFake(t *testing.T, script string) result {
	t.Helper()
	fake(t, script)
	m, err := parseCells("kernel 7.2+ amd64 forky k\nlibc 2.44+ sid\ncell 7.2+/amd64 2.44+ off self 33 33 64 v2 - yes yes no short")
	if err != nil {
		t.Fatal(err)
	}
	var got []result
	runGuest(t.Context(), m.cells, images{}, quiet(t), func(r result) { got = append(got, r) })
	if len(got) != 1 {
		t.Fatalf("%d results", len(got))
	}
	return got[0]
}

func TestGuest(t *testing.T) {
	for _, c := range []struct {
		name, script string
		want         []string // parts of the detail; none if the cell passes
	}{
		{"good", good + "say done", nil},
		{"another size", strings.Replace(good, `"size":33`, `"size":28`, 1) + "say done",
			[]string{"7.2+/amd64/2.44+/off: self, 28 bytes of fields", "vm/cells expects self, 33 bytes"}},
		{"a job fails", "doctor=3\n" + good + "say done", []string{"off/doctor: status 3: expected 0", "the doctor's words"}},
		{"no test passes", "passed=0\n" + good + "say done", []string{"off/test: status 0, 0 tests passed: expected status 0, and at least one test"}},
		{"a console's line without end", good + "say start off/more; head -c 2000000 /dev/zero | tr '\\0' x", []string{"the console cannot be read further"}},
		{"inspect cannot", strings.Replace(good, "off/inspect 0", "off/inspect 1 'it needs Linux 5.13\\n'", 1) + "say done",
			[]string{"inspect no", "vm/cells expects", "inspect yes"}},
		{"inspect fails", strings.Replace(good, "off/inspect 0", "off/inspect 1 'no\\n'", 1) + "say done", []string{"rseq inspect: status 1"}},
		{"no last line", good + "echo 'Restarting'", []string{"the guest ended by itself, after off/percpu; it printed since then:\nRestarting"}},
		{"a job is missing", strings.Replace(good, "job off/doctor", ": job", 1) + "say done", []string{"off/doctor did not run"}},
		{"inspect is missing", strings.Replace(good, "job off/inspect", ": job", 1) + "say done", []string{"off/inspect did not run", "inspect no"}},
		{"panic", good + "say start off/test; echo '[    1.0] Kernel panic - not syncing: oops'",
			[]string{"Kernel panic - not syncing: oops, while it ran off/test; it printed since then:"}},
		{"before init", "echo 'SeaBIOS'", []string{"the guest ended by itself, before its first process ran", "SeaBIOS"}},
		{"panics twice before init", "echo x >>\"$0.boots\"; [ $(wc -l <\"$0.boots\") -gt 2 ] || { echo 'Kernel panic - boot'; exit; }\n" + good + "say done", nil},
		{"always panics before init", "echo 'Kernel panic - boot'", []string{"Kernel panic - boot, before its first process ran"}},
		{"another kernel", strings.Replace(good, "7.2.12", "6.1.3", 1) + "say done", []string{"the guest runs Linux 6.1.3-test: expected 7.2+"}},
		{"hangs", good + "say start off/test; say at TestA/b; echo 'rcu: stalls'; exec sleep 1000",
			[]string{"the guest said nothing for 5s, while it ran off/test, last seen in TestA/b; it printed since then:\nrcu: stalls"}},
		{"a test's time is out", strings.Replace(good, "job off/percpu 0 ''", "job off/percpu 2 \"panic: test timed out after 1h0m0s\\n\\trunning tests:\\n\\t\\tTestSlow (59m0s)\\n$(seq 400)\\n\"", 1) + "say done",
			[]string{"off/percpu: status 2", "\npanic: test timed out after 1h0m0s\n\trunning tests:\n\t\tTestSlow (59m0s)\n[...]\n361\n"}},
		{"forged", "nonce=@no\n" + good + "say done", []string{"before its first process ran"}},
		{"emulator fails", "echo 'no such machine' >&2; exit 1", []string{"qemu-system-x86_64: exit status 1", "no such machine"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "hangs" {
				silence = 5 * time.Second
				defer func() { silence = 15 * time.Minute }()
			}
			r := runFake(t, c.script)
			if (r.status == ok) != (c.want == nil) {
				t.Errorf("%s: %s", r.status, r.detail)
			}
			for _, w := range c.want {
				if !strings.Contains(r.detail, w) {
					t.Errorf("%q does not say %q", r.detail, w)
				}
			}
			if c.name == "hangs" && strings.Contains(r.detail, "the doctor's words") {
				t.Errorf("%q has the words of a job that ended", r.detail)
			}
		})
	}
}

// twoCells has two cells of one guest.
const twoCells = "kernel 7.2+ amd64 forky k optional\nlibc 2.44+ sid\ncell 7.2+/amd64 2.44+ off,static self 33 33 64 v2 - yes yes no short"

// TestWhy: if a guest ends early only what it printed in the last job is shown.
func TestWhy(t *testing.T) {
	c := console{at: func(string) {}}
	for _, step := range []struct{ line, want string }{
		{"SeaBIOS", "the guest ended by itself, before its first process ran; it printed since then:\nSeaBIOS"},
		{"@n boot 7.2", "the guest ended by itself, before its first job; it printed since then:\nSeaBIOS"},
		{"@n start off/show", "the guest ended by itself, while it ran off/show; it printed nothing since then"},
		{"{}", "the guest ended by itself, while it ran off/show; it printed since then:\n{}"},
		{"@n end off/show 0 1.0 2.0 0 0", "the guest ended by itself, after off/show; it printed since then:\n{}"},
		{"@n start off/test", "the guest ended by itself, while it ran off/test; it printed nothing since then"},
		{"@n at -", "the guest ended by itself, while it ran off/test; it printed nothing since then"},
		{"@n at TestA/b", "the guest ended by itself, while it ran off/test, last seen in TestA/b; it printed nothing since then"},
	} {
		c.read("@n", step.line, func(string) {})
		if got := c.why(); got != step.want {
			t.Errorf("after %q: %q, want %q", step.line, got, step.want)
		}
	}
}

// TestGuestEndsLate: if a guest breaks in a later cell, the results of the cells before it stand,
// and each shows its own output. A kernel that Debian no longer has is not available.
func TestGuestEndsLate(t *testing.T) {
	m, err := parseCells(twoCells)
	if err != nil {
		t.Fatal(err)
	}
	guest := func(im images) (status, detail []string) {
		runGuest(t.Context(), m.cells, im, quiet(t), func(r result) {
			status, detail = append(status, r.status), append(detail, r.detail)
		})
		return status, detail
	}
	fake(t, good+"say start static/show; echo 'Kernel panic'")
	if status, detail := guest(images{}); !slices.Equal(status, []string{ok, failed}) {
		t.Error(status, detail)
	}
	fake(t, "say() { printf '\\n%s %s\\r\\n' \"$nonce\" \"$*\"; }; say boot 7.2.12; say start off/test; echo 'Kernel panic'")
	if status, detail := guest(images{}); !slices.Equal(status, []string{failed, failed}) || !strings.Contains(detail[0], "Kernel panic, while it ran off/test") ||
		detail[1] != "7.2+/amd64/2.44+/static: it did not run: the guest ended before, see 7.2+/amd64/2.44+/off" {
		t.Errorf("%v %q", status, detail)
	}
	if status, detail := guest(images{gone: map[string]error{"7.2+/amd64": errors.New("gone")}}); !slices.Equal(status, []string{unavailable, unavailable}) {
		t.Error(status, detail)
	}
	r := report{cells: []result{{name: "6.1/a", status: ok}, {name: "7.2+/b", status: unavailable, detail: "b: gone"}}}
	for only, want := range map[string]bool{"": true, "b": true, "6.1": true, "7.2+": false, "6.1,7.2+/b": false} {
		var said strings.Builder
		if r.good(only, &said) != want || said.String() != "not available: b: gone\n" {
			t.Errorf("-only %s: %q", only, said.String())
		}
	}
	r.cells[0].status = failed
	if r.good("", io.Discard) {
		t.Error("it passes with a cell that failed")
	}
}

// TestGuestInterrupted: the cell under way is interrupted, and a cell that did not begin is not
// printed. A job is printed when it begins.
func TestGuestInterrupted(t *testing.T) {
	m, err := parseCells(twoCells)
	if err != nil {
		t.Fatal(err)
	}
	fake(t, "say() { printf '\\n%s %s\\r\\n' \"$nonce\" \"$*\"; }; say boot 7.2.12; say start off/show; exec sleep 1000")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	progress := &until{text: "guest 7.2+/amd64/2.44+: off starts\n", do: cancel}
	says := tool.NewProgress(progress)
	defer says.Stop()
	r := &report{}
	runGuests(ctx, m.cells, images{}, 1, r, says)
	if len(r.cells) != 1 || r.cells[0].status != interrupted || !strings.Contains(r.cells[0].detail, "off: ") {
		t.Errorf("%+v", r.cells)
	}
	if text := r.table() + r.summary() + progress.String(); strings.Contains(text, failed) || !strings.Contains(text, " 0 failed, 0 not available, 1 interrupted") {
		t.Error(text)
	}
}

// until is a writer that calls do once a text was written.
type until struct {
	strings.Builder
	text string
	do   func()
}

func (u *until) Write(data []byte) (int, error) {
	if strings.Contains(string(data), u.text) {
		u.do()
	}
	return u.Builder.Write(data)
}

// TestJob runs job of init.sh. It prints each minute which test runs, and of a long output the
// lines that name the test that was running.
func TestJob(t *testing.T) {
	_, functions, _ := strings.Cut(initScript, "\nsay() {")
	functions, _, found := strings.Cut(functions, "\nevery=60\n")
	if !found {
		t.Fatal("init.sh has no functions")
	}
	dir := t.TempDir()
	script := "exec >" + dir + "/console 2>&1\nnonce=@n\nsay() {" + strings.ReplaceAll(functions, "/tmp/", dir+"/") + "\nevery=1\n" + `
job a/ok 600 sh -c 'echo "{}"'
job a/test 600 sh -c '
echo "=== RUN   TestSlow/x"; echo "--- PASS: TestQuick"; printf "panic: test timed out after 1h0m0s\n\trunning tests:\n\t\tTestSlow (59m0s)\n"
seq 500
n=0; until grep "at TestSlow/x$" ` + dir + `/console >/dev/null || [ $n = 600 ]; do sleep 0.1; n=$((n+1)); done
exit 2'
`
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := os.ReadFile(dir + "/console")
	if err != nil {
		t.Fatal(err)
	}
	var at []string
	c := console{at: func(where string) { at = append(at, where) }}
	for line := range strings.Lines(string(out)) {
		c.read("@n", strings.TrimRight(line, "\n"), func(string) {})
	}
	if len(c.jobs) != 2 || c.jobs[0].status != 0 || strings.TrimSpace(c.jobs[0].output) != "{}" {
		t.Fatalf("%.2000s", out)
	}
	j := c.jobs[1]
	if j.status != 2 || j.passed != 1 || !strings.HasPrefix(strings.TrimSpace(j.output), "panic: test timed out after 1h0m0s\n\trunning tests:\n\t\tTestSlow (59m0s)\n201\n") {
		t.Errorf("%.2000s", out)
	}
	if !slices.Contains(at, "a/test, TestSlow/x") {
		t.Errorf("at was called with %q", at)
	}
}

func TestDiskFull(t *testing.T) {
	for text, full := range map[string]bool{
		"write /x: no space left on device": true, "E: You don't have enough free space in /x": true, "exit status 1": false,
	} {
		if got := diskFull(errors.New(text)).Error(); strings.Contains(got, "the disk is full; .cache/vm can be removed: "+text) != full {
			t.Errorf("%s: %s", text, got)
		}
	}
}

func TestRoom(t *testing.T) {
	if err := room("/proc", nil); err == nil || !strings.Contains(err.Error(), "/proc has 0 MB left: expected 1024") {
		t.Error(err)
	}
}

// TestLock: a second run does not start in the folder of a first one.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir); err == nil || !strings.Contains(err.Error(), "another run uses") {
		t.Error(err)
	}
	unlock()
	if unlock, err = lock(dir); err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestRunRefuses(t *testing.T) {
	t.Chdir("..")
	if _, err := run(t.Context(), options{only: "x"}, nil, os.Stderr, os.Stderr); err == nil || !strings.Contains(err.Error(), "-only x: no cell") {
		t.Error(err)
	}
	if _, err := run(t.Context(), options{}, []string{"5.10"}, os.Stderr, os.Stderr); err == nil || !strings.Contains(err.Error(), "unexpected argument") {
		t.Error(err)
	}
	t.Setenv("PATH", t.TempDir())
	_, err := run(t.Context(), options{only: "7.2+/arm64"}, nil, os.Stderr, os.Stderr)
	if err == nil || !strings.Contains(err.Error(), "install it (Debian: ") {
		t.Error(err)
	}
	t.Chdir(t.TempDir())
	if _, err := run(t.Context(), options{}, nil, os.Stderr, os.Stderr); err == nil || !strings.Contains(err.Error(), "run it from the repository's root") {
		t.Error(err)
	}
}
