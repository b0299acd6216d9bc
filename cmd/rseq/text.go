package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// width is the number of columns of a line.
const width = 80

// wrap breaks text into lines of at most width columns. The first line begins with first, the
// others with as many blanks. A word that is too long for a line is broken.
func wrap(first, text string) string {
	indent := strings.Repeat(" ", len(first))
	var b strings.Builder
	line := first
	empty := true
	for _, word := range strings.Fields(text) {
		if !empty && len(line)+1+len(word) > width {
			b.WriteString(line + "\n")
			line, empty = indent, true
		}
		if !empty {
			line += " "
		}
		for len(line)+len(word) > width {
			room := width - len(line)
			b.WriteString(line + word[:room] + "\n")
			line, word = indent, word[room:]
		}
		line += word
		empty = false
	}
	return b.String() + strings.TrimRight(line, " ") + "\n"
}

// table is a table of text.
type table struct {
	right []bool // the columns that are aligned on the right
	rows  [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// write writes the table with two blanks between columns. A cell that is wider than most of its
// column, unless that is zero, is shortened, and so is a last cell that does not fit into the
// line.
func (t *table) write(out io.Writer, most ...int) {
	columns := make([]int, len(t.rows[0]))
	for _, r := range t.rows {
		for i := range r {
			if i < len(most) && most[i] > 0 {
				r[i] = shorten(r[i], most[i])
			}
			columns[i] = max(columns[i], len(r[i]))
		}
	}
	room := width + columns[len(columns)-1]
	for _, c := range columns {
		room -= c + 2
	}
	room += 2
	for _, r := range t.rows {
		line := ""
		last := len(r) - 1
		r[last] = shorten(r[last], max(room, 4))
		for i, cell := range r {
			pad := strings.Repeat(" ", max(columns[i]-len(cell), 0))
			if i < len(t.right) && t.right[i] {
				line += pad + cell + "  "
			} else {
				line += cell + pad + "  "
			}
		}
		fmt.Fprintln(out, strings.TrimRight(line, " "))
	}
}

// shorten cuts an ASCII text to at most most bytes and marks the cut.
func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return text[:most-3] + "..."
}

// quote returns text from another process in quotes and in ASCII, so that escape sequences in
// it do not reach a terminal.
func quote(text string) string { return strconv.QuoteToASCII(text) }

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// orDash returns text, or a dash if it is empty.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// number returns v in the format, or "-" if it is zero.
func number[T comparable](format string, v T) string {
	if v == *new(T) {
		return "-"
	}
	return fmt.Sprintf(format, v)
}

// plural returns "1 thread" or "2 threads".
func plural(n int, thing string) string {
	switch {
	case n == 1:
		return "1 " + thing
	case strings.HasSuffix(thing, "s"):
		return fmt.Sprintf("%d %ses", n, thing)
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	is, err := file.Stat()
	return err == nil && is.Mode()&os.ModeCharDevice != 0 && is.Mode()&os.ModeDevice != 0
}

// progress is a line on a terminal about a task that takes longer than a second.
type progress struct {
	out   io.Writer // nil if it is no terminal
	began time.Time
	last  time.Time
}

func newProgress(stderr io.Writer) *progress {
	p := &progress{began: time.Now()}
	if isTerminal(stderr) {
		p.out = stderr
	}
	return p
}

func (p *progress) say(format string, args ...any) {
	now := time.Now()
	if p.out == nil || now.Sub(p.began) < time.Second || now.Sub(p.last) < 100*time.Millisecond {
		return
	}
	p.last = now
	fmt.Fprintf(p.out, "\r%-*s", width-1, shorten(fmt.Sprintf(format, args...), width-1))
}

// end clears the line.
func (p *progress) end() {
	if p.out != nil && !p.last.IsZero() {
		fmt.Fprintf(p.out, "\r%*s\r", width-1, "")
	}
}
