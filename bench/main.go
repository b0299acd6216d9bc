// Command bench times the structures of package percpu beside what they replace:
// counters beside atomics, sharded counters and a mutex, a reader/writer lock beside sync's,
// free lists and pools beside sync.Pool, a channel and a mutex.
//
//	go run ./bench [-rounds N] [-only REGEXP] [-share] [-write=false]
//
// From the repository's root. It takes some two minutes, on a machine that
// does nothing else: all contenders run in turn, some milliseconds each, round after
// round, by one goroutine, by two, by 64 and by eight threads per CPU, then the main
// ones by 1 goroutine up to eight for each CPU. Then it builds itself without cgo and
// has that program time what there is then. A time is the wall time of a turn,
// divided by the operations of all goroutines; a ratio is the median of the ratios in
// each round. Every operation's answer is looked at, and what was counted has to be
// what was added.
//
//	-rounds N     rounds of each scenario
//	-only REGEXP  only contenders whose names match; nothing is written then
//	-share        write one file for others, with everything in it, and no pages
//	-write=false  write nothing
//	-json         print the report as JSON, of what is compared without cgo
//
// It prints the tables and writes docs/bench.md, docs/bench.svg, docs/scaling.svg and the
// section of README.md between "<!-- bench -->" and "<!-- /bench -->". Where critical
// sections cannot run it says so above the tables and writes no pages: that is not what
// package percpu is about.
//
// The file of -share is a picture, rseq-bench-CPUS-ARCH.svg in the current folder: the
// machine, throughput over goroutines, the medians, and inside, as JSON, every figure.
// docs/bench.md says where to send it.
//
// The exit status is 0, 1 if it failed, an operation did not do what it should, a
// percpu operation allocates, or what was to be written was not, and 2 if the usage
// is wrong.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/section"
	"github.com/rseq-go/rseq/internal/tool"
)

type options struct {
	rounds int
	only   *regexp.Regexp
	write  bool
	share  bool
	json   bool // by the program itself: print the report so, of some contenders
}

// defaultRounds take some two minutes on two CPUs.
const defaultRounds = 240

// errUsage is what parse returns when the flag package has said what is wrong.
var errUsage = errors.New("usage")

var errInterrupted = errors.New("interrupted: nothing was written")

func main() {
	o, err := parse(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// parse reads the command line. What is wrong with it is told on out.
func parse(args []string, out io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.IntVar(&o.rounds, "rounds", defaultRounds, "rounds of each scenario, at least one")
	flags.BoolVar(&o.write, "write", true, "write docs/bench.md, its pictures and README.md's section after a whole run")
	flags.BoolVar(&o.share, "share", false, "write one file, rseq-bench-CPUS-ARCH.svg, to share the figures of this machine, and no pages")
	flags.BoolVar(&o.json, "json", false, "print what it is built for without cgo, as JSON, and write no files")
	flags.Func("only", "run only contenders whose names match this `regexp`, and write no files", func(s string) (err error) {
		if o.only, err = regexp.Compile(s); err != nil {
			return err
		}
		if len(matching(contenders(true), o.only)) == 0 {
			return fmt.Errorf("no contender's name matches: expected some of %s", strings.Join(names(contenders(true)), "; "))
		}
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	wrong := ""
	switch {
	case flags.NArg() > 0:
		wrong = fmt.Sprintf("unexpected argument %q: contenders are named by -only", flags.Arg(0))
	case o.share && o.only != nil:
		wrong = "-share with -only: expected all contenders, so that results can be compared"
	case o.rounds < 1:
		wrong = fmt.Sprintf("-rounds %d: expected at least 1", o.rounds)
	}
	if wrong != "" {
		fmt.Fprintln(out, "bench:", wrong)
		return o, errUsage
	}
	return o, nil
}

func names(list []contender) (all []string) {
	for _, c := range list {
		all = append(all, c.name)
	}
	return all
}

// matching returns the contenders whose names match, all if only is nil.
func matching(list []contender, only *regexp.Regexp) []contender {
	return slices.DeleteFunc(slices.Clone(list), func(c contender) bool { return only != nil && !only.MatchString(c.name) })
}

func isPercpu(name string) bool { return strings.HasPrefix(name, "percpu.") }

// run does it all.
func run(ctx context.Context, o options, out, progress io.Writer) error {
	sections := rseq.CriticalSections(rseq.ByCPU)
	write := o.write && o.only == nil && !o.json && !o.share
	if write {
		// Before it takes its time.
		readme, err := os.ReadFile("README.md")
		if err != nil {
			return fmt.Errorf("run it from the repository's root: %w", err)
		}
		if _, err := tool.Between(string(readme), sectionBegin, "", sectionEnd); err != nil {
			return err
		}
	}
	list := matching(contenders(sections == nil), o.only)
	if o.json {
		list = slices.DeleteFunc(list, func(c contender) bool { return !slices.Contains(withoutCgo, c.name) })
	}
	r := newReport(sections)
	step := func(s scenario, list []contender) (measurement, error) {
		fmt.Fprintf(progress, "bench: %s: %d contenders, %d rounds of %v each\n", s.name, len(list), max(o.rounds/s.share, 1), s.turn)
		return measure(ctx, s, list, o.rounds)
	}
	for _, s := range scenarios() {
		m, err := step(s, list)
		if err != nil {
			return err
		}
		r.Scenarios = append(r.Scenarios, m)
	}
	main := slices.DeleteFunc(slices.Clone(list), func(c contender) bool { return !slices.Contains(scalers, c.name) })
	for _, s := range scaling() {
		if len(main) == 0 || o.json {
			break
		}
		s.name = "scaling, goroutines: " + s.name
		m, err := step(s, main)
		if err != nil {
			return err
		}
		r.Scaling = append(r.Scaling, m)
	}
	var err error
	if r.Allocations, err = allocations(list); err != nil {
		return err
	}
	if o.json {
		return json.NewEncoder(out).Encode(r)
	}
	if section.Enabled {
		if r.WithoutCgo, err = measureWithoutCgo(ctx, o, progress); err != nil {
			return err
		}
	}
	fmt.Fprint(out, r.text())
	for _, a := range r.Allocations {
		if a.PerOp != 0 {
			return fmt.Errorf("%s allocates %.3f times in an operation: expected never", a.Name, a.PerOp)
		}
	}
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case o.share:
		return r.share(out)
	case write && sections != nil:
		return fmt.Errorf("not written, as these are not the figures of critical sections: %w", sections)
	case write:
		return r.write()
	}
	return nil
}
