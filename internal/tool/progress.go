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

// Progress prints a line for each event, with the time since its start. When it was
// quiet for a minute it prints a line that names what is under way.
type Progress struct {
	out   io.Writer
	start time.Time
	quiet time.Duration
	timer *time.Timer

	mu    sync.Mutex // guards tasks and their fields, and writes to out
	tasks []*Task
}

// Task is something that takes its time. It is under way until End.
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

// Stop ends the lines that come by themselves.
func (p *Progress) Stop() { p.timer.Stop() }

// Elapsed is the time since the start.
func (p *Progress) Elapsed() time.Duration { return time.Since(p.start) }

// Line prints a line. What follows it in text is indented.
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

// tell prints what is under way.
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

// Begin prints that a task starts.
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

// At notes what the task does now, for the line that names what is under way.
func (t *Task) At(where string) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	t.at = where
}

// End takes the task off what is under way.
func (t *Task) End() {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	t.p.tasks = slices.DeleteFunc(t.p.tasks, func(other *Task) bool { return other == t })
}

// ErrInterrupted is the error of a run that a signal ended.
var ErrInterrupted = errors.New("interrupted")

// ExitStatus is that of a command whose checks passed or not, or that ended with an
// error: 0 or 1, or 2, or 130 (as shells have it for SIGINT) if it was interrupted.
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
