package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/tool"
)

// forTests is a scenario that takes no time.
var forTests = []scenario{
	{"1 goroutine", 1, false, 50 * time.Microsecond, 1},
	{"5 goroutines", 5, false, 50 * time.Microsecond, 1},
	{"4 threads", 4, true, 50 * time.Microsecond, 1},
}

func here() []contender { return contenders(rseq.CriticalSections(rseq.ByCPU) == nil) }

// Every contender does what it is timed for, and tells if it did not.
func TestContenders(t *testing.T) {
	for _, s := range forTests {
		for _, c := range here() {
			t.Run(s.name+"/"+c.name, func(t *testing.T) {
				team := newTeam(s)
				defer team.end()
				r := runner{contender: c, instance: c.make(s.workers)}
				for _, n := range []int{8, 80, 800} {
					if _, err := r.do(team, n); err != nil {
						t.Fatal(err)
					}
				}
				if want := int64(888 * s.workers); r.ops != want {
					t.Fatalf("%d operations were counted: expected %d", r.ops, want)
				}
				if err := r.check(r.ops); err != nil {
					t.Error(err)
				}
				if err := r.check(r.ops + 1); err == nil && c.kind == counter && c.name != "empty call" {
					t.Error("one operation more than there were: expected an error")
				}
			})
		}
	}
}

// A kind's first contender, to which the others are compared, is the first one listed.
func TestFirst(t *testing.T) {
	seen := map[kind]int{}
	for _, c := range contenders(true) {
		if c.first != (seen[c.kind] == 0) {
			t.Errorf("%s: first of its kind %v: expected %v", c.name, c.first, !c.first)
		}
		seen[c.kind]++
	}
	if len(seen) != int(kinds) {
		t.Errorf("contenders of %d kinds: expected %d", len(seen), kinds)
	}
	for _, name := range scalers {
		if !slices.Contains(names(contenders(true)), name) {
			t.Errorf("no contender is called %s", name)
		}
	}
}

func TestMeasure(t *testing.T) {
	m, err := measure(t.Context(), forTests[1], here(), 3)
	if err != nil {
		t.Fatal(err)
	}
	if m.Rounds != 3 || m.Workers != 5 || len(m.Results) != len(here()) {
		t.Errorf("%d rounds of %d workers, %d results: expected 3, 5 and %d", m.Rounds, m.Workers, len(m.Results), len(here()))
	}
	for _, x := range m.Results {
		if q := x.Ns; q[0] <= 0 || q[0] > q[1] || q[1] > q[2] || x.Ratio <= 0 {
			t.Errorf("%s: quartiles %v, ratio %v", x.Name, q, x.Ratio)
		}
	}
	if x := m.result("percpu.Counter"); x.Ratio != 1 {
		t.Errorf("percpu.Counter is %v times itself", x.Ratio)
	}
}

// What fails, or counts wrong, is no result.
func TestMeasureFails(t *testing.T) {
	wrong := func(run, check error) []contender {
		return []contender{{name: "bad", make: func(int) instance {
			return instance{func(int) error { return run }, func(int64) error { return check }}
		}}}
	}
	bad := errors.New("it went wrong")
	for name, list := range map[string][]contender{"run": wrong(bad, nil), "check": wrong(nil, bad)} {
		if _, err := measure(t.Context(), forTests[1], list, 2); !errors.Is(err, bad) || !strings.Contains(err.Error(), "bad") {
			t.Errorf("%s: %v: expected that bad went wrong", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := measure(ctx, forTests[0], here(), 2); !errors.Is(err, errInterrupted) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestAllocations(t *testing.T) {
	all, err := allocations(here())
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 5 {
		t.Errorf("%d contenders of package percpu: expected 5", len(all))
	}
	for _, a := range all {
		if a.PerOp != 0 {
			t.Errorf("%s allocates %v times in an operation", a.Name, a.PerOp)
		}
	}
	allocates := contender{name: "percpu.x", make: func(int) instance {
		return instance{run: func(n int) error {
			for range n {
				sink = new(item)
			}
			return nil
		}}
	}}
	if all, _ := allocations([]contender{allocates}); len(all) != 1 || all[0].PerOp != 1 {
		t.Errorf("what allocates once: %v", all)
	}
}

var sink *item

func TestQuartiles(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   quartiles
	}{
		{nil, quartiles{}},
		{[]float64{3}, quartiles{3, 3, 3}},
		{[]float64{4, 1}, quartiles{1.75, 2.5, 3.25}},
		{[]float64{5, 1, 4, 2, 3}, quartiles{2, 3, 4}},
	} {
		if got := quartilesOf(c.values); got != c.want {
			t.Errorf("%v: %v: expected %v", c.values, got, c.want)
		}
	}
}

func TestSteps(t *testing.T) {
	for cpus, want := range map[int][]int{1: {1, 2, 4, 8}, 2: {1, 2, 4, 8, 16}, 3: {1, 2, 3, 4, 8, 16, 24}, 20: {1, 2, 4, 8, 16, 20, 32, 64, 128, 160}} {
		if got := steps(cpus); !slices.Equal(got, want) {
			t.Errorf("%d CPUs: %v: expected %v", cpus, got, want)
		}
	}
}

// recorded is a run's outcome as it could be.
func recorded() *report {
	m := func(name string, workers int, times float64) measurement {
		var results []result
		for i, c := range contenders(true) {
			ns := times * float64(i+1)
			results = append(results, result{c.name, c.kind, quartiles{ns * 0.9, ns, ns * 1.1}, float64(i + 1)})
		}
		return measurement{name, workers, strings.Contains(name, "threads"), 100, results}
	}
	r := &report{
		Date: "2026-11-24", Go: "go1.26.8", Platform: "linux/amd64", Kernel: "6.18.0", CPU: "Some CPU", CPUs: 2, Procs: 2, Libc: "glibc 2.36",
		Modules:     []string{"example.com/other v1.2.3"},
		Scenarios:   []measurement{m("1 goroutine", 1, 1), m("64 goroutines", 64, 40), m("16 threads", 16, 2)},
		Scaling:     []measurement{m("1", 1, 1), m("2", 2, 0.5), m("16", 16, 0.25)},
		Allocations: []allocation{{"percpu.Counter", 0}},
	}
	for i := range r.Scaling {
		r.Scaling[i].Results = slices.DeleteFunc(r.Scaling[i].Results, func(x result) bool { return !slices.Contains(scalers, x.Name) })
	}
	return r
}

func TestReport(t *testing.T) {
	r := recorded()
	const section = "| ns for one operation | 1 goroutine | 64 goroutines |\n| --- | --- | --- |\n" +
		"| `percpu.Counter` | 1.00 | 40.0 |\n| `atomic.Int64` | 8.00 | 320 |\n| `xsync.Counter` | 9.00 | 360 |\n" +
		"| `percpu.RWMutex`, to read | 25.0 | 1000 |\n| `sync.RWMutex`, to read | 26.0 | 1040 |\n" +
		"| `percpu.Pool` / `sync.Pool` | 23.0 / 24.0 | 920 / 960 |\n\n"
	got := r.section()
	if !strings.HasPrefix(got, section) {
		t.Errorf("README.md's section:\n%s\nexpected it to begin\n%s", got, section)
	}
	if !strings.Contains(strings.Join(strings.Fields(got), " "), "2026-11-24, Some CPU with 2 CPUs, linux/amd64, Linux 6.18.0, glibc 2.36, go1.26.8") {
		t.Errorf("README.md's section does not say where it ran:\n%s", got)
	}
	for name, page := range map[string]string{"text": r.text(), "page": r.page()} {
		for _, want := range append(names(contenders(true)), "1 goroutine", "64 goroutines", "36.0", "Some CPU") {
			if !strings.Contains(page, want) {
				t.Errorf("%s has no %q", name, want)
			}
		}
	}
	for _, want := range []string{"example.com/other v1.2.3", "## Allocations", "| **percpu.FreeList** | **20.0** | 18.0 | 22.0 | 20.0 |",
		"| 2 | 0.50 (0.45 to 0.55) |", "| this page, 2026-11-24 | Some CPU, 2 CPUs, linux/amd64, Linux 6.18.0, go1.26.8 | 1.00, 0.50, 0.25 | 8.00, 4.00, 2.00 |", "## Many CPUs: published figures", "DO NOT EDIT"} {
		if !strings.Contains(r.page(), want) {
			t.Errorf("docs/bench.md has no %q:\n%s", want, r.page())
		}
	}
	// 64 goroutines on two CPUs took 40 times as long.
	for name, page := range map[string]string{"text": r.text(), "page": r.page(), "section": got} {
		if !strings.Contains(page, "Note: with 64 goroutines, empty calls were 0.03 times") {
			t.Errorf("%s does not say that the machine was busy", name)
		}
	}
	idle := recorded()
	idle.Scenarios = idle.Scenarios[:1]
	if busy := idle.busy(); busy != "" {
		t.Errorf("busy though it was not: %s", busy)
	}
	// Markdown's tables: as many cells in a row as in the one above.
	for name, page := range map[string]string{"section": got, "page": r.page()} {
		cells := 0
		for line := range strings.Lines(page) {
			n := strings.Count(line, "|")
			if n > 0 && cells > 0 && n != cells {
				t.Errorf("%s: a row of %d cells below one of %d: %s", name, n-1, cells-1, line)
			}
			cells = n
		}
	}
	r.NoSections = "it is not Linux"
	if text := r.text(); !strings.HasPrefix(text, "Critical sections cannot run here") || !strings.Contains(text, r.NoSections) {
		t.Errorf("without sections:\n%s", text)
	}
}

// TestWithoutCgo: what the other program found is a part of each page, and what it is told
// to time exists.
func TestWithoutCgo(t *testing.T) {
	for _, name := range withoutCgo {
		if !slices.Contains(names(contenders(false)), name) {
			t.Errorf("%s is no contender without sections", name)
		}
	}
	r, other := recorded(), recorded()
	other.Way = "some instruction"
	data, err := json.Marshal(other)
	if err != nil {
		t.Fatal(err)
	}
	before := [2]string{r.text(), r.page()}
	r.WithoutCgo = new(report)
	if err := json.Unmarshal(data, r.WithoutCgo); err != nil {
		t.Fatal(err)
	}
	for i, page := range []string{r.text(), r.page()} {
		if strings.Contains(before[i], "without cgo") || !strings.Contains(strings.ToLower(page), "without cgo") ||
			!strings.Contains(page, "some instruction") || strings.Count(page, "percpu.FreeList") <= strings.Count(before[i], "percpu.FreeList") {
			t.Errorf("nothing of the program without cgo:\n%s", page)
		}
	}
}

func TestSection(t *testing.T) {
	got, err := tool.Between("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n", sectionBegin, "new\n", sectionEnd)
	if want := "before\n<!-- bench -->\nnew\n<!-- /bench -->\nafter\n"; err != nil || got != want {
		t.Errorf("%q, %v: expected %q", got, err, want)
	}
	for _, text := range []string{"", "<!-- bench -->\n", "<!-- /bench -->\n<!-- bench -->\n"} {
		if _, err := tool.Between(text, sectionBegin, "", sectionEnd); err == nil || !strings.Contains(err.Error(), "add the lines") {
			t.Errorf("%q: %v: expected that it has no place", text, err)
		}
	}
}

func TestWrap(t *testing.T) {
	text := strings.Repeat("word and word × ", 40)
	for line := range strings.Lines(wrap(text)) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 88 || n == 0 {
			t.Errorf("a line of %d: %q", n, line)
		}
	}
	if got := strings.Join(strings.Fields(wrap(text)), " "); got != strings.TrimSpace(text) {
		t.Errorf("words are lost: %q", got)
	}
}

// textOf returns a picture's text and the names of its elements, in order.
func textOf(t *testing.T, svg []byte) (text string, elements []string) {
	t.Helper()
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if err == io.EOF {
			return text, elements
		}
		if err != nil {
			t.Fatal(err)
		}
		switch x := token.(type) {
		case xml.StartElement:
			elements = append(elements, x.Name.Local)
		case xml.CharData:
			text += string(x)
		}
	}
}

func TestPlot(t *testing.T) {
	for name, picture := range map[string]struct {
		draw func(*report) ([]byte, error)
		want []string
	}{
		"dots":  {(*report).plot, append(names(contenders(true)), "1 goroutine", "64 goroutines", "600", kind(0).String())},
		"lines": {(*report).lines, append(slices.Clone(scalers), "16", "1000", "counters: add", "millions in a second", "goroutines")},
	} {
		svg, err := picture.draw(recorded())
		if err != nil {
			t.Fatal(err)
		}
		again, _ := picture.draw(recorded())
		if !bytes.Equal(svg, again) {
			t.Errorf("%s: the same report gave another picture", name)
		}
		text, elements := textOf(t, svg)
		if elements[0] != "svg" {
			t.Errorf("%s: the root is %q", name, elements[0])
		}
		for _, want := range picture.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the picture has no text %q", name, want)
			}
		}
		if !bytes.Contains(svg, []byte("#FFFFFF")) {
			t.Errorf("%s: the picture has no white background", name)
		}
	}
}

// TestShare: the file has the machine, both pictures and, as JSON, every figure.
func TestShare(t *testing.T) {
	t.Chdir(t.TempDir())
	var out strings.Builder
	if err := recorded().share(&out); err != nil {
		t.Fatal(err)
	}
	const name = "rseq-bench-2-linux-amd64.svg"
	for _, want := range []string{"written: " + name, "template=benchmark.yml", "| 1.00, 0.50, 0.25 |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it says\n%s\nexpected %q", &out, want)
		}
	}
	svg, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text, elements := textOf(t, svg)
	n := 0
	for _, e := range elements {
		if e == "svg" {
			n++
		}
	}
	if n != 3 || elements[1] != "metadata" {
		t.Errorf("%d pictures, the first element is %q: expected one with two in it, and metadata", n, elements[1])
	}
	for _, want := range []string{"Some CPU with 2 CPUs", "Linux 6.18.0", "example.com/other v1.2.3", "millions in a second", "logarithmic scale"} {
		if !strings.Contains(text, want) {
			t.Errorf("the file has no text %q", want)
		}
	}
	var file struct {
		Metadata string `xml:"metadata"`
	}
	var again report
	if err := xml.Unmarshal(svg, &file); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(file.Metadata), &again); err != nil {
		t.Fatal(err)
	}
	if again.text() != recorded().text() {
		t.Errorf("the figures in the file are others:\n%s", again.text())
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"-rounds", "7", "-only", "^percpu", "-write=false"}, io.Discard)
	if err != nil || o.rounds != 7 || o.write || len(matching(contenders(true), o.only)) != 11 {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := parse(nil, io.Discard); err != nil || o.rounds != defaultRounds || !o.write || o.only != nil {
		t.Errorf("without flags: %+v, %v", o, err)
	}
	if _, err := parse([]string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
	for args, want := range map[string]string{
		"-rounds 0":     "expected at least 1",
		"-rounds x":     "invalid value",
		"-only (":       "error parsing regexp",
		"-only nothing": "no contender's name matches",
		"-none":         "not defined",
		"more":          "unexpected argument",

		"-share -only percpu": "expected all contenders",
	} {
		var out strings.Builder
		if _, err := parse(strings.Fields(args), &out); err == nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v: %s: expected %q", args, err, out.String(), want)
		}
	}
}

// A whole run, as short as can be, in a folder of its own.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("a run takes some seconds")
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	defer func(before string) { source = before }(source)
	source = here
	t.Chdir(t.TempDir())
	o := options{rounds: 1, write: true}
	if err := run(t.Context(), o, io.Discard, io.Discard); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no README.md: %v", err)
	}
	const before = "# A\n\n<!-- bench -->\n"
	if err := os.WriteFile("README.md", []byte("# A\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), o, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "add the lines") {
		t.Errorf("no marks: %v", err)
	}
	if err := os.WriteFile("README.md", []byte(before+"<!-- /bench -->\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, o, io.Discard, io.Discard); !errors.Is(err, errInterrupted) {
		t.Errorf("interrupted: %v", err)
	}

	var out strings.Builder
	err = run(t.Context(), o, &out, io.Discard)
	sections := rseq.CriticalSections(rseq.ByCPU)
	switch {
	case sections != nil && (!errors.Is(err, sections) || !strings.HasPrefix(out.String(), "Critical sections cannot run here")):
		t.Fatalf("without sections: %v\n%s", err, out.String())
	case sections == nil && err != nil:
		t.Fatal(err)
	}
	for _, name := range []string{"docs/bench.md", "docs/bench.svg", "docs/scaling.svg"} {
		if _, err := os.Stat(name); (err == nil) != (sections == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Contains(string(readme), "| `percpu.Counter` |"); got != (sections == nil) || !strings.HasPrefix(string(readme), before) {
		t.Errorf("README.md:\n%s", readme)
	}
}
