package main

import (
	"fmt"
	"strings"

	"github.com/rseq-go/rseq/internal/abi"
)

// operation is a function of cs_<arch>.s, or two for the kinds of index. Each has a file op_*.go,
// whose init appends it to operations.
type operation struct {
	name      string // the argument of PORTABLE in cs_<arch>.s
	scenarios func(i *image) []*scenario
}

var operations []operation

// scenario is a call of an operation: its arguments, the data, what other threads may do
// meanwhile, and the right outcome.
type scenario struct {
	op       string // rseqgo_v1_portable_<op> is its PORTABLE word
	function string // the function that Go calls
	index    index
	c        bool // called with C's convention
	title    string
	args     []value
	slow     int // the index of the argument slow, or -1
	status   int // the index of the argument status, or -1
	events   int // the most events of a schedule
	onlyV2   bool
	start    thread
	gate     gate
	gates    []int // the words of the gate that must not be zero
	opens    *gate // the gate after another thread has opened it
	portable bool  // the PORTABLE word is set
	setup    func(m *memory)
	others   []other

	// do is the operation's pseudocode, as one step of a thread that has an index.
	do func(m *memory, t thread, g gate) outcome
	// late, if not nil, is what it does if it looked at a state before another thread changed
	// that, which is possible or not.
	late func(m *memory, t thread) (o outcome, possible bool)
	// fails returns the outcome of an operation that did not take effect.
	fails func(status int) outcome
	// After so many aborts the answer may be RACED.
	tries int

	// mayWrite returns what the operation may write now, besides rseq_cs.
	mayWrite func(m *memory, t thread) []span
	// retired returns what the section must not read or write any more.
	retired func(m *memory) []span
	// loose returns the words of m that may have any value after an outcome.
	loose func(m *memory, o outcome) []span
}

func (s *scenario) String() string {
	text := fmt.Sprintf("%s, %v, %s", s.function, s.index, s.title)
	switch {
	case !s.start.registered:
		text += ", unregistered"
	case s.start.place != 0:
		text += fmt.Sprintf(", on index %d", s.start.place)
	}
	return text
}

// other is an operation of another thread, done in one step.
type other struct {
	name string
	run  func(m *memory, i int)
	when func(m *memory, i int) bool // whether it may happen; nil: always
	only int                         // the only index that it is for, or -1
	// anywhere: a thread with any index does it, while the section runs.
	anywhere bool
	// fences: it first fences the index, as rseq.Index.Fence does, or all CPUs.
	fences, allCPUs bool
}

// value is an argument or result with a number of bits. With 0 bits it may be anything.
type value struct {
	v    uint64
	bits int
}

func (v value) same(register uint64) bool {
	return v.bits == 0 || (v.v^register)<<(64-v.bits) == 0
}

func u64(v uint64) value { return value{v, 64} }

// outcome is the end of a call.
type outcome struct {
	how     how
	status  int     // the slow path's argument, if it has one
	results []value // if the call returned
}

type how int

const (
	returned how = iota
	tookSlow
	tookPortable
)

var statuses = [...]string{abi.Done: "DONE", abi.CompareFailed: "COMPARE_FAILED", abi.Raced: "RACED",
	abi.OutOfRange: "OUT_OF_RANGE", abi.NotRegistered: "NOT_REGISTERED"}

func (o outcome) String() string {
	switch o.how {
	case tookSlow:
		return "slow path, " + statuses[o.status]
	case tookPortable:
		return "portable function"
	}
	var list []string
	for _, r := range o.results {
		if r.bits == 0 {
			list = append(list, "any")
		} else {
			list = append(list, fmt.Sprintf("%#x", r.v))
		}
	}
	return "returned (" + strings.Join(list, ", ") + ")"
}

// slowly is scenario.fails of an operation with a slow path. answers is that of one without: the
// status is the last result.
func slowly(status int) outcome { return outcome{how: tookSlow, status: status} }

func answers(status int) outcome {
	return outcome{results: []value{{uint64(status), 32}}}
}

// on returns the scenario for another thread, with text added to the title.
func (s scenario) on(t thread, title string) *scenario {
	s.start = t
	s.title += title
	return &s
}

var (
	onZero       = thread{registered: true}
	onOne        = thread{registered: true, place: 1}
	unregistered = thread{}
)

// gated returns scenarios with a closed gate: one of its words is zero. In some another thread
// opens it meanwhile. In others it stays closed because the convention check failed, and the
// portable function is set.
func (s *scenario) gated() (all []*scenario) {
	for _, w := range s.gates {
		closed, opened := *s, s.gate
		closed.title += fmt.Sprintf(", word %d of the gate closed", w)
		closed.gate[w] = 0
		portable := closed
		closed.opens = &opened
		portable.title += ", the convention another"
		portable.portable = true
		all = append(all, &closed, &portable)
	}
	return all
}

// alsoElsewhere returns the scenario for this thread, and for threads with another index or
// without a registration.
func (s *scenario) alsoElsewhere() []*scenario {
	return append([]*scenario{s, s.on(onOne, ""), s.on(unregistered, "")}, s.gated()...)
}
