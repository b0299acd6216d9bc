package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// width is how many columns a line may have.
const width = 80

// wrap breaks text into lines that fit. The first begins with first, the others with
// as many blanks. A word that is too long for a line is broken.
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

// table is lines of cells.
type table struct {
	right []bool // the columns that are aligned on the right
	rows  [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// write writes the table. Two blanks are between columns. A cell may not be wider than
// most, if that is not zero for its column, and the last ones not than the line.
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

// shorten keeps the first bytes of a text of ASCII and says that more follows.
func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return text[:most-3] + "..."
}

// quote is for what another process chose, which may be anything: a name with escape
// sequences must not reach a terminal as it is. The result is ASCII.
func quote(text string) string { return strconv.QuoteToASCII(text) }

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// orDash is text, or what stands for what is not known.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// number is v in the format, or "-" if it is zero.
func number[T comparable](format string, v T) string {
	if v == *new(T) {
		return "-"
	}
	return fmt.Sprintf(format, v)
}

// plural is "1 thread", "2 threads".
func plural(n int, thing string) string {
	switch {
	case n == 1:
		return "1 " + thing
	case strings.HasSuffix(thing, "s"):
		return fmt.Sprintf("%d %ses", n, thing)
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// isTerminal reports whether output goes to one.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	is, err := file.Stat()
	return err == nil && is.Mode()&os.ModeCharDevice != 0 && is.Mode()&os.ModeDevice != 0
}

// progress is a line on a terminal that says how far something is that takes longer
// than a second.
type progress struct {
	out   io.Writer // nil: no terminal
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

// end takes the line away.
func (p *progress) end() {
	if p.out != nil && !p.last.IsZero() {
		fmt.Fprintf(p.out, "\r%*s\r", width-1, "")
	}
}
