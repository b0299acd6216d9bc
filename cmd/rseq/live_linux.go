package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/section"
)

// sectionAdvice returns the advice if critical sections do not work.
func sectionAdvice() string {
	advice := "use atomic operations or locks here, as package percpu does"
	if runtime.GOARCH == "arm64" {
		advice += "; a kernel with the fix 411c1cf43039 (Linux 7.0.14, 7.1) may help"
	}
	return advice
}

// checkSections checks that critical sections may run, that the kernel aborts them, and with
// stress that no update is lost.
func checkSections(stress bool, p *progress) []check {
	const name = "critical sections may run"
	err := rseq.CriticalSections(rseq.ByCPU)
	list := []check{{name, ok, "with the signature that the areas are registered with", ""}}
	if err != nil {
		list[0] = check{name, skip, strings.TrimPrefix(err.Error(), "rseq: "), "ask again: the reason may go away"}
		if errors.Is(err, rseq.ErrNotSupported) {
			list[0].Verdict, list[0].Advice = fail, sectionAdvice()
		}
	}
	// Also if they are refused, to show what the kernel does.
	list = append(list, checkAborts(stress, p))
	switch {
	case err != nil:
	case stress:
		list = append(list, checkLost(p))
	default:
		list = append(list, check{nothingLost, skip, "not tried: it takes some seconds with four threads for each CPU", "rseq doctor --stress"})
	}
	return list
}

// checkAborts checks that the kernel aborts the section of a thread that is preempted, sent a
// signal or migrated inside it, each some times. A round in which that could not be made to
// happen does not count.
func checkAborts(stress bool, p *progress) check {
	const name = "sections are aborted when disturbed"
	rounds := 3
	if stress {
		rounds = 20
	}
	c := check{name, ok, "", ""}
	var found, missed []string
	var why error
	ranOn := false
	for _, what := range section.Disturbances {
		p.say("%s: %v", name, what)
		aborted, survived, err := section.LiveCheck(what, rounds, false)
		said := fmt.Sprintf("%v %d of %d", what, aborted, rounds)
		switch {
		case survived > 0:
			said += fmt.Sprintf(", and %d ran on", survived)
			ranOn = true
		case errors.Is(err, syscall.ENODEV):
			said = what.String() + ": there is one CPU"
		case aborted == 0:
			missed, why = append(missed, what.String()), err
			continue
		}
		found = append(found, said)
	}
	if missed != nil {
		found = append(found, fmt.Sprintf("inconclusive: no thread was %s in a section (%v)", strings.Join(missed, " or "), why))
	}
	c.Found = strings.Join(found, ", ")
	switch {
	case ranOn:
		c.Verdict, c.Advice = fail, sectionAdvice()
	case missed != nil:
		c.Verdict, c.Advice = skip, "ask again on a less busy machine; where another library owns the areas, "+
			"it may not register the threads that are made for this check"
	}
	return c
}

const nothingLost = "no update is lost"

// checkLost adds to counters on threads that are preempted, sent signals and migrated all the
// time, and counts the adds that are missing at the end.
func checkLost(p *progress) check {
	const (
		name = nothingLost
		// It lasts at least atLeast, then until enough adds were interrupted, and at most
		// atMost.
		atLeast, atMost, enough = 300 * time.Millisecond, 3 * time.Second, 5
		stride                  = 16 // words
	)
	cells := make([]int64, stride*rseq.PossibleCPUs())
	threads := 4 * runtime.NumCPU()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads + 2))
	var (
		wg, running     sync.WaitGroup
		stop            atomic.Bool
		adds, restarted atomic.Int64
		tids            = make([]int, threads)
		leftAlone       = make(chan struct{}) // closed once no thread is moved any more
		failed, missed  atomic.Pointer[string]
	)
	running.Add(threads)
	for n := range threads {
		wg.Go(func() {
			var done int64
			err := kernel.OnThread(func() error {
				// Real-time threads do not preempt each other, and would keep the main
				// thread, which stops them, from running.
				unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0)
				tids[n] = unix.Gettid()
				running.Done()
				defer func() { <-leftAlone }()
				end := time.Now().Add(atMost) // also if no thread runs that sets stop
				for i := 0; !stop.Load() && (i%1024 != 0 || time.Now().Before(end)); i++ {
					cpu, err := rseq.CPU()
					if err != nil || stride*cpu >= len(cells) {
						text := fmt.Sprintf("CPU %d (%v), with %d possible ones", cpu, err, rseq.PossibleCPUs())
						failed.Store(&text)
						return nil
					}
					switch s := rseq.ByCPU.LoadAddStore(&cells[stride*cpu], 1, cpu); s {
					case rseq.Done:
						done++
					case rseq.Raced:
						restarted.Add(1)
					default:
						if err := rseq.CriticalSections(rseq.ByCPU); err != nil {
							text := fmt.Sprintf("%v: %v", s, err)
							missed.Store(&text)
							return nil
						}
					}
				}
				return nil
			})
			if adds.Add(done); err != nil { // the affinity is not known: f did not run
				text := err.Error()
				missed.Store(&text)
				running.Done()
			}
		})
	}
	running.Wait()
	cpus, err := kernel.AllowedCPUs()
	signals, moves := 0, 0
	for began := time.Now(); time.Since(began) < atMost; {
		if time.Since(began) > atLeast && restarted.Load() >= enough {
			break
		}
		p.say("%s: adding for %v, interrupted %d times", name, time.Since(began).Round(time.Second), restarted.Load())
		for n, tid := range tids {
			if tid == 0 {
				continue
			}
			unix.Tgkill(os.Getpid(), tid, unix.SIGURG)
			signals++
			if (n+signals)%3 == 0 && len(cpus) > 0 {
				kernel.Bind(tid, cpus[moves%len(cpus)])
				moves++
			}
		}
	}
	stop.Store(true)
	close(leftAlone)
	wg.Wait()
	sum := int64(0)
	for i := range rseq.PossibleCPUs() {
		sum += cells[stride*i]
	}
	found := fmt.Sprintf("%d adds by %d threads, %d signals, %d moves: restarted %d times, lost %d",
		sum, threads, signals, moves, restarted.Load(), adds.Load()-sum)
	const bad = "do not use critical sections here, and report it, with the output of `rseq doctor --json`"
	switch {
	case sum != adds.Load():
		return check{name, fail, found, bad}
	case failed.Load() != nil:
		return check{name, fail, *failed.Load(), bad}
	case sum == 0 && missed.Load() != nil:
		return check{name, skip, "inconclusive: " + *missed.Load(), "ask again: the reason may go away"}
	case sum == 0 || restarted.Load() == 0:
		return check{name, skip, fmt.Sprintf("inconclusive: no add was interrupted: %s (%v)", found, err),
			"ask again on a less busy machine"}
	}
	return check{name, ok, found, ""}
}
