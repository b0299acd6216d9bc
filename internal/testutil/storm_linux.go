package testutil

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
)

// NeedSections skips the test if CriticalSections returns ErrNotSupported. Any other error is a
// failure.
func NeedSections(t testing.TB, x rseq.Index) {
	t.Helper()
	switch err := rseq.CriticalSections(x); {
	case errors.Is(err, rseq.ErrNotSupported):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
}

// Weather is what a thread of a storm does between reading its index and the operation that
// relies on that: nothing, or Do at every n-th time.
type Weather struct {
	Name  string
	Every int
	Do    func()
	Heavy bool // a round takes about 50 µs
	// Disturbed: another thread sends signals to all threads of the storm and moves them to
	// other CPUs, at any time.
	Disturbed bool
}

func Yield() { unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

func forecasts() []Weather {
	list := []Weather{{Name: "calm"}, {Name: "disturbed", Disturbed: true}}
	for _, percent := range []int{25, 50, 100} {
		every := 100 / percent
		list = append(list,
			Weather{fmt.Sprintf("yield %d%%", percent), every, Yield, false, false},
			Weather{fmt.Sprintf("signal %d%%", percent), every, func() {
				unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGURG)
			}, false, false},
			Weather{fmt.Sprintf("sleep %d%%", percent), every, func() {
				unix.Nanosleep(&unix.Timespec{Nsec: 1000}, nil)
			}, true, false})
	}
	return list
}

// Storm is one thread of a storm, with its kind of index and its weather.
type Storm struct {
	*testing.T
	rseq.Index
	Weather
	Rounds int
	n      int
	raced  *atomic.Int64
}

// Pass does what the weather has for this time.
func (s *Storm) Pass() {
	if s.Every > 0 {
		if s.n++; s.n%s.Every == 0 {
			s.Do()
		}
	}
}

// Here reads the index and then calls Pass.
func (s *Storm) Here() int {
	i, err := s.Current()
	if err != nil {
		s.Error(err)
		runtime.Goexit()
	}
	s.Pass()
	return i
}

// Took reports whether the operation took effect. A status that cannot occur in a storm is an
// error.
func (s *Storm) Took(status rseq.Status) bool {
	switch status {
	case rseq.Done:
		return true
	case rseq.Raced:
		s.raced.Add(1)
	case rseq.CompareFailed:
		Yield() // another thread may hold the lock
	case rseq.NotRegistered: // the first operation of a thread whose area is our own
		if err := rseq.CriticalSections(s.Index); err == nil {
			break
		}
		fallthrough
	default:
		s.Error(status)
		runtime.Goexit()
	}
	return false
}

// Storms runs a storm for each kind of index in every weather. prepare makes the data, and
// returns what each thread does and the check at the end. If the delay loops are compiled
// in, there is a storm for each point of the sections, which is slowed down.
func Storms(t *testing.T, prepare func(t *testing.T, x rseq.Index, threads, rounds int) (work func(*Storm), check func())) {
	delays := []int{0}
	inject := Inject()
	if inject != nil {
		delays = []int{1, 2, 3, 4, 5, 6}
	}
	for _, x := range []rseq.Index{rseq.ByCPU, rseq.ByConcurrencyID} {
		for _, w := range forecasts() {
			for _, point := range delays {
				name := fmt.Sprintf("%v/%s", x, w.Name)
				if point > 0 {
					name += fmt.Sprintf("/delay at %d", point)
				}
				t.Run(name, func(t *testing.T) {
					NeedSections(t, x)
					if inject != nil {
						inject[point] = 20000 // loops, some microseconds
						defer func() { inject[point] = 0 }()
					}
					rounds := 1000
					if w.Heavy {
						rounds = 50
					}
					if inject != nil || testing.Short() {
						rounds /= 10
					} else if Long() {
						rounds *= 4
					}
					rounds = Repeat(rounds)
					threads := 6 * runtime.NumCPU()
					work, check := prepare(t, x, threads, rounds)
					defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads + 2))
					var wg sync.WaitGroup
					var raced atomic.Int64
					var tids sync.Map
					for range threads {
						wg.Go(func() {
							runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
							tids.Store(unix.Gettid(), true)
							defer tids.Delete(unix.Gettid())
							work(&Storm{T: t, Index: x, Weather: w, Rounds: rounds, raced: &raced})
						})
					}
					if w.Disturbed || inject != nil {
						defer disturb(t, &tids)()
					}
					wg.Wait()
					check()
					t.Logf("%d threads, %d rounds each, %d times raced", threads, rounds, raced.Load())
				})
			}
		}
	}
}

// disturb sends signals to threads and moves them to other CPUs until the function that it
// returns is called.
func disturb(t *testing.T, tids *sync.Map) (stop func()) {
	cpus := AllowedCPUs(t)
	var stopped atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; !stopped.Load(); n++ {
			tids.Range(func(tid, _ any) bool {
				if n%2 == 0 {
					kernel.Bind(tid.(int), cpus[rand.IntN(len(cpus))])
				} else {
					unix.Tgkill(unix.Getpid(), tid.(int), unix.SIGURG)
				}
				return true
			})
			Yield()
		}
	})
	return func() { stopped.Store(true); wg.Wait() }
}
