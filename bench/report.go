package main

import (
	_ "embed"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/processor"
	"github.com/rseq-go/rseq/internal/tool"
)

// published is the end of docs/bench.md: what others measured.
//
//go:embed published.md
var published string

// others are the rows of docs/bench.md's table of other machines, but for this one's.
//
//go:embed others.md
var others string

// report is a run's outcome.
type report struct {
	Date, Go, Platform, Kernel string
	CPU                        string // the processor's name
	CPUs, Procs                int
	Libc                       string
	Modules                    []string // the versions of what was compared with
	NoSections                 string   // why critical sections cannot run here
	Scenarios, Scaling         []measurement
	Allocations                []allocation
	Way                        string  // how a thread without an area knows its CPU
	WithoutCgo                 *report // of the same program, built so
}

// newReport says what is known before anything ran.
func newReport(sections error) *report {
	info, _ := rseq.Query()
	r := &report{
		Date: time.Now().UTC().Format(time.DateOnly), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Kernel: kernel.Release(), CPU: processorName(), CPUs: runtime.NumCPU(), Procs: runtime.GOMAXPROCS(0), Libc: info.Libc,
		Way: processor.Again().String(),
	}
	if sections != nil {
		r.NoSections = sections.Error()
	}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, m := range build.Deps {
			if strings.Contains(m.Path, "/xsync/") || strings.HasSuffix(m.Path, "/crlib") || strings.HasSuffix(m.Path, "/client_golang") {
				r.Modules = append(r.Modules, m.Path+" "+m.Version)
			}
		}
	}
	return r
}

// processorName is its name, or what stands for it.
func processorName() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH + " processor"
}

// machine is a line about where it ran.
func (r *report) machine() string {
	line := fmt.Sprintf("%s, %s with %d CPUs, %s", r.Date, r.CPU, r.CPUs, r.Platform)
	if r.Kernel != "" {
		line += ", Linux " + r.Kernel
	}
	if r.Libc != "" {
		line += ", " + r.Libc
	}
	return line + ", " + r.Go
}

// show is a number with three digits.
func show(x float64) string {
	switch {
	case x < 9.995:
		return fmt.Sprintf("%.2f", x)
	case x < 99.95:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.0f", x)
}

// showRatio says how much a contender's time is of the first one's.
func showRatio(x float64) string {
	if x == 0 {
		return "-"
	}
	return show(x)
}

// text is what is printed.
func (r *report) text() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if r.NoSections != "" {
		p("Critical sections cannot run here, so percpu works by atomics and locks:\n%s\n", r.NoSections)
	}
	p("%s", r.machine())
	if busy := r.busy(); busy != "" {
		p("Note: %s.", busy)
	}
	p("ns for one operation: median (quartiles), and the ratio to the first percpu of its kind")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w)
	for _, m := range r.Scenarios {
		fmt.Fprintf(w, "\t%s\t", m.Name)
	}
	fmt.Fprintln(w)
	for k := range kinds {
		for i, name := range namesOf(r.Scenarios, k) {
			if i == 0 {
				fmt.Fprintf(w, "%v%s\n", k, strings.Repeat("\t\t", len(r.Scenarios)))
			}
			fmt.Fprintf(w, "  %s", name)
			for _, m := range r.Scenarios {
				fmt.Fprint(w, cells(m.result(name)))
			}
			fmt.Fprintln(w)
		}
	}
	w.Flush()
	for k := range kinds {
		names := namesOf(r.Scaling, k)
		if len(names) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%v, by goroutines", k)
		for _, name := range names {
			fmt.Fprintf(w, "\t%s\t", name)
		}
		fmt.Fprintln(w)
		for _, m := range r.Scaling {
			fmt.Fprint(w, m.Workers)
			for _, name := range names {
				fmt.Fprint(w, cells(m.result(name)))
			}
			fmt.Fprintln(w)
		}
		w.Flush()
	}
	if len(r.Allocations) > 0 {
		p("\nallocations for one operation, in steady state")
		for _, a := range r.Allocations {
			fmt.Fprintf(w, "%s\t%g\n", a.Name, a.PerOp)
		}
		w.Flush()
	}
	if r.WithoutCgo != nil {
		p("\nThe same program without cgo (CPU from %s)\n%s", r.WithoutCgo.Way, r.WithoutCgo.text())
	}
	return b.String()
}

// row is the row of a table of machines: the time of an add by one goroutine, one for each
// CPU and eight for each.
func (r *report) row(who string) string {
	line := fmt.Sprintf("| %s, %s | %s, %d CPUs, %s, Linux %s, %s |", who, r.Date, r.CPU, r.CPUs, r.Platform, r.Kernel, r.Go)
	for _, name := range []string{"percpu.Counter", "atomic.Int64", "xsync.Counter"} {
		var cells []string
		for _, m := range r.Scaling {
			if n := m.Workers; n == 1 || n == r.CPUs || n == 8*r.CPUs {
				cells = append(cells, show(m.result(name).Ns[1]))
			}
		}
		line += " " + strings.Join(cells, ", ") + " |"
	}
	return line
}

// speedup says how much faster empty calls went than on one goroutine, and how much
// that may be: less tells that the machine did something else, or that its CPUs share
// cores. It is zero if they did not run.
func (r *report) speedup(m measurement) (got float64, most int) {
	const yardstick = "empty call"
	one, some := r.Scenarios[0].result(yardstick), m.result(yardstick)
	if some.Ns[1] == 0 {
		return 0, 0
	}
	return one.Ns[1] / some.Ns[1], min(m.Workers, r.CPUs, max(r.Procs, 1))
}

func (r *report) showSpeedup(m measurement) string {
	got, most := r.speedup(m)
	if most < 2 {
		return ""
	}
	return fmt.Sprintf(" Empty calls were %.2f times as fast as with one goroutine.", got)
}

// busy says why what should run at once did not, if so.
func (r *report) busy() string {
	for _, m := range r.Scenarios {
		if got, most := r.speedup(m); got > 0 && got < 0.8*float64(most) {
			return fmt.Sprintf("with %s, empty calls were %.2f times as fast as with one goroutine, not %d times: "+
				"the machine did something else, or its CPUs share cores", m.Name, got, most)
		}
	}
	return ""
}

// cells are a result's two in the printed table.
func cells(x result) string {
	return fmt.Sprintf("\t%s (%s %s)\t%s", show(x.Ns[1]), show(x.Ns[0]), show(x.Ns[2]), showRatio(x.Ratio))
}

// namesOf returns the names of the contenders of a kind that ran in these measurements.
func namesOf(measurements []measurement, k kind) (names []string) {
	if len(measurements) == 0 {
		return nil
	}
	for _, x := range measurements[0].Results {
		if x.Kind == k {
			names = append(names, x.Name)
		}
	}
	return names
}

func (m measurement) result(name string) result {
	i := slices.IndexFunc(m.Results, func(x result) bool { return x.Name == name })
	if i < 0 {
		return result{}
	}
	return m.Results[i]
}

// Where the section stands in README.md.
const sectionBegin, sectionEnd = "<!-- bench -->\n", "<!-- /bench -->\n"

// write writes the pages.
func (r *report) write() error {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		return err
	}
	changed, err := tool.Between(string(readme), sectionBegin, r.section(), sectionEnd)
	if err != nil {
		return err
	}
	dots, err := r.plot()
	if err != nil {
		return err
	}
	lines, err := r.lines()
	if err != nil {
		return err
	}
	return tool.WriteFiles(map[string][]byte{
		"docs/bench.md": []byte(r.page()), "docs/bench.svg": dots, "docs/scaling.svg": lines, "README.md": []byte(changed),
	})
}

// summary is what README.md's table has: a row for each, with the medians of its contenders.
var summary = []struct {
	about string
	names []string
}{
	{"`percpu.Counter`", []string{"percpu.Counter"}},
	{"`atomic.Int64`", []string{"atomic.Int64"}},
	{"`xsync.Counter`", []string{"xsync.Counter"}},
	{"`percpu.RWMutex`, to read", []string{"percpu.RWMutex"}},
	{"`sync.RWMutex`, to read", []string{"sync.RWMutex"}},
	{"`percpu.Pool` / `sync.Pool`", []string{"percpu.Pool", "sync.Pool"}},
}

// section is README.md's.
func (r *report) section() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	var scenarios []measurement
	for _, m := range r.Scenarios {
		if !m.Threads {
			scenarios = append(scenarios, m)
		}
	}
	line := "| ns for one operation |"
	for _, m := range scenarios {
		line += " " + m.Name + " |"
	}
	p("%s\n| --- |%s", line, strings.Repeat(" --- |", len(scenarios)))
	for _, row := range summary {
		line := "| " + row.about + " |"
		for _, m := range scenarios {
			var cells []string
			for _, name := range row.names {
				cells = append(cells, show(m.result(name).Ns[1]))
			}
			line += " " + strings.Join(cells, " / ") + " |"
		}
		p("%s", line)
	}
	p("\n%s", wrap("Medians of `go run ./bench`, "+r.machine()+". A time is wall time divided by the operations of all goroutines: "+
		"where two do not hinder each other, it halves."))
	if busy := r.busy(); busy != "" {
		p("\n%s", wrap("Note: "+busy+"."))
	}
	return b.String()
}

// wrap breaks a paragraph into lines.
func wrap(text string) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(text) {
		switch n := len([]rune(word)); {
		case i == 0:
			column = n
		case column+1+n > 88:
			b.WriteByte('\n')
			column = n
		default:
			b.WriteByte(' ')
			column += 1 + n
		}
		b.WriteString(word)
	}
	return b.String()
}

// page is docs/bench.md.
func (r *report) page() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("<!-- Code generated by go run ./bench; DO NOT EDIT. -->\n\n# What package percpu's operations cost\n")
	p("%s\n", wrap(fmt.Sprintf("%s, GOMAXPROCS %d. `go run ./bench` writes this page. All contenders run in one process and in turn, "+
		"some milliseconds each, round after round. Each round begins with another contender, so a slow moment of the machine affects all. "+
		"Every answer is checked, and after each scenario what was counted, or is on the lists.", r.machine(), r.Procs)))
	p("%s\n", wrap("A time is the wall time of a turn divided by the operations of all its goroutines. Where two goroutines run at once "+
		"and do not hinder each other, it is half of what an operation takes. A ratio compares with the first contender of its kind, "+
		"which is printed bold: it is the median of the ratios of all rounds."))
	p("Further down: [other machines](#other-machines), what [many CPUs](#on-paper-a-shared-word-on-n-cpus) do on\npaper, " +
		"and [what others published](#many-cpus-published-figures).\n")
	p("![the medians as dots](bench.svg)\n")
	p("| contender | what is timed |\n| --- | --- |")
	for _, c := range contenders(true) {
		p("| %s | %s |", c.name, c.about)
	}
	if len(r.Modules) > 0 {
		p("\nCompared with %s.", strings.Join(r.Modules, " and "))
	}
	if busy := r.busy(); busy != "" {
		p("\n%s", wrap("Note: "+busy+"."))
	}
	r.tables(p, "")
	if len(r.Scaling) > 0 {
		p("\n## From one goroutine to eight for each CPU\n\n%d rounds each, ns for one operation: median (quartiles).\n", r.Scaling[0].Rounds)
		p("![operations in a second, by goroutines](scaling.svg)")
	}
	for k := range kinds {
		names := namesOf(r.Scaling, k)
		if len(names) == 0 {
			continue
		}
		p("\n| *%v*, by goroutines | %s |\n| --- |%s", k, strings.Join(names, " | "), strings.Repeat(" --- |", len(names)))
		for _, m := range r.Scaling {
			line := fmt.Sprintf("| %d |", m.Workers)
			for _, name := range names {
				x := m.result(name)
				line += fmt.Sprintf(" %s (%s to %s) |", show(x.Ns[1]), show(x.Ns[0]), show(x.Ns[2]))
			}
			p("%s", line)
		}
	}
	if len(r.Allocations) > 0 {
		p("\n## Allocations\n\nFor one operation, in steady state.\n\n| contender | allocations |\n| --- | --- |")
		for _, a := range r.Allocations {
			p("| %s | %g |", a.Name, a.PerOp)
		}
	}
	if x := r.WithoutCgo; x != nil {
		p("\n## Without cgo\n\n%s", wrap("The same program, built with CGO_ENABLED=0. No thread has an area there. "+
			"A thread knows its CPU from "+x.Way+"."))
		x.tables(p, "without cgo, ")
	}
	p("\n## Other machines\n\n%s\n", wrap("Does your machine have more CPUs? `go run ./bench -share`, in a clone of this repository, writes one file. "+
		"[Open an issue](https://github.com/rseq-go/rseq/issues/new?template=benchmark.yml) and attach it; the row for this table stands in what the command prints. "+
		"A column has the ns for one add by 1 goroutine, one for each CPU, and eight for each."))
	p("| who, when | machine | percpu.Counter | atomic.Int64 | xsync.Counter |\n| --- | --- | --- | --- | --- |")
	p("%s", r.row("this page"))
	if more := strings.TrimSpace(others); more != "" {
		p("%s", more)
	}
	p("\n%s", strings.TrimSpace(published))
	return b.String()
}

// tables adds one for each scenario.
func (r *report) tables(p func(format string, args ...any), before string) {
	for _, m := range r.Scenarios {
		p("\n## %s%s\n\n%d rounds, ns for one operation.%s\n", before, m.Name, m.Rounds, r.showSpeedup(m))
		p("| contender | median | lower quartile | upper quartile | ratio |\n| --- | --- | --- | --- | --- |")
		for k := range kinds {
			for i, name := range namesOf(r.Scenarios, k) {
				x := m.result(name)
				if i == 0 {
					p("| *%v* | | | | |\n| **%s** | **%s** | %s | %s | %s |", k, name, show(x.Ns[1]), show(x.Ns[0]), show(x.Ns[2]), showRatio(x.Ratio))
				} else {
					p("| %s | %s | %s | %s | %s |", name, show(x.Ns[1]), show(x.Ns[0]), show(x.Ns[2]), showRatio(x.Ratio))
				}
			}
		}
	}
}
