package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/rseq-go/rseq/internal/inspect"
)

// unread is a process that could not be inspected.
type unread struct {
	PID int    `json:"pid"`
	Why string `json:"why"`
}

func inspectAll(out io.Writer, o options, operands []string) error {
	switch {
	case o.all && len(operands) > 0:
		return wrong("inspect: extra argument %q: --all means every process", operands[0])
	case !o.all && len(operands) == 0:
		return wrong("inspect: a process id or name is missing, or --all")
	}
	pids, err := targets(o.all, operands)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	reports := []*inspect.Report{}
	skipped := []unread{}
	p := newProgress(o.stderr)
	for n, pid := range pids {
		if pid == os.Getpid() && o.all {
			continue
		}
		r, err := inspect.Process(ctx, pid, func(done, all int) {
			p.say("process %d of %d, thread %d of %d", n+1, len(pids), done, all)
		})
		p.say("process %d of %d", n+1, len(pids))
		switch {
		case err == nil:
			reports = append(reports, r)
		case errors.Is(err, context.Canceled):
			p.end()
			return errors.New("interrupted; the processes run on")
		case errors.Is(err, inspect.ErrTooOld):
			p.end()
			return errNo{err.Error()}
		case o.all && (errors.Is(err, inspect.ErrGone) || errors.Is(err, inspect.ErrKernel)):
		default:
			skipped = append(skipped, unread{pid, err.Error()})
		}
	}
	p.end()
	if o.json {
		if err := printJSON(out, struct {
			header
			Processes []*inspect.Report `json:"processes"`
			Unread    []unread          `json:"unread"`
		}{newHeader(), reports, skipped}); err != nil {
			return err
		}
	} else {
		printReports(out, o, reports)
		if n := len(skipped); o.all && n > 0 {
			fmt.Fprintf(out, "\n%s", wrap("", plural(n, "process")+" could not be read; the first: "+skipped[0].Why))
		}
	}
	return verdictOf(o.all, reports, skipped)
}

// verdictOf returns nil if every named process has an area, or with all at least one process.
func verdictOf(all bool, reports []*inspect.Report, skipped []unread) error {
	if all {
		if slices.ContainsFunc(reports, (*inspect.Report).Registered) {
			return nil
		}
		return errNo{}
	}
	var why []string
	for _, s := range skipped {
		why = append(why, s.Why)
	}
	if why != nil {
		return errNo{strings.Join(why, "; ")}
	}
	if slices.ContainsFunc(reports, func(r *inspect.Report) bool { return !r.Registered() }) {
		return errNo{}
	}
	return nil
}

// targets returns the ids of the processes to inspect, each once.
func targets(all bool, operands []string) (pids []int, err error) {
	if all {
		if pids, err = inspect.Processes(); err != nil {
			return nil, errNo{err.Error()}
		}
		return pids, nil
	}
	for _, operand := range operands {
		pid, err := strconv.Atoi(operand)
		if err == nil && pid <= 0 || errors.Is(err, strconv.ErrRange) || operand == "" {
			return nil, wrong("inspect: %q is not a process id", operand)
		}
		list := []int{pid}
		if err != nil {
			if list, err = inspect.Named(operand); err == nil && len(list) == 0 {
				err = fmt.Errorf("there is no process %s", quote(operand))
			}
			if err != nil {
				return nil, errNo{err.Error()}
			}
		}
		for _, pid := range list {
			if !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// The widths of names and owners in a table. Both may be of any length.
const (
	nameWidth  = 17 // the longest name without escapes, in quotes
	ownerWidth = 18
)

func printReports(out io.Writer, o options, reports []*inspect.Report) {
	if o.threads || len(reports) == 1 && !o.all {
		for i, r := range reports {
			if i > 0 {
				fmt.Fprintln(out)
			}
			fmt.Fprintf(out, "Process %d, %s: %s\n\n", r.PID, shorten(quote(r.Name), 40), plural(len(r.Threads), "thread"))
			printReport(out, r, o.threads)
		}
		return
	}
	if len(reports) == 0 {
		return
	}
	t := table{right: []bool{true, false, true}}
	t.row("PID", "NAME", "THREADS", "OWNER", "LENGTH, SIGNATURE")
	for _, r := range reports {
		groups := r.Groups()
		i := max(0, slices.IndexFunc(groups, func(g inspect.Group) bool { return g.Length != 0 }))
		// The largest group of registered threads, or why there is none.
		what := groups[i].Why
		if groups[i].Length != 0 {
			what = fmt.Sprintf("%d, %#x", groups[i].Length, groups[i].Signature)
		}
		t.row(fmt.Sprint(r.PID), quote(r.Name), fmt.Sprint(len(r.Threads)), owner(groups), what)
	}
	t.write(out, 0, nameWidth, 0, 25)
	for _, r := range reports {
		if r.Missing != "" {
			fmt.Fprintf(out, "\n%s", wrap("", fmt.Sprintf("Process %d may have more threads: %s.", r.PID, r.Missing)))
		}
	}
}

// owner returns the owners of the areas of a process's threads, for one cell.
func owner(groups []inspect.Group) string {
	count := map[string]int{}
	var names []string
	for _, g := range groups {
		name := shownOwner(g.Registration)
		if count[name] == 0 {
			names = append(names, name)
		}
		count[name] += g.Threads
	}
	if len(names) == 1 {
		return names[0]
	}
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, count[name])
	}
	return strings.Join(names, ", ")
}

// shownOwner returns the owner in one word. An object's file name is in quotes, since it may have
// any bytes.
func shownOwner(r inspect.Registration) string {
	if r.Owner == inspect.Object {
		return quote(r.ShortOwner())
	}
	return r.ShortOwner()
}

// signature returns the signature, or "-" if nothing is registered.
func signature(r inspect.Registration) string {
	if r.Length == 0 {
		return "-"
	}
	return fmt.Sprintf("%#x", r.Signature)
}

func printReport(out io.Writer, r *inspect.Report, threads bool) {
	groups := r.Groups()
	if threads {
		t := table{right: []bool{true}}
		t.row("TID", "NAME", "OWNER", "ADDRESS", "LENGTH", "SIGNATURE")
		for _, th := range r.Threads {
			t.row(fmt.Sprint(th.TID), quote(th.Name), shownOwner(th.Registration), number("%#x", th.Address),
				number("%d", th.Length), signature(th.Registration))
		}
		t.write(out, 0, nameWidth, ownerWidth-4)
	} else {
		printGroups(out, groups)
	}
	notes(out, groups)
	if r.Missing != "" {
		fmt.Fprintf(out, "\n%s", wrap("", "There may be more threads: "+r.Missing+"."))
	}
}

func printGroups(out io.Writer, groups []inspect.Group) {
	t := table{right: []bool{true, false, true, false}}
	t.row("THREADS", "OWNER", "LENGTH", "SIGNATURE", "FLAGS")
	for _, g := range groups {
		flags := "-"
		if g.Length != 0 {
			flags = fmt.Sprintf("%#x", g.Flags)
		}
		t.row(fmt.Sprint(g.Threads), shownOwner(g.Registration), number("%d", g.Length), signature(g.Registration), flags)
	}
	t.write(out, 0, ownerWidth)
}

// notes prints below a table the paths of objects, and why there is no area.
func notes(out io.Writer, groups []inspect.Group) {
	said := map[string]bool{}
	for _, g := range groups {
		note := ""
		switch {
		case g.Owner == inspect.Object:
			note = shownOwner(g.Registration) + " is " + quote(g.Object)
		case g.Why != "":
			note = fmt.Sprintf("%s: %s", g.Owner, g.Why)
		}
		if note != "" && !said[note] {
			fmt.Fprintf(out, "\n%s", wrap("", note))
			said[note] = true
		}
	}
}
