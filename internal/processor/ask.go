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

// How an instruction is compared with getcpu(2), and when that is repeated.
//
// An instruction is used if it agreed with getcpu(2) on at least two CPUs of the affinity
// mask, or on the only one, and never disagreed. (getcpu(2) is called before and after the
// instruction: if the thread moved in between, the comparison does not count.) Agreeing on
// CPU 0 alone is not enough, unless CPU 0 is the only possible CPU: a register that was
// never set is zero too. The instruction must also take less than half of the time of the
// system call, which it does not where a hypervisor traps it.
//
// A goroutine makes the comparison, when a slow path first wants the number. It runs on a
// thread that no other goroutine uses meanwhile, binds that to some CPUs in turn, and then
// restores its affinity. No other thread is bound. Where the thread cannot be bound the
// goroutine compares wherever it happens to run, and collects the results. Under a seccomp
// filter a child process makes the system calls first; a system call for which the filter
// kills is not made here.
//
// If no instruction can be used the comparison is repeated, after a tenth of a second at
// first, later after up to ten minutes. It is not repeated if the processor has no such
// instruction, if there are too many CPUs, or if a filter kills. Once an instruction is
// used it is not compared again: Linux sets the register of each CPU when that comes
// online, a virtual machine takes the registers along when it is migrated, and a process
// that is restored on another machine reads that machine's. Two events end the use: a CPU
// number that is impossible, and Confirm, which rseq.Thread.Confirm calls after a restore.

// machine has what the comparison calls. Tests have machines of their own.
type machine struct {
	instructions func() []way
	read         func(way) uint32
	getcpu       func() (cpu, node int, err error)
	possible     func() int
	allowed      func() ([]int, error)
	// mayAsk is an error if the functions above must not be called, mayBind if bind must
	// not: a filter kills for their system calls (kernel.ErrKills), or may kill.
	mayAsk, mayBind func() error
	bind            func(cpu int) error // binds the calling thread
	// cost returns how many nanoseconds a call takes.
	cost func(call func()) float64
	// thread runs f on a thread that no other goroutine uses meanwhile. f may bind it.
	thread func(f func() error) error
}

// asker compares a machine's instructions with getcpu(2), and keeps the results.
type asker struct {
	m *machine
	choice

	mu    sync.Mutex // held during a comparison
	wait  time.Duration
	seen  map[way]*evidence
	found Report

	// quiet is true while a slow path need not start a comparison: one is under way, the
	// last one ended a moment ago, or none can ever succeed.
	quiet atomic.Bool
}

// evidence has the results of comparing an instruction.
type evidence struct {
	cpus    []int // on which it agreed
	nonzero bool  // the number was not always zero
	wrong   string
}

// Report tells how a thread without an area gets its CPU and node.
type Report struct {
	Way      string  `json:"way"`              // RDPID, RDTSCP or getcpu(2)
	Reason   string  `json:"reason,omitempty"` // why no faster way is used
	CPUs     []int   `json:"cpus,omitempty"`   // on which it agreed with getcpu(2), if it is an instruction
	Ns       float64 `json:"ns"`               // how long a read takes
	GetcpuNs float64 `json:"getcpu_ns"`        // how long the system call takes; zero if it is not called
}

func (r Report) String() string {
	if r.Evidence() == "" {
		return r.Cost()
	}
	return r.Cost() + "; " + r.Evidence()
}

// Cost returns the way and how long a read takes.
func (r Report) Cost() string {
	if r.Ns == 0 {
		return r.Way
	}
	return fmt.Sprintf("%s, %.1f ns a read", r.Way, r.Ns)
}

// Evidence returns why Report.Way is used.
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

// Ask starts a comparison if one is due, and does not wait for it. Slow paths call it, after
// CPU or NodeID returned -1.
func Ask() {
	if here.limit.Load() != 0 && CPU() < 0 { // the number is impossible
		here.use(none, 0)
		here.quiet.Store(false)
	}
	if !here.quiet.Load() {
		here.start()
	}
}

// Again compares anew, waits for the result and returns what is used now. An instruction in
// use stays in use unless it turns out to be wrong.
func Again() Report { return here.again() }

// Confirm calls Again if an instruction is in use.
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
		a.found.Ns, _ = a.getcpuCost() // for the report; ask returned before that
	}
	return a.found
}

// getcpuCost returns how many nanoseconds getcpu(2) takes, or zero and its error.
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

// ask compares and sets what is used. The caller holds mu.
func (a *asker) ask() {
	m := a.m
	a.found = Report{Way: none.String()}
	list := m.instructions()
	if len(list) == 0 {
		a.found.Reason = "this processor, or this build, has neither RDPID nor RDTSCP"
		a.use(none, 0)
		return // it is not repeated, but for Again
	}
	if err := m.mayAsk(); err != nil {
		a.found.Reason = "getcpu(2) is not called to compare: " + err.Error()
		a.use(none, 0)
		if !errors.Is(err, kernel.ErrKills) { // a filter cannot be removed
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
		return // it is not repeated, but for Again
	default:
		a.compare(list)
		if a.choose(list, cpus) {
			a.wait = 0
			return
		}
	}
	a.later()
}

// later lets a slow path compare again after a while.
func (a *asker) later() {
	a.wait = min(max(2*a.wait, minWait), maxWait)
	time.AfterFunc(a.wait, func() { a.quiet.Store(false) })
}

// choose sets what is used, by the evidence, and reports whether an instruction is.
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
			// It is in use and did not disagree.
		case len(e.cpus) < max(need, 1):
			reason = fmt.Sprintf("agreed with getcpu(2) on CPUs %v: expected %d of them", e.cpus, max(need, 1))
		case !e.nonzero && cpus > 1:
			reason = "was seen on CPU 0 only, where a register that was never set has the same number"
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

// compare runs each instruction on some CPUs and collects evidence.
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
				if m.bind(cpu) == nil { // else it may have gone offline
					bound = true
					look()
				}
			}
			return nil
		})
	}
	for n := 0; n < 20 && !bound; n++ {
		look()
		time.Sleep(50 * time.Microsecond) // the thread may be on another CPU then
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

// look compares an instruction with getcpu(2) on the CPU that the caller runs on.
func (e *evidence) look(m *machine, w way) {
	// The thread may have moved between the two calls of getcpu(2) and come back. That does
	// not happen three times in a row.
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
