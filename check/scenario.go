package main

import (
	"fmt"
	"strings"

	"github.com/rseq-go/rseq/internal/abi"
)

// operation is a function of cs_<arch>.s, or two for the kinds of index. Each is told by
// a file, op_*.go, whose init enters it in operations.
type operation struct {
	name      string // PORTABLE's
	scenarios func(i *image) []*scenario
}

var operations []operation

// scenario is a call of an operation: what it is called with, what is there, what other
// threads may do meanwhile, and what is right.
type scenario struct {
	op       string // rseqgo_v1_portable_<op> is its PORTABLE word
	function string // what Go calls
	index    index
	c        bool // the C convention
	title    string
	args     []value
	slow     int // which argument is the slow path, or -1
	status   int // which one says to that why, or -1
	events   int // how many a schedule has, at most
	onlyV2   bool
	start    thread
	gate     gate
	gates    []int // words of the gate that must not be zero
	opens    *gate // that which another thread may make of it
	portable bool  // the PORTABLE word is set
	setup    func(m *memory)
	others   []other

	// do is the operation's pseudocode, as one step of a thread that has an index.
	do func(m *memory, t thread, g gate) outcome
	// late, if not nil, is what it does if it looked at a state before another thread changed
	// that, which is possible or not.
	late func(m *memory, t thread) (o outcome, possible bool)
	// fails is the outcome of an operation that did not happen.
	fails func(status int) outcome
	// tries: after so many aborts the answer may be RACED.
	tries int

	// mayWrite is what the operation may write now, apart from rseq_cs.
	mayWrite func(m *memory, t thread) []span
	// retired is what no other thread's section may look at any more.
	retired func(m *memory) []span
	// loose is what counts for nothing after an outcome, which left m.
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

// other is what other threads do, as one step.
type other struct {
	name string
	run  func(m *memory, i int)
	when func(m *memory, i int) bool // nil: any time
	only int                         // on data of this index only, or -1
	// anywhere: a thread with any index does it, at the same time as the section runs.
	anywhere bool
	// fences: before, it fences the index, as rseq.Index.Fence does, or all of them.
	fences, allCPUs bool
}

// value is an argument or result of so many bits; of 0 bits it is none or any.
type value struct {
	v    uint64
	bits int
}

func (v value) same(register uint64) bool {
	return v.bits == 0 || (v.v^register)<<(64-v.bits) == 0
}

func u64(v uint64) value { return value{v, 64} }

// outcome is how a call ended.
type outcome struct {
	how     how
	status  int     // for the slow path, if that is told
	results []value // if it returned
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

// slowly is fails for an operation with a slow path, and answers for one without: its
// results are as many as before say, and the status.
func slowly(status int) outcome { return outcome{how: tookSlow, status: status} }

func answers(status int) outcome {
	return outcome{results: []value{{uint64(status), 32}}}
}

// on returns the scenario with another start, and more words to its title.
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

// gated returns the scenario behind a gate one of whose words is zero, and may be set
// meanwhile, or was not because the convention is another: then the portable function is
// in place.
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

// alsoElsewhere returns the scenario, and it for threads that start elsewhere.
func (s *scenario) alsoElsewhere() []*scenario {
	return append([]*scenario{s, s.on(onOne, ""), s.on(unregistered, "")}, s.gated()...)
}
