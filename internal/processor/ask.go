package processor

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rseq-go/rseq/internal/kernel"
)

// How it is asked, and when again.
//
// An instruction is used if it agreed with getcpu(2) on at least two CPUs of the affinity
// mask, or on the one that there is, and disagreed nowhere. (getcpu(2) is called before
// and after it: if the thread moved meanwhile, that says nothing.) That its numbers were
// all zero is no agreement, unless CPU 0 is all there can be: a register that nobody sets
// is zero too. It must also take less than half of the time of the system call, as where
// a hypervisor does not trap it.
//
// A goroutine of its own asks, when a slow path first wants the number: on a thread that
// nothing else uses meanwhile, which is bound to some CPUs in turn. Its affinity is
// afterwards what it was, and no other's changes. Where a thread cannot be bound, it is asked where the goroutine happens to run,
// and what was seen adds up. Under a seccomp filter a child process makes the system calls
// first: whatever the filter kills for is not done here.
//
// Whatever came of it but use is asked again, after a tenth of a second at first, later
// up to ten minutes; not at all if there is no such instruction, too many CPUs or
// a filter that kills. Used, an instruction is not held against getcpu(2) again: Linux sets
// the register of each CPU when that comes online, a virtual machine takes it along when
// it is migrated, and a process that is restored elsewhere finds that machine's. Two
// things end the use: a CPU number that cannot be, and Confirm, which
// rseq.Thread.Confirm calls after a restore.

// machine is what is asked; tests have others.
type machine struct {
	instructions func() []way
	read         func(way) uint32
	getcpu       func() (cpu, node int, err error)
	possible     func() int
	allowed      func() ([]int, error)
	// mayAsk and mayBind say why what is above, and bind, must not be called: a filter
	// kills for it (kernel.ErrKills), or may.
	mayAsk, mayBind func() error
	bind            func(cpu int) error // the calling thread
	// cost returns the nanoseconds of a call.
	cost func(call func()) float64
	// thread runs f on a thread that nothing else uses meanwhile and that f may bind.
	thread func(f func() error) error
}

// asker remembers what was found out about a machine.
type asker struct {
	m *machine
	choice

	mu    sync.Mutex // held while it is asked
	wait  time.Duration
	seen  map[way]*evidence
	found Report

	// quiet is true while a slow path need not ask: it is being asked, or was just now, or
	// nothing will ever come of it.
	quiet atomic.Bool
}

// evidence is what is known of an instruction.
type evidence struct {
	cpus    []int // on which it agreed
	nonzero bool  // and not by zero each time
	wrong   string
}

// Report says where CPU and node come from on a thread without an area.
type Report struct {
	Way      string  `json:"way"`              // RDPID, RDTSCP or getcpu(2)
	Reason   string  `json:"reason,omitempty"` // why that and nothing better
	CPUs     []int   `json:"cpus,omitempty"`   // on which it agreed with getcpu(2), if it is an instruction
	Ns       float64 `json:"ns"`               // what a read takes
	GetcpuNs float64 `json:"getcpu_ns"`        // what the system call takes; zero if it is not called
}

func (r Report) String() string {
	if r.Evidence() == "" {
		return r.Cost()
	}
	return r.Cost() + "; " + r.Evidence()
}

// Cost returns the way, and what a read takes.
func (r Report) Cost() string {
	if r.Ns == 0 {
		return r.Way
	}
	return fmt.Sprintf("%s, %.1f ns a read", r.Way, r.Ns)
}

// Evidence returns why that way is used.
func (r Report) Evidence() string {
	var s []string
	if len(r.CPUs) > 0 {
		s = append(s, fmt.Sprintf("getcpu(2), %.0f ns, agreed on CPUs %s", r.GetcpuNs, strings.Trim(fmt.Sprint(r.CPUs), "[]")))
	}
	if r.Reason != "" {
		s = append(s, r.Reason)
	}
	return strings.Join(s, "; ")
}

const minWait, maxWait = 100 * time.Millisecond, 10 * time.Minute

var here = asker{m: &real}

// Ask is for slow paths, where CPU or NodeID returned -1. It has the processor asked, if
// that is due, and does not wait for the answer.
func Ask() {
	if here.limit.Load() != 0 && CPU() < 0 { // the number cannot be
		here.use(none, 0)
		here.quiet.Store(false)
	}
	if !here.quiet.Load() {
		here.start()
	}
}

// Again asks anew, waits for the answer and returns what is used now. What is used stays
// unless it turns out to be wrong.
func Again() Report { return here.again() }

// Confirm is Again if an instruction is used.
func Confirm() {
	if here.limit.Load() != 0 {
		Again()
	}
}

func (a *asker) again() Report {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.quiet.Store(true)
	a.seen = nil
	a.ask()
	if len(a.m.instructions()) == 0 && a.m.mayAsk() == nil {
		a.found.Ns, _ = a.getcpuCost() // which ask does not need
	}
	return a.found
}

// getcpuCost returns the nanoseconds of getcpu(2), or zero and its error.
func (a *asker) getcpuCost() (ns float64, err error) {
	ns = a.m.cost(func() {
		if _, _, e := a.m.getcpu(); e != nil {
			err = e
		}
	})
	if err != nil {
		ns = 0
	}
	return ns, err
}

func (a *asker) start() {
	if !a.mu.TryLock() {
		return
	}
	if a.quiet.Swap(true) {
		a.mu.Unlock()
		return
	}
	go func() {
		defer a.mu.Unlock()
		a.ask()
	}()
}

// ask asks and sets what is used. mu is held.
func (a *asker) ask() {
	m := a.m
	a.found = Report{Way: none.String()}
	list := m.instructions()
	if len(list) == 0 {
		a.found.Reason = "this processor, or this build, has neither RDPID nor RDTSCP"
		a.use(none, 0)
		return // for ever: only Again asks again
	}
	if err := m.mayAsk(); err != nil {
		a.found.Reason = "getcpu(2) is not called to compare: " + err.Error()
		a.use(none, 0)
		if !errors.Is(err, kernel.ErrKills) { // a filter stays
			a.later()
		}
		return
	}
	cpus := m.possible()
	ns, err := a.getcpuCost()
	a.found.Ns, a.found.GetcpuNs = ns, ns
	switch {
	case err != nil:
		a.found.Reason = "getcpu(2): " + err.Error()
		a.use(none, 0)
	case cpus > maxCPUs:
		a.found.Reason = fmt.Sprintf("there can be %d CPUs: the processor's number has room for %d", cpus, maxCPUs)
		a.use(none, 0)
		return // for ever
	default:
		a.compare(list)
		if a.choose(list, cpus) {
			a.wait = 0
			return
		}
	}
	a.later()
}

// later has it asked again after a while.
func (a *asker) later() {
	a.wait = min(max(2*a.wait, minWait), maxWait)
	time.AfterFunc(a.wait, func() { a.quiet.Store(false) })
}

// choose sets what is used, by the evidence, and reports whether anything is.
func (a *asker) choose(list []way, cpus int) bool {
	m, now := a.m, way(a.way.Load())
	allowed, err := m.allowed()
	need := 2
	if err == nil {
		need = min(need, len(allowed))
	}
	var reasons []string
	for _, w := range list {
		e, reason := a.seen[w], ""
		switch {
		case e.wrong != "":
			reason = e.wrong
		case w == now && a.limit.Load() != 0:
			// Nothing is known against it.
		case len(e.cpus) < max(need, 1):
			reason = fmt.Sprintf("agreed with getcpu(2) on CPUs %v: expected %d of them", e.cpus, max(need, 1))
		case !e.nonzero && cpus > 1:
			reason = "was seen on CPU 0 only, where a register that nobody sets has the same number"
		}
		if reason == "" {
			ns := m.cost(func() { m.read(w) })
			if 2*ns < a.found.GetcpuNs {
				a.found = Report{w.String(), strings.Join(reasons, "; "), e.cpus, ns, a.found.GetcpuNs}
				a.use(w, cpus)
				return true
			}
			reason = fmt.Sprintf("takes %.0f ns: expected less than half of getcpu(2)'s %.0f", ns, a.found.GetcpuNs)
		}
		reasons = append(reasons, w.String()+" "+reason)
	}
	a.found.Reason = strings.Join(reasons, "; ")
	a.use(none, 0)
	return false
}

// compare gathers evidence.
func (a *asker) compare(list []way) {
	m := a.m
	if a.seen == nil {
		a.seen = map[way]*evidence{}
	}
	for _, w := range list {
		if a.seen[w] == nil {
			a.seen[w] = new(evidence)
		}
		a.seen[w].wrong = ""
	}
	look := func() {
		for _, w := range list {
			a.seen[w].look(m, w)
		}
	}
	allowed, err := m.allowed()
	bound := false
	if err == nil && m.mayBind() == nil {
		m.thread(func() error {
			for _, cpu := range some(allowed) {
				if m.bind(cpu) == nil { // it may be off by now
					bound = true
					look()
				}
			}
			return nil
		})
	}
	for n := 0; n < 20 && !bound; n++ {
		look()
		time.Sleep(50 * time.Microsecond) // and be elsewhere, perhaps
	}
}

// some returns up to four CPUs, the first and the last among them.
func some(cpus []int) (list []int) {
	const most = 4
	if len(cpus) <= most {
		return cpus
	}
	for i := range most {
		list = append(list, cpus[i*(len(cpus)-1)/(most-1)])
	}
	return list
}

// look compares an instruction with getcpu(2) where the caller runs.
func (e *evidence) look(m *machine, w way) {
	// The thread may have been elsewhere in between and come back: three times in a row
	// it was not.
	differs := 0
	for range 100 {
		cpu, node, err := m.getcpu()
		got := m.read(w)
		after, _, errAfter := m.getcpu()
		if err != nil || errAfter != nil {
			return
		}
		if cpu != after {
			differs = 0
			continue
		}
		if want := uint32(node)<<cpuBits | uint32(cpu); got == want {
			e.nonzero = e.nonzero || got != 0
			if !slices.Contains(e.cpus, cpu) {
				e.cpus = append(e.cpus, cpu)
			}
			return
		}
		if differs++; differs == 3 {
			e.cpus, e.nonzero = nil, false
			e.wrong = fmt.Sprintf("says CPU %d of node %d where getcpu(2) says CPU %d of node %d", got&maxCPUs, got>>cpuBits, cpu, node)
			return
		}
	}
}
