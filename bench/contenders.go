//lint:file-ignore SA2001 what is timed are locks.

package main

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	_ "unsafe" // for go:linkname

	"github.com/cockroachdb/crlib/crsync"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/puzpuzpuz/xsync/v4"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/percpu"
)

// What a contender's operation is.
type kind int

const (
	counter    kind = iota // adds one
	histogram              // observes a value
	list                   // takes a handle or a value and gives it back
	readLock               // locks for reading and unlocks
	someWrites             // the same, but for one in a hundred, which locks for writing
	manyWrites             // and one in ten
	writeLock              // locks for writing and unlocks
	reader                 // asks for the number of the CPU
	kinds
)

func (k kind) String() string {
	return [...]string{"counters: add", "histograms: observe", "free lists and pools: take and give back",
		"read locks: lock and unlock", "1 % write locks", "10 % write locks", "write locks, no readers", "the number of the CPU"}[k]
}

// contender is something to time.
type contender struct {
	name  string
	kind  kind
	first bool // the others of its kind are compared with it
	about string
	// make is called with GOMAXPROCS as it will be, for that many goroutines.
	make func(workers int) instance
}

// instance is a contender in use.
type instance struct {
	// run does n operations, a multiple of eight, on the calling goroutine. Those that
	// others do at the same time are on the same data. An operation that did not do
	// what it is timed for is an error.
	run func(n int) error
	// check says, after all runs, whether the operations did what they should: ops is
	// how many there were.
	check func(ops int64) error
}

// contenders returns all that can run here, those of a kind together and its first
// one first.
func contenders(sections bool) []contender {
	list := []contender{
		{"percpu.Counter", counter, true, "`percpu.Counter.Add`", newCounter},
		{"percpu.Counter, compact", counter, false, "the same, made with `percpu.Compact`", newCompact},
		{"percpu.Counters", counter, false, "`percpu.Counters.Add`, number 3 of 16", newCounters},
		{"percpu.FloatCounter", counter, false, "`percpu.FloatCounter.Add`", newFloatCounter},
		{"rseq.Cells", counter, false, "`rseq.Cells.Add`, whose status is looked at each time", newCells},
		{"rseq.LoadAddStore", counter, false, "`rseq.ByCPU.LoadAddStore`, the index given: read again only where it raced", newLoadAddStore},
		{"procPin", counter, false, "a plain add to a slot of the P, between `runtime.procPin` and `procUnpin` (go:linkname)", newPinned},
		{"atomic.Int64", counter, false, "`atomic.Int64.Add`, one for all", newAtomic},
		{"xsync.Counter", counter, false, "`xsync.Counter.Add` of github.com/puzpuzpuz/xsync/v4", newXsync},
		{"crsync.Counter", counter, false, "`crsync.Counter.Add` of github.com/cockroachdb/crlib, without its own Go runtime", newCrsync},
		{"prometheus.Counter", counter, false, "`prometheus.Counter.Inc` of github.com/prometheus/client_golang", newPrometheusCounter},
		{"prometheus.Counter, float", counter, false, "its `Add` of 0.5", newPrometheusFloat},
		{"sched_getcpu, atomic", counter, false, "`sched_getcpu` through cgo, then `atomic.Int64.Add` to a slot of that CPU", newSharded},
		{"mutex, int64", counter, false, "a `sync.Mutex` around an int64", newMutex},
		{"in C", counter, false, "the section of rseq.Cells in C, a function that is called in a loop there", newC},
		{"plain add, called", counter, false, "a Go function with the arguments of `Counter.Add` that is not inlined and adds to a plain word of its goroutine: what the processor takes to add to one word again and again", newPlain},
		{"empty call", counter, false, "an empty Go function with the arguments of `Counter.Add` that is not inlined: the yardstick", newEmpty},

		{"percpu.Histogram", histogram, true, "`percpu.Histogram.Observe` with 11 bounds, those of `prometheus.DefBuckets`, and values in all buckets in turn", newHistogram},
		{"prometheus.Histogram", histogram, false, "`prometheus.Histogram.Observe` with the same", newPrometheusHistogram},

		{"percpu.FreeList", list, true, "`percpu.FreeList.Pop` and `Push`", newFreeList},
		{"mutex, slice", list, false, "a `sync.Mutex` around a slice", newStack},
		{"channel", list, false, "a buffered channel, by `select` with a `default`", newChannel},
		{"percpu.Pool", list, false, "`percpu.Pool.Get` and `Put`, of values of 128 bytes", newPool},
		{"sync.Pool", list, false, "`sync.Pool.Get` and `Put`, of pointers to the same", newSyncPool},

		{"percpu.RWMutex", readLock, true, "`percpu.RWMutex.RLock` and `RUnlock`", newReadLocks},
		{"sync.RWMutex", readLock, false, "the same of `sync.RWMutex`", newSyncReadLocks},
		{"xsync.RBMutex", readLock, false, "`xsync.RBMutex.RLock` and `RUnlock` of github.com/puzpuzpuz/xsync/v4", newRBMutex},
		{"percpu.RWMutex, 1 %", someWrites, true, "each hundredth time `Lock` and `Unlock`, every goroutine by itself", func(int) instance { return locksOf(new(percpu.RWMutex), 100) }},
		{"sync.RWMutex, 1 %", someWrites, false, "the same of `sync.RWMutex`", func(int) instance { return locksOf(new(sync.RWMutex), 100) }},
		{"percpu.RWMutex, 10 %", manyWrites, true, "each tenth time", func(int) instance { return locksOf(new(percpu.RWMutex), 10) }},
		{"sync.RWMutex, 10 %", manyWrites, false, "the same of `sync.RWMutex`", func(int) instance { return locksOf(new(sync.RWMutex), 10) }},
		{"percpu.RWMutex, Lock", writeLock, true, "each time", func(int) instance { return locksOf(new(percpu.RWMutex), 1) }},
		{"sync.RWMutex, Lock", writeLock, false, "the same of `sync.RWMutex`", func(int) instance { return locksOf(new(sync.RWMutex), 1) }},

		{"rseq.CPU", reader, true, "`rseq.CPU`, its error looked at", newCPU},
		{"rseq.Thread.CPU", reader, false, "the same by what `rseq.LockThread` returned", newThreadCPU},
		{"sched_getcpu", reader, false, "the C library's, through cgo", newSchedGetcpu},
		{"getcpu(2)", reader, false, "the system call", newGetcpu},
	}
	return slices.DeleteFunc(list, func(c contender) bool {
		switch c.name {
		case "rseq.Cells", "rseq.LoadAddStore", "in C":
			return !sections
		case "sched_getcpu, atomic", "sched_getcpu":
			return schedGetcpu == nil
		}
		return false
	})
}

// What needs cgo: where there is none they are nil.
var (
	schedGetcpu func() int
	newC        func(workers int) instance
)

// mustBe says whether a counter counted right.
func mustBe(got, ops int64) error {
	if got != ops {
		return fmt.Errorf("it counted %d: expected %d", got, ops)
	}
	return nil
}

func newCounter(int) instance { return counterOf() }
func newCompact(int) instance { return counterOf(percpu.Compact) }

// counterOf must not be inlined: the compiler would then not inline Add in its loop.
//
//go:noinline
func counterOf(options ...percpu.Option) instance {
	c := percpu.NewCounter(options...)
	return instance{func(n int) error {
		for range n / 8 {
			c.Add(1)
			c.Add(1)
			c.Add(1)
			c.Add(1)
			c.Add(1)
			c.Add(1)
			c.Add(1)
			c.Add(1)
		}
		return nil
	}, func(ops int64) error { return mustBe(c.Value(), ops) }}
}

func newCounters(int) instance {
	c := percpu.NewCounters(16)
	return instance{func(n int) error {
		for range n / 8 {
			c.Add(3, 1)
			c.Add(3, 1)
			c.Add(3, 1)
			c.Add(3, 1)
			c.Add(3, 1)
			c.Add(3, 1)
			c.Add(3, 1)
			c.Add(3, 1)
		}
		return nil
	}, func(ops int64) error {
		var others int64
		for i, n := range c.All() {
			if i != 3 {
				others += n
			}
		}
		return errors.Join(mustBe(c.At(3).Value(), ops), mustBe(others, 0))
	}}
}

func newFloatCounter(int) instance {
	c := new(percpu.FloatCounter)
	return instance{func(n int) error {
		for range n / 8 {
			c.Add(1)
			c.Add(1)
			c.Add(1)
			c.Add(1)
			c.Add(1)
			c.Add(1)
			c.Add(1)
			c.Add(1)
		}
		return nil
	}, func(ops int64) error { return mustBe(int64(c.Value()), ops) }}
}

func newPrometheusCounter(int) instance {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "n", Help: "n"})
	return instance{func(n int) error {
		for range n {
			c.Inc()
		}
		return nil
	}, func(ops int64) error { return mustBe(int64(written(c).GetCounter().GetValue()), ops) }}
}

func newPrometheusFloat(int) instance {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "n", Help: "n"})
	return instance{func(n int) error {
		for range n {
			c.Add(0.5)
		}
		return nil
	}, func(ops int64) error { return mustBe(int64(2*written(c).GetCounter().GetValue()), ops) }}
}

// durations are values for each bucket of prometheus.DefBuckets.
var durations = [...]float64{0.001, 0.007, 0.02, 0.03, 0.07, 0.2, 0.3, 0.7, 2, 3, 7, 20, 0.004, 0.04, 0.4, 4}

func newHistogram(int) instance {
	h := percpu.NewHistogram(prometheus.DefBuckets)
	return instance{func(n int) error {
		for i := range n {
			h.Observe(durations[i%len(durations)])
		}
		return nil
	}, func(ops int64) error { return mustBe(int64(h.Snapshot().Count), ops) }}
}

func newPrometheusHistogram(int) instance {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", Help: "h", Buckets: prometheus.DefBuckets})
	return instance{func(n int) error {
		for i := range n {
			h.Observe(durations[i%len(durations)])
		}
		return nil
	}, func(ops int64) error { return mustBe(int64(written(h).GetHistogram().GetSampleCount()), ops) }}
}

// written is what a metric exports.
func written(m prometheus.Metric) *dto.Metric {
	out := new(dto.Metric)
	if err := m.Write(out); err != nil {
		panic(err)
	}
	return out
}

func newCells(int) instance {
	words := make([]int64, 16*rseq.PossibleCPUs())
	c := &rseq.Cells{Base: &words[0], N: rseq.PossibleCPUs(), Stride: 128}
	return instance{func(n int) error {
		for range n / 8 {
			if c.Add(1) != rseq.Done {
				if err := addLate(c); err != nil {
					return err
				}
			}
			if c.Add(1) != rseq.Done {
				if err := addLate(c); err != nil {
					return err
				}
			}
			if c.Add(1) != rseq.Done {
				if err := addLate(c); err != nil {
					return err
				}
			}
			if c.Add(1) != rseq.Done {
				if err := addLate(c); err != nil {
					return err
				}
			}
			if c.Add(1) != rseq.Done {
				if err := addLate(c); err != nil {
					return err
				}
			}
			if c.Add(1) != rseq.Done {
				if err := addLate(c); err != nil {
					return err
				}
			}
			if c.Add(1) != rseq.Done {
				if err := addLate(c); err != nil {
					return err
				}
			}
			if c.Add(1) != rseq.Done {
				if err := addLate(c); err != nil {
					return err
				}
			}
		}
		return nil
	}, func(ops int64) error {
		var sum int64
		for _, w := range words {
			sum += w
		}
		return mustBe(sum, ops)
	}}
}

func newLoadAddStore(int) instance {
	words := make([]int64, 16*rseq.PossibleCPUs())
	return instance{func(n int) error {
		i, err := rseq.CPU()
		if err != nil {
			return err
		}
		for range n {
			for rseq.ByCPU.LoadAddStore(&words[16*i], 1, i) != rseq.Done {
				if err := rseq.CriticalSections(rseq.ByCPU); err != nil {
					return err
				}
				if i, err = rseq.CPU(); err != nil {
					return err
				}
			}
		}
		return nil
	}, func(ops int64) error {
		var sum int64
		for _, w := range words {
			sum += w
		}
		return mustBe(sum, ops)
	}}
}

// addLate adds one after a first try failed: the thread may not have an area yet.
func addLate(c *rseq.Cells) error {
	var s rseq.Status
	for range 100 {
		if err := rseq.CriticalSections(rseq.ByCPU); err != nil {
			return err
		}
		if s = c.Add(1); s == rseq.Done {
			return nil
		}
	}
	return fmt.Errorf("rseq.Cells.Add: %v", s)
}

//go:linkname procPin runtime.procPin
func procPin() int

//go:linkname procUnpin runtime.procUnpin
func procUnpin()

// pinned has a slot for each P.
type pinned []struct {
	n int64
	_ [120]byte
}

func newPinned(int) instance {
	p := make(pinned, runtime.GOMAXPROCS(0))
	return instance{p.run, func(ops int64) error {
		var sum int64
		for i := range p {
			sum += p[i].n
		}
		return mustBe(sum, ops)
	}}
}

// run has no race: a P runs one goroutine, which is not preempted while it is pinned.
// The race detector does not know that.
//
//go:norace
func (p pinned) run(n int) error {
	for range n / 8 {
		p[procPin()].n++
		procUnpin()
		p[procPin()].n++
		procUnpin()
		p[procPin()].n++
		procUnpin()
		p[procPin()].n++
		procUnpin()
		p[procPin()].n++
		procUnpin()
		p[procPin()].n++
		procUnpin()
		p[procPin()].n++
		procUnpin()
		p[procPin()].n++
		procUnpin()
	}
	return nil
}

func newAtomic(int) instance {
	var c atomic.Int64
	return instance{func(n int) error {
		for range n / 8 {
			c.Add(1)
			c.Add(1)
			c.Add(1)
			c.Add(1)
			c.Add(1)
			c.Add(1)
			c.Add(1)
			c.Add(1)
		}
		return nil
	}, func(ops int64) error { return mustBe(c.Load(), ops) }}
}

func newSharded(int) instance {
	slots := make([]struct {
		n atomic.Int64
		_ [120]byte
	}, rseq.PossibleCPUs())
	return instance{func(n int) error {
		for range n {
			slots[schedGetcpu()].n.Add(1)
		}
		return nil
	}, func(ops int64) error {
		var sum int64
		for i := range slots {
			sum += slots[i].n.Load()
		}
		return mustBe(sum, ops)
	}}
}

func newXsync(int) instance {
	c := xsync.NewCounter()
	return instance{func(n int) error {
		for range n {
			c.Add(1)
		}
		return nil
	}, func(ops int64) error { return mustBe(c.Value(), ops) }}
}

func newCrsync(int) instance {
	c := crsync.MakeCounter()
	return instance{func(n int) error {
		for range n {
			c.Add(1)
		}
		return nil
	}, func(ops int64) error { return mustBe(c.Get(), ops) }}
}

func newMutex(int) instance {
	var c struct {
		mu sync.Mutex
		n  int64
	}
	return instance{func(n int) error {
		for range n {
			c.mu.Lock()
			c.n++
			c.mu.Unlock()
		}
		return nil
	}, func(ops int64) error { return mustBe(c.n, ops) }}
}

//go:noinline
func empty(*percpu.Counter, int64) {}

//go:noinline
func plainAdd(word *int64, delta int64) { *word += delta }

func newPlain(int) instance {
	var sum atomic.Int64
	return instance{func(n int) error {
		word := new([32]int64) // in no other's cache line
		for range n / 8 {
			plainAdd(&word[16], 1)
			plainAdd(&word[16], 1)
			plainAdd(&word[16], 1)
			plainAdd(&word[16], 1)
			plainAdd(&word[16], 1)
			plainAdd(&word[16], 1)
			plainAdd(&word[16], 1)
			plainAdd(&word[16], 1)
		}
		sum.Add(word[16])
		return nil
	}, func(ops int64) error { return mustBe(sum.Load(), ops) }}
}

func newEmpty(int) instance {
	return instance{func(n int) error {
		for range n / 8 {
			empty(nil, 1)
			empty(nil, 1)
			empty(nil, 1)
			empty(nil, 1)
			empty(nil, 1)
			empty(nil, 1)
			empty(nil, 1)
			empty(nil, 1)
		}
		return nil
	}, func(int64) error { return nil }}
}

// spares is how many more handles or values there are than goroutines hold at most.
const spares = 1024

var (
	errEmpty = errors.New("a list was empty")
	errFull  = errors.New("a list was full")
)

// allThere says whether handles are the numbers below n, each once.
func allThere(handles []uint64, n int) error {
	slices.Sort(handles)
	if len(handles) != n || n > 0 && handles[n-1] != uint64(n-1) || len(slices.Compact(handles)) != n {
		return fmt.Errorf("of %d handles %d came back, or not each once", n, len(handles))
	}
	return nil
}

func newFreeList(workers int) instance {
	// Each list has room for all handles, and a CPU that has none makes one: it cannot
	// be that there is no room.
	room := 16*workers + spares
	l := percpu.NewFreeList(room)
	var made atomic.Int64
	fresh := func() (uint64, error) {
		h := made.Add(1) - 1
		if h >= int64(room) {
			return 0, errEmpty
		}
		return uint64(h), nil
	}
	return instance{func(n int) error {
		for range n {
			h, ok := l.Pop()
			if !ok {
				var err error
				if h, err = fresh(); err != nil {
					return err
				}
			}
			if !l.Push(h) {
				return errFull
			}
		}
		return nil
	}, func(int64) error {
		handles, err := l.DrainAll()
		if err != nil {
			return err
		}
		return allThere(handles, int(made.Load()))
	}}
}

func newStack(workers int) instance {
	var mu sync.Mutex
	room := workers + spares
	stack := make([]uint64, room)
	for i := range stack {
		stack[i] = uint64(i)
	}
	return instance{func(n int) error {
		for range n {
			mu.Lock()
			if len(stack) == 0 {
				mu.Unlock()
				return errEmpty
			}
			h := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			mu.Unlock()

			mu.Lock()
			if len(stack) == room {
				mu.Unlock()
				return errFull
			}
			stack = append(stack, h)
			mu.Unlock()
		}
		return nil
	}, func(int64) error { return allThere(slices.Clone(stack), room) }}
}

func newChannel(workers int) instance {
	room := workers + spares
	c := make(chan uint64, room)
	for i := range room {
		c <- uint64(i)
	}
	return instance{func(n int) error {
		for range n {
			var h uint64
			select {
			case h = <-c:
			default:
				return errEmpty
			}
			select {
			case c <- h:
			default:
				return errFull
			}
		}
		return nil
	}, func(int64) error {
		var handles []uint64
		for range len(c) {
			handles = append(handles, <-c)
		}
		return allThere(handles, room)
	}}
}

// item is what the pools have.
type item [128]byte

var errNil = errors.New("a pool gave nil")

func newPool(workers int) instance {
	room := 16*workers + spares
	var made atomic.Int64
	p := percpu.NewPool(room, func(*item) { made.Add(1) })
	return instance{func(n int) error {
		for range n {
			v := p.Get()
			if v == nil {
				return errNil
			}
			p.Put(v)
		}
		return nil
	}, func(int64) error {
		if n := made.Load(); n > int64(room) {
			return fmt.Errorf("the pool of %d values allocated %d more", room, n-int64(room))
		}
		return nil
	}}
}

func newSyncPool(workers int) instance {
	var made atomic.Int64
	p := &sync.Pool{New: func() any {
		made.Add(1)
		return new(item)
	}}
	return instance{func(n int) error {
		for range n {
			v := p.Get().(*item)
			if v == nil {
				return errNil
			}
			p.Put(v)
		}
		return nil
	}, func(ops int64) error {
		// The collector may empty it, and with the race detector it forgets some.
		if n := made.Load(); n > ops/100+int64(16*workers+spares) && !racing() {
			return fmt.Errorf("it allocated %d values in %d operations", n, ops)
		}
		return nil
	}}
}

func newReadLocks(int) instance {
	l := new(percpu.RWMutex)
	return instance{func(n int) error {
		for range n / 8 {
			l.RLock()
			l.RUnlock()
			l.RLock()
			l.RUnlock()
			l.RLock()
			l.RUnlock()
			l.RLock()
			l.RUnlock()
			l.RLock()
			l.RUnlock()
			l.RLock()
			l.RUnlock()
			l.RLock()
			l.RUnlock()
			l.RLock()
			l.RUnlock()
		}
		return nil
	}, func(int64) error { return mustBeFree(l) }}
}

func newSyncReadLocks(int) instance {
	l := new(sync.RWMutex)
	return instance{func(n int) error {
		for range n / 8 {
			l.RLock()
			l.RUnlock()
			l.RLock()
			l.RUnlock()
			l.RLock()
			l.RUnlock()
			l.RLock()
			l.RUnlock()
			l.RLock()
			l.RUnlock()
			l.RLock()
			l.RUnlock()
			l.RLock()
			l.RUnlock()
			l.RLock()
			l.RUnlock()
		}
		return nil
	}, func(int64) error { return mustBeFree(l) }}
}

func newRBMutex(int) instance {
	l := xsync.NewRBMutex()
	return instance{func(n int) error {
		for range n {
			l.RUnlock(l.RLock())
		}
		return nil
	}, func(int64) error { return mustBeFree(l) }}
}

// mustBeFree says whether nobody has a lock.
func mustBeFree(l interface{ TryLock() bool }) error {
	if !l.TryLock() {
		return errors.New("it is locked: expected it to be free")
	}
	return nil
}

// rwLock is what package percpu's and package sync's have. They are called by it: that
// costs both the same.
type rwLock interface {
	RLock()
	RUnlock()
	Lock()
	Unlock()
}

var errTorn = errors.New("a reader saw what a writer had half done")

// locksOf is an instance that locks for writing every so many times.
func locksOf(l rwLock, every int) instance {
	var data [2]int64
	var writes atomic.Int64
	return instance{func(n int) error {
		for i := range n {
			if i%every == 0 {
				l.Lock()
				data[0]++
				data[1]++
				l.Unlock()
				continue
			}
			l.RLock()
			torn := data[0] != data[1]
			l.RUnlock()
			if torn {
				return errTorn
			}
		}
		writes.Add(int64((n + every - 1) / every))
		return nil
	}, func(int64) error { return errors.Join(mustBe(data[0], writes.Load()), mustBe(data[1], writes.Load())) }}
}

// reads is an instance that reads the number of the CPU once for each operation.
func reads(run func(n int) (sum int, err error)) instance {
	return instance{func(n int) error {
		sum, err := run(n)
		if most := n * (rseq.PossibleCPUs() - 1); err == nil && (sum < 0 || sum > most) {
			err = fmt.Errorf("the CPUs' numbers add up to %d: expected 0 to %d", sum, most)
		}
		return err
	}, func(int64) error { return nil }}
}

func newCPU(int) instance {
	return reads(func(n int) (sum int, err error) {
		for range n {
			cpu, err := rseq.CPU()
			if err != nil {
				return 0, err
			}
			sum += cpu
		}
		return sum, nil
	})
}

func newThreadCPU(int) instance {
	return reads(func(n int) (sum int, err error) {
		t, err := rseq.LockThread()
		if err != nil {
			return 0, err
		}
		defer t.Unlock()
		for range n {
			cpu, err := t.CPU()
			if err != nil {
				return 0, err
			}
			sum += cpu
		}
		return sum, nil
	})
}

func newSchedGetcpu(int) instance {
	return reads(func(n int) (sum int, err error) {
		for range n {
			sum += schedGetcpu()
		}
		return sum, nil
	})
}

func newGetcpu(int) instance {
	return reads(func(n int) (sum int, err error) {
		for range n {
			cpu, _, err := kernel.Getcpu()
			if err != nil {
				return 0, err
			}
			sum += cpu
		}
		return sum, nil
	})
}

// racing reports whether this is built with the race detector.
func racing() bool {
	build, _ := debug.ReadBuildInfo()
	return build != nil && slices.Contains(build.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
