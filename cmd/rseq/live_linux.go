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

const sectionAdvice = "use atomic operations or locks here; on arm64 a kernel with the fix 411c1cf43039 (Linux 7.0.14, 7.1) may help"

// checkSections disturbs threads inside critical sections and looks at what the
// kernel does.
func checkSections() []check {
	err := rseq.CriticalSections(rseq.ByCPU)
	problem := ""
	if err != nil {
		problem = strings.TrimPrefix(err.Error(), "rseq: ")
	}
	list := []check{newCheck("critical sections may run", "with the signature that the areas are registered with", problem, sectionAdvice)}
	// What the kernel does is shown where they are refused, too.
	list = append(list, checkAborts())
	if err == nil {
		list = append(list, checkLost())
	}
	return list
}

// checkAborts looks whether the kernel aborts the section of a thread that is
// preempted, sent a signal or migrated inside it, each so many times.
func checkAborts() check {
	const name, rounds = "sections are aborted when disturbed", 20
	var found, problems []string
	for how, what := range []string{"preempted", "signalled", "migrated"} {
		aborted, survived, err := section.LiveCheck(section.Disturbance(how), rounds, false)
		said := fmt.Sprintf("%s %d of %d", what, aborted, rounds)
		switch {
		case errors.Is(err, syscall.ENODEV):
			said = what + ": not checked, there is one CPU"
		case survived > 0:
			problems = append(problems, fmt.Sprintf("%s, and %d ran on", said, survived))
		case aborted < rounds:
			problems = append(problems, fmt.Sprintf("%s, the others told nothing (%v)", said, err))
		}
		found = append(found, said)
	}
	return newCheck(name, strings.Join(found, ", "), strings.Join(problems, "; "), sectionAdvice)
}

// checkLost adds from threads that are preempted, sent signals and migrated all
// the time, and counts what is missing in the end.
func checkLost() check {
	const name, duration = "no update is lost", 300 * time.Millisecond
	const stride = 16 // words
	cells := make([]int64, stride*rseq.PossibleCPUs())
	threads := 4 * runtime.NumCPU()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads + 2))
	var (
		wg, running   sync.WaitGroup
		stop          atomic.Bool
		adds, restart atomic.Int64
		tids          = make([]int, threads)
		failed        atomic.Pointer[string]
	)
	running.Add(threads)
	for n := range threads {
		wg.Go(func() {
			runtime.LockOSThread() // and never unlocked: its affinity dies with it
			tids[n] = unix.Gettid()
			running.Done()
			var done, raced int64
			for !stop.Load() {
				cpu, err := rseq.CPU()
				if err != nil || stride*cpu >= len(cells) {
					text := fmt.Sprintf("CPU %d (%v), with %d possible ones", cpu, err, rseq.PossibleCPUs())
					failed.Store(&text)
					stop.Store(true)
					break
				}
				switch s := rseq.ByCPU.LoadAddStore(&cells[stride*cpu], 1, cpu); s {
				case rseq.Done:
					done++
				case rseq.Raced:
					raced++
				default:
					if err := rseq.CriticalSections(rseq.ByCPU); err != nil {
						text := fmt.Sprintf("%v: %v", s, err)
						failed.Store(&text)
						stop.Store(true)
					}
				}
			}
			adds.Add(done)
			restart.Add(raced)
		})
	}
	running.Wait()
	cpus, err := kernel.AllowedCPUs()
	signals, moves := 0, 0
	for end := time.Now().Add(duration); err == nil && time.Now().Before(end); {
		for n, tid := range tids {
			unix.Tgkill(os.Getpid(), tid, unix.SIGURG)
			signals++
			if (n+signals)%3 == 0 {
				var one unix.CPUSet
				one.Set(cpus[moves%len(cpus)])
				unix.SchedSetaffinity(tid, &one)
				moves++
			}
		}
	}
	stop.Store(true)
	wg.Wait()
	sum := int64(0)
	for i := range rseq.PossibleCPUs() {
		sum += cells[stride*i]
	}
	problem := ""
	if err != nil {
		problem = "sched_getaffinity: " + err.Error()
	} else if lost := adds.Load() - sum; lost != 0 {
		problem = fmt.Sprintf("%d of %d adds are missing", lost, adds.Load())
	} else if text := failed.Load(); text != nil {
		problem = *text
	} else if sum == 0 {
		problem = "no add came to its end"
	}
	return newCheck(name, fmt.Sprintf("%d adds by %d threads, %d signals, %d moves: restarted %d times, lost 0",
		sum, threads, signals, moves, restart.Load()), problem, "do not use critical sections here, and report it, with the output of `rseq doctor --json`")
}
