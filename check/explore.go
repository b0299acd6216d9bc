package main

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"strings"
	"unsafe"

	"github.com/rseq-go/rseq/internal/abi"
)

// A schedule says which events happen at which boundaries between instructions. The check tries
// all schedules with up to a number of events. If two schedules lead to the same state
// (registers, memory, what the kernel knows of the thread, and the history by which the end
// is judged), they go on in the same ways: the state is explored once, and the schedules
// from there are counted for both.

// state is the whole state between two instructions.
type state struct {
	regs      registers
	m         memory
	g         gate
	t         thread
	disturbed int // how often the section was aborted or the thread moved
	n         int
	history   [maxEvents]entry // the first n entries, for the pseudocode
}

const maxEvents = 4

// entry is an event of the history: an operation of another thread, unless other is negative,
// and the thread's registration after it.
type entry struct {
	other, at int
	after     thread
	opened    bool
}

// event is an event that may happen at a boundary.
type event struct {
	entry
	interrupts bool
	foreign    bool // a signal handler left another section's descriptor in rseq_cs
}

// failure is a wrong result, and the schedule that leads to it.
type failure struct {
	scenario *scenario
	rule     string
	schedule []string
}

func (f *failure) Error() string {
	schedule := "no interruption"
	if len(f.schedule) > 0 {
		schedule = strings.Join(f.schedule, "; ")
	}
	return fmt.Sprintf("%s: %s\n\t%s", f.scenario, schedule, f.rule)
}

// checker tries the schedules of one scenario on one image.
type checker struct {
	*session
	s       *scenario
	v2      bool   // the kernel leaves rseq_cs as it is after an interruption
	foreign uint64 // the descriptor of another section
	code    []span // the code of the operation
	first   state
	entry   uint64 // the stack pointer at the call
	memo    map[[2]uint64]uint64
	judged  map[string][]candidate
	trail   []mark
	events  []event // reused; each depth has a part
}

// mark is an event of the current schedule.
type mark struct {
	pc    uint64
	event event
}

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func (s *state) key(budget int) [2]uint64 {
	var buf [unsafe.Sizeof(state{}) + 64]byte
	b := buf[:0]
	for _, r := range s.regs {
		b = binary.LittleEndian.AppendUint64(b, r)
	}
	b = append(b, s.m[:]...)
	for _, w := range s.g {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	b = append(b, byte(budget), byte(min(s.disturbed, 255)))
	b = append(b, s.t.bytes()...)
	b = append(b, s.happened()...)
	return [2]uint64{maphash.Bytes(seeds[0], b), maphash.Bytes(seeds[1], b)}
}

func (t thread) bytes() []byte {
	b := []byte{byte(t.place), 0}
	if t.registered {
		b[1] = 1
	}
	return b
}

// happened returns the history as bytes, for comparison.
func (s *state) happened() (b []byte) {
	for _, e := range s.history[:s.n] {
		b = append(b, byte(e.other), byte(e.at))
		b = append(b, e.after.bytes()...)
		if e.opened {
			b[len(b)-1] |= 2
		}
	}
	return b
}

// pc returns the program counter.
func (s *state) pc(a *arch) uint64 { return s.regs[a.pc] }

func (c *checker) fail(format string, args ...any) *failure {
	f := &failure{scenario: c.s, rule: fmt.Sprintf(format, args...)}
	for _, m := range c.trail {
		f.schedule = append(f.schedule, fmt.Sprintf("at %s: %s", c.image.where(m.pc), c.name(m.event)))
	}
	return f
}

func (c *checker) name(e event) string {
	var b strings.Builder
	switch {
	case e.opened:
		b.WriteString("the gate opens")
	case e.foreign:
		b.WriteString("signalled")
	case e.interrupts:
		b.WriteString("interrupted")
	default:
		b.WriteString("meanwhile")
	}
	if e.other >= 0 {
		fmt.Fprintf(&b, ", %s on index %d", c.s.others[e.other].name, e.at)
	}
	if e.interrupts {
		switch {
		case !e.after.registered:
			b.WriteString(", then not registered")
		default:
			fmt.Fprintf(&b, ", then on index %d", e.after.place)
		}
	}
	return b.String()
}

// enabled appends the events that may happen in a state.
func (c *checker) enabled(s *state, list []event) []event {
	none := entry{other: -1, after: s.t}
	moved := s.t
	moved.place = 1 - moved.place
	add := func(e entry, interrupts, foreign bool) { list = append(list, event{e, interrupts, foreign}) }
	if s.t.registered {
		add(none, true, false)
		add(none, true, true)
		add(entry{other: -1, after: moved}, true, false)
		if c.s.tries > 0 {
			add(entry{other: -1}, true, false) // a handler unregisters the thread
		}
	}
	if c.s.opens != nil && s.g != *c.s.opens {
		add(entry{other: -1, after: s.t, opened: true}, false, false)
	}
	signalled := false
	for n, o := range c.s.others {
		for i := range 2 {
			if o.only >= 0 && o.only != i || o.when != nil && !o.when(&s.m, i) {
				continue
			}
			here := s.t.registered && s.t.place == i
			e := entry{other: n, at: i, after: s.t}
			if o.anywhere || !here {
				add(e, o.fences && (here || o.allCPUs && s.t.registered), false)
				continue
			}
			add(e, true, false)
			if !signalled { // else the handler runs a section itself
				add(e, true, true)
				signalled = true
			}
			e.after = moved
			add(e, true, false)
		}
	}
	return list
}

// apply applies an event to a state.
func (c *checker) apply(s *state, e event) *failure {
	if e.interrupts {
		if f := c.interrupt(s); f != nil {
			return f
		}
		if e.foreign {
			s.m.store(areaAt+abi.OffsetRseqCS, c.foreign)
		}
	}
	if e.other >= 0 {
		c.s.others[e.other].run(&s.m, e.at)
	}
	if e.other >= 0 || e.after != s.t || e.opened {
		s.history[s.n] = e.entry
		s.n++
	}
	if e.after != s.t {
		if c.s.tries > 1 {
			s.disturbed++
		}
		s.t = e.after
		s.t.write(&s.m, c.s.index)
	}
	if e.opened {
		s.g = *c.s.opens
	}
	return nil
}

// maxSteps is more than the instructions of an operation that is not interrupted.
const maxSteps = 1000

// explore tries all schedules from a state on, with up to budget events, and returns their
// number.
func (c *checker) explore(s *state, budget, steps int) (schedules uint64, f *failure) {
	if c.ended(s) {
		return 1, c.judge(s)
	}
	if steps > maxSteps {
		return 0, c.fail("it does not end: %d instructions later it is at %s", steps, c.image.where(s.pc(c.image.arch)))
	}
	key := s.key(budget)
	if known, ok := c.memo[key]; ok {
		return known, nil
	}
	if budget > 0 {
		from := len(c.events)
		c.events = c.enabled(s, c.events)
		for _, e := range c.events[from:] {
			next := *s
			c.trail = append(c.trail, mark{s.pc(c.image.arch), e})
			if f := c.apply(&next, e); f != nil {
				return 0, f
			}
			n, f := c.explore(&next, budget-1, 0)
			if f != nil {
				return 0, f
			}
			schedules += n
			c.trail = c.trail[:len(c.trail)-1]
		}
		c.events = c.events[:from]
	}
	next := *s
	if f := c.step(&next); f != nil {
		return 0, f
	}
	n, f := c.explore(&next, budget, steps+1)
	schedules += n
	c.memo[key] = schedules
	return schedules, f
}

// always tries the schedule in which an event without an effect, as a step of a debugger, happens
// at every boundary for which at returns true. It returns the program counters there.
func (c *checker) always(at func(pc uint64) bool, migrates bool) (pcs []uint64, f *failure) {
	s := c.first
	c.trail = c.trail[:0]
	for steps := 0; !c.ended(&s); steps++ {
		pc := s.pc(c.image.arch)
		pcs = append(pcs, pc)
		if at(pc) && s.t.registered {
			e := event{entry{other: -1, after: s.t}, true, false}
			if migrates {
				e.after.place = 1 - e.after.place
			}
			c.trail = append(c.trail[:0], mark{pc, e})
			if f := c.apply(&s, e); f != nil {
				return pcs, f
			}
			if migrates { // one entry is enough, since nothing else happens
				e.after.place = 1 - c.first.t.place
				s.history[0], s.n = e.entry, 1
			}
		}
		if steps > 1000*maxSteps {
			return pcs, c.fail("this again and again: it does not end")
		}
		if f := c.step(&s); f != nil {
			return pcs, f
		}
	}
	return pcs, c.judge(&s)
}

func (c *checker) ended(s *state) bool {
	pc := s.pc(c.image.arch)
	return pc >= returnTo && pc < returnTo+page
}

// step executes an instruction and checks what it reads and writes.
func (c *checker) step(s *state) *failure {
	copy(c.world, s.m[:])
	for i, w := range s.g {
		binary.LittleEndian.PutUint64(c.gateBytes[8*i:], w)
	}
	pc := s.pc(c.image.arch)
	if !within(c.code, pc, 1) {
		return c.fail("it goes on at %s, outside of the operation", c.image.where(pc))
	}
	if err := c.e.step(&s.regs); err != nil {
		return c.fail("%s: %v", c.image.where(pc), err)
	}
	c.steps++
	c.covered[pc] = uint32(c.e.c.size)
	var retired []span
	if c.s.retired != nil {
		retired = c.s.retired(&s.m)
	}
	for _, a := range c.e.c.access[:c.e.c.accesses] {
		at, n := uint64(a.at), uint64(a.size)
		switch {
		case a.write == 0:
			if at >= stackAt && at < stackAt+page && !(c.image.arch.link < 0 && at == c.entry && n == 8) {
				return c.fail("%s reads the stack, at %#x", c.image.where(pc), at)
			}
			if overlaps(retired, at, n) {
				return c.fail("%s reads at %s, which another thread has already taken away", c.image.where(pc), c.place(at))
			}
		case at == areaAt+abi.OffsetRseqCS && n == 8:
		case !s.m.has(at, n) || !within(c.s.mayWrite(&s.m, s.t), at, n):
			return c.fail("%s writes %d bytes at %s, which the thread must not: %s", c.image.where(pc), n, c.place(at), c.describe(s.t))
		}
	}
	copy(s.m[:], c.world)
	return nil
}

func (c *checker) place(at uint64) string {
	if at >= worldAt && at < worldAt+page {
		return fmt.Sprintf("data+%#x", at-worldAt)
	}
	return fmt.Sprintf("%#x", at)
}

func (c *checker) describe(t thread) string {
	if !t.registered {
		return "it is not registered"
	}
	return fmt.Sprintf("its index is %d", t.place)
}
