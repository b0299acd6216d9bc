package tool

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// Progress prints a line for each event, with the time since the start. After a minute without
// an event it prints a line that names the tasks under way.
type Progress struct {
	out   io.Writer
	start time.Time
	quiet time.Duration
	timer *time.Timer

	mu    sync.Mutex // guards tasks and their fields, and writes to out
	tasks []*Task
}

// Task is a task that takes a while. It is under way from Begin to End.
type Task struct {
	p        *Progress
	name, at string
	began    time.Time
}

// NewProgress returns a Progress that prints to out until Stop.
func NewProgress(out io.Writer) *Progress { return newProgress(out, time.Minute) }

func newProgress(out io.Writer, quiet time.Duration) *Progress {
	p := &Progress{out: out, start: time.Now(), quiet: quiet}
	p.mu.Lock() // the timer may fire before it is stored
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(quiet, p.tell)
	return p
}

// Stop ends the lines about tasks under way.
func (p *Progress) Stop() { p.timer.Stop() }

// Elapsed returns the time since the start.
func (p *Progress) Elapsed() time.Duration { return time.Since(p.start) }

// Line prints a line. Further lines of the text are indented.
func (p *Progress) Line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.print(fmt.Sprintf(format, args...))
}

func (p *Progress) print(text string) {
	p.timer.Reset(p.quiet)
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n\t")
	fmt.Fprintf(p.out, "%7v  %s\n", p.Elapsed().Round(time.Second), text)
}

// tell prints the tasks under way.
func (p *Progress) tell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer.Reset(p.quiet)
	if len(p.tasks) == 0 {
		return
	}
	var under []string
	for _, t := range p.tasks {
		at := ""
		if t.at != "" {
			at = t.at + ", "
		}
		under = append(under, fmt.Sprintf("%s (%s%v)", t.name, at, time.Since(t.began).Round(time.Second)))
	}
	p.print("under way: " + strings.Join(under, ", "))
}

// Begin begins a task.
func (p *Progress) Begin(name string) *Task {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := &Task{p: p, name: name, began: time.Now()}
	p.tasks = append(p.tasks, t)
	p.print(name + ": starts")
	return t
}

// Say prints what the task does now.
func (t *Task) Say(format string, args ...any) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	t.at = fmt.Sprintf(format, args...)
	t.p.print(t.name + ": " + t.at)
}

// At sets what the task does now, for the line about tasks under way.
func (t *Task) At(where string) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	t.at = where
}

// End ends the task.
func (t *Task) End() {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	t.p.tasks = slices.DeleteFunc(t.p.tasks, func(other *Task) bool { return other == t })
}

// ErrInterrupted is the error of a run that a signal ended.
var ErrInterrupted = errors.New("interrupted")

// ExitStatus returns the exit status of a command: 0 if its checks passed, 1 if not, 2 after an
// error, and 130, as in shells after SIGINT, if it was interrupted.
func ExitStatus(passed bool, err error) int {
	switch {
	case errors.Is(err, ErrInterrupted):
		return 130
	case err != nil:
		return 2
	case !passed:
		return 1
	}
	return 0
}
