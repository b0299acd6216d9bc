package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/rseq-go/rseq/internal/tool"
)

// The status of a cell.
const (
	ok          = "ok"
	failed      = "failed"
	impossible  = "impossible"    // Go or the C library cannot do it
	unavailable = "not available" // there is no base image
	interrupted = "interrupted"   // by a signal, while it ran
)

// result is the result of a cell.
type result struct {
	Row, Column string
	Status      string
	Owner       string `json:",omitempty"` // the owner of the areas
	Size        uint32 `json:",omitempty"` // bytes of fields
	WantOwner   string
	WantSize    uint32
	Detail      string `json:",omitempty"`
	Seconds     float64
}

func (r result) with(status, detail string) result {
	r.Status, r.Detail = status, detail
	return r
}

// read reads the lines with "matrix: " in a container's output.
func (r *result) read(output string) {
	for line := range strings.Lines(output) {
		_, text, found := strings.Cut(line, "matrix: ")
		if !found {
			continue
		}
		var info struct {
			Owner string
			Size  uint32
		}
		if json.Unmarshal([]byte(text), &info) == nil {
			r.Owner, r.Size = info.Owner, info.Size
		} else {
			r.Owner = strings.TrimSpace(text)
		}
	}
}

// short returns the text in the table.
func (r result) short() string {
	switch {
	case r.Status == failed:
		return "**FAILED**"
	case r.Status == impossible:
		return "impossible"
	case r.Status != ok:
		return r.Status
	case r.Size == 0:
		return r.Owner
	}
	return fmt.Sprintf("%s %d", r.Owner, r.Size)
}

// report has the results of a run.
type report struct {
	Date, Engine, Kernel, Arch string
	KernelSize                 uint32 // the kernel's feature size
	Cells                      []result

	rows    []row
	columns []column
}

func (r *report) cell(row, column string) (result, bool) {
	i := slices.IndexFunc(r.Cells, func(c result) bool { return c.Row == row && c.Column == column })
	if i < 0 {
		return result{}, false
	}
	return r.Cells[i], true
}

// table returns the matrix in Markdown: C libraries by ways of linking.
func (r *report) table() string {
	var b strings.Builder
	var shown []column
	for _, c := range r.columns {
		if slices.ContainsFunc(r.Cells, func(x result) bool { return x.Column == c.name }) {
			shown = append(shown, c)
		}
	}
	b.WriteString("| row | C library |")
	for _, c := range shown {
		b.WriteString(" " + c.name + " |")
	}
	b.WriteString("\n" + strings.Repeat("| --- ", len(shown)+2) + "|\n")
	var untried []string
	for _, row := range r.rows {
		line := ""
		any, absent := false, false // a cell was tried, or had no image
		libc := strings.Replace(row.Libc, "-", " ", 1)
		for _, c := range shown {
			x, there := r.cell(row.Name, c.name)
			any = any || there && x.Status != unavailable && x.Status != impossible
			absent = absent || there && x.Status == unavailable
			text := ""
			if there {
				text = x.short()
			}
			line += " " + text + " |"
		}
		switch {
		case absent && !any:
			untried = append(untried, fmt.Sprintf("%s (%s)", row.Name, libc))
		case line != strings.Repeat("  |", len(shown)):
			fmt.Fprintf(&b, "| %s | %s |%s\n", row.Name, libc, line)
		}
	}
	if len(untried) > 0 {
		fmt.Fprintf(&b, "\nNot tried, since there was no image: %s.\n", strings.Join(untried, ", "))
	}
	return b.String()
}

// text returns what a run prints.
func (r *report) text() string {
	text := fmt.Sprintf("\n%s\n%s, Docker Engine %s, Linux %s with %d bytes of fields, %s: %d ok, %d failed, %d impossible, %d not available",
		r.table(), r.Date, r.Engine, r.Kernel, r.KernelSize, r.Arch, r.count(ok), r.count(failed), r.count(impossible), r.count(unavailable))
	if n := r.count(interrupted); n > 0 {
		text += fmt.Sprintf(", %d interrupted", n)
	}
	return text + "\n"
}

func (r *report) count(status string) (n int) {
	for _, c := range r.Cells {
		if c.Status == status {
			n++
		}
	}
	return n
}

// passed reports whether no cell failed, and every row that was named or required has an
// image. It prints what failed, and why a row has no image.
func (r *report) passed(named, require []string, out io.Writer) bool {
	good := true
	for _, c := range r.Cells {
		if c.Status == failed {
			good = false
			fmt.Fprintf(out, "failed: %s/%s: %s\n", c.Row, c.Column, tool.FirstLine(c.Detail))
		}
	}
	var printed []string
	for _, c := range r.Cells {
		if c.Status != unavailable {
			continue
		}
		if slices.Contains(named, c.Row) {
			good = false
		}
		if line := oneLine(c.Detail); !slices.Contains(printed, line) {
			printed = append(printed, line)
			fmt.Fprintln(out, line)
		}
	}
	for _, name := range require {
		tried := func(c result) bool { return c.Row == name && (c.Status == ok || c.Status == failed) }
		if slices.ContainsFunc(r.Cells, tried) {
			continue
		}
		good = false
		why := "no cell of it was to run"
		if i := slices.IndexFunc(r.Cells, func(c result) bool { return c.Row == name && c.Status == unavailable }); i >= 0 {
			why = r.Cells[i].Detail
		}
		fmt.Fprintf(out, "row %s is required and was not tried: %s\n", name, why)
	}
	return good
}

// write writes the pages.
func (r *report) write() error {
	for i := range r.Cells {
		r.Cells[i].Detail = tool.FirstLine(r.Cells[i].Detail) // the rest is about this machine
	}
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return tool.WriteFiles(map[string][]byte{"docs/matrix.json": append(data, '\n'), "docs/matrix.md": []byte(r.page())})
}

// order returns the cell's place in the table.
func (r *report) order(c result) int {
	row := slices.IndexFunc(r.rows, func(x row) bool { return x.Name == c.Row })
	column := slices.IndexFunc(r.columns, func(x column) bool { return x.name == c.Column })
	return row*len(r.columns) + column
}

// page returns docs/matrix.md.
func (r *report) page() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("<!-- Code generated by go run ./docker; DO NOT EDIT. -->\n\n# C libraries and ways of linking\n")
	p("A row is an image with a C library (`2.43+`: that version or a later one), a column is a way of\nlinking or running. `go run ./docker` writes this page, on any machine with a Docker Engine;\n" +
		"[CONTRIBUTING.md](../CONTRIBUTING.md) says what else it needs. Containers share the kernel of\nthe machine. [kernels.md](kernels.md) has other kernels.\n")
	p("Run on %s: Docker Engine %s, Linux %s with %d bytes of fields, %s.\n", r.Date, r.Engine, r.Kernel, r.KernelSize, r.Arch)
	p("A cell has the owner of the rseq areas and the bytes of fields that can be read: `libc 28` is\nthe C library's area with 28 bytes. A cell fails if they are not those that docker/rows\nexpects. In each cell the package was built with the\n" +
		"image's compiler and headers, and its tests passed; the table of columns names the\nexceptions.\n")
	p("%s", r.table())
	p("| column | what it is |\n| --- | --- |")
	for _, c := range r.columns {
		p("| %s | %s |", c.name, c.about)
	}
	var notes []string
	for _, c := range r.Cells {
		note := fmt.Sprintf("- %s: %s", c.Column, c.Detail)
		if c.Status == unavailable {
			note = "- " + c.Detail
		}
		if (c.Status == impossible || c.Status == unavailable) && !slices.Contains(notes, note) {
			notes = append(notes, note)
		}
	}
	if len(notes) > 0 {
		p("\nImpossible, and not available:\n\n%s", strings.Join(notes, "\n"))
	}
	return b.String()
}

// enosysPath is replaced by the profile's path in a column's options.
const enosysPath = "ENOSYS"

// enosysProfile is a seccomp profile for the engine under which rseq(2) returns ENOSYS and every
// other system call works.
const enosysProfile = `{
	"defaultAction": "SCMP_ACT_ALLOW",
	"syscalls": [{"names": ["rseq"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]
}
`
