package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// scenario is who does the operations.
type scenario struct {
	name    string
	workers int
	threads bool          // each worker has an OS thread, and the Go runtime runs all
	turn    time.Duration // how long a contender runs in a round, about
	share   int           // of so many rounds one
}

// turn is how long a contender runs in a round.
const turn = 4 * time.Millisecond

// scenarios are those that all contenders run in.
func scenarios() []scenario {
	n := 8 * runtime.NumCPU()
	return []scenario{
		{"1 goroutine", 1, false, turn, 1},
		{"2 goroutines", 2, false, turn, 1},
		{"64 goroutines", 64, false, turn, 1},
		// Longer, so that the kernel preempts threads in the middle of their work.
		{fmt.Sprintf("8 threads per CPU (%d)", n), n, true, 4 * turn, 4},
	}
}

// steps are how many goroutines the scaling series has: powers of two up to eight for each
// CPU, that number itself and the number of CPUs.
func steps(cpus int) (list []int) {
	for n := 1; n < 8*cpus; n *= 2 {
		list = append(list, n)
	}
	list = append(list, cpus, 8*cpus)
	slices.Sort(list)
	return slices.Compact(list)
}

// scaling are the scenarios of the scaling series, whose contenders are scalers.
func scaling() (list []scenario) {
	for _, n := range steps(runtime.NumCPU()) {
		list = append(list, scenario{fmt.Sprint(n), n, false, turn, 2})
	}
	return list
}

var scalers = []string{"percpu.Counter", "procPin", "atomic.Int64", "xsync.Counter",
	"percpu.Pool", "sync.Pool", "percpu.RWMutex", "sync.RWMutex"}

// team is goroutines that wait for work.
type team struct {
	jobs []chan job
	wg   sync.WaitGroup
	errs []error
}

type job struct {
	run func(int) error
	n   int
}

func newTeam(s scenario) *team {
	t := &team{errs: make([]error, s.workers)}
	for i := range s.workers {
		jobs := make(chan job, 1)
		t.jobs = append(t.jobs, jobs)
		go func() {
			if s.threads {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
			}
			for j := range jobs {
				t.errs[i] = j.run(j.n)
				t.wg.Done()
			}
		}()
	}
	return t
}

// do has each worker do n operations and returns how long that took, from when the
// first is told to until the last is done.
func (t *team) do(run func(int) error, n int) (time.Duration, error) {
	t.wg.Add(len(t.jobs))
	begin := time.Now()
	for _, jobs := range t.jobs {
		jobs <- job{run, n}
	}
	t.wg.Wait()
	return time.Since(begin), errors.Join(t.errs...)
}

func (t *team) end() {
	for _, jobs := range t.jobs {
		close(jobs)
	}
}

// runner is a contender in a scenario.
type runner struct {
	contender
	instance
	n    int   // operations of each worker in a round
	ops  int64 // so far, of all
	took []float64
}

// do does a round of n operations for each worker.
func (r *runner) do(t *team, n int) (time.Duration, error) {
	r.ops += int64(n) * int64(len(t.jobs))
	d, err := t.do(r.run, n)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", r.name, err)
	}
	return d, nil
}

// calibrate finds how many operations take a turn, and warms up. Of three tries the
// fastest counts: a thread that had to wait for a processor says nothing.
func (r *runner) calibrate(t *team, turn time.Duration) error {
	for n := 8; ; n *= 4 {
		least := time.Duration(math.MaxInt64)
		for range 3 {
			d, err := r.do(t, n)
			if err != nil {
				return err
			}
			least = min(least, d)
		}
		if least > turn/4 || n > 1<<28 {
			r.n = max(int(float64(n)*float64(turn)/float64(least))&^7, 8)
			return nil
		}
	}
}

// quartiles are the lower one, the median and the upper one.
type quartiles [3]float64

// of returns those of some values.
func quartilesOf(values []float64) (q quartiles) {
	if len(values) == 0 {
		return q
	}
	values = slices.Sorted(slices.Values(values))
	for i := range q {
		at := float64(len(values)-1) * float64(i+1) / 4
		low := int(at)
		high := min(low+1, len(values)-1)
		q[i] = values[low] + (values[high]-values[low])*(at-float64(low))
	}
	return q
}

// result is what came out for a contender in a scenario.
type result struct {
	Name  string
	Kind  kind
	Ns    quartiles // for one operation
	Ratio float64   // to the first of its kind: the median of the rounds' ratios; 0 if that did not run
}

// measurement is what came out for a scenario.
type measurement struct {
	Name    string
	Workers int
	Threads bool // each worker had an OS thread
	Rounds  int
	Results []result
}

// measure runs contenders in a scenario: all in turn in each round, so that a slow
// moment of the machine meets all, and each time another one first.
func measure(ctx context.Context, s scenario, list []contender, rounds int) (m measurement, err error) {
	rounds = max(rounds/s.share, 1)
	m = measurement{Name: s.name, Workers: s.workers, Threads: s.threads, Rounds: rounds}
	if s.threads {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(s.workers, runtime.GOMAXPROCS(0))))
	}
	runners := make([]*runner, len(list))
	for i, c := range list {
		runners[i] = &runner{contender: c, instance: c.make(s.workers)}
	}
	t := newTeam(s)
	defer t.end()
	for _, r := range runners {
		if err := r.calibrate(t, s.turn); err != nil {
			return m, err
		}
		if ctx.Err() != nil {
			return m, errInterrupted
		}
	}
	runtime.GC() // so that none is due soon
	for round := range rounds {
		for i := range runners {
			r := runners[(i+round)%len(runners)]
			d, err := r.do(t, r.n)
			if err != nil {
				return m, err
			}
			r.took = append(r.took, float64(d.Nanoseconds())/float64(r.n*s.workers))
			if ctx.Err() != nil {
				return m, errInterrupted
			}
		}
	}
	first := map[kind]*runner{}
	for _, r := range runners {
		if err := r.check(r.ops); err != nil {
			return m, fmt.Errorf("%s, %s: after %d operations: %w", r.name, s.name, r.ops, err)
		}
		if r.first {
			first[r.kind] = r
		}
	}
	for _, r := range runners {
		m.Results = append(m.Results, result{r.name, r.kind, quartilesOf(r.took), ratio(r, first[r.kind])})
	}
	return m, nil
}

// ratio is the median of the rounds' ratios of a contender's times to another's.
func ratio(r, to *runner) float64 {
	if to == nil {
		return 0
	}
	ratios := make([]float64, len(r.took))
	for i := range ratios {
		ratios[i] = r.took[i] / to.took[i]
	}
	return quartilesOf(ratios)[1]
}

// allocation is how often a contender allocates.
type allocation struct {
	Name  string
	PerOp float64
}

// allocations counts those of package percpu in steady state, on one goroutine.
func allocations(list []contender) (all []allocation, err error) {
	const n = 1000
	for _, c := range list {
		if !isPercpu(c.name) {
			continue
		}
		r := c.make(1)
		var failed error
		run := func() { failed = errors.Join(failed, r.run(n)) }
		run()
		// Rounded down: what the runtime itself allocates now and then does not count.
		per := testing.AllocsPerRun(10, run)
		if failed != nil {
			return nil, fmt.Errorf("%s: %w", c.name, failed)
		}
		all = append(all, allocation{c.name, per / n})
	}
	return all, nil
}
