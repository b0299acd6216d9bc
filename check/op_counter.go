package main

import (
	"fmt"
	"math"

	"github.com/rseq-go/rseq/internal/abi"
)

// counter is a struct cells or words at structs, and its words, which may be float64s.
type counter struct {
	nAt    uint64 // where it has how many words there are
	floats bool
}

const counterStride = 0x40

func (counter) word(i int) uint64 { return dataAt + uint64(i)*counterStride }

// of returns the bits of a number.
func (c counter) of(v float64) uint64 {
	if c.floats {
		return math.Float64bits(v)
	}
	return uint64(int64(v))
}

// add is the pseudocode of add, count and count_float.
func (c counter) add(m *memory, i int, delta uint64) (status int) {
	if uint64(i) >= m.load(c.nAt) {
		return abi.OutOfRange
	}
	if at := c.word(i); c.floats {
		m.addFloat(at, delta)
	} else {
		m.store(at, m.load(at)+delta)
	}
	return abi.Done
}

// addFloat adds the float64 whose bits delta has to the one at an address.
func (m *memory) addFloat(at, delta uint64) {
	m.store(at, math.Float64bits(math.Float64frombits(m.load(at))+math.Float64frombits(delta)))
}

func init() {
	for _, op := range []string{"add", "count", "count_float"} {
		operations = append(operations, operation{op, func(*image) (all []*scenario) {
			for _, x := range []index{cpuID, mmCID} {
				all = append(all, counterScenario(op, x, 2).alsoElsewhere()...)
				all = append(all, counterScenario(op, x, 1), counterScenario(op, x, 1).on(onOne, ""))
				if op != "add" {
					all = append(all, madeMeanwhile(counterScenario(op, x, 2)))
				}
			}
			return all
		}})
	}
}

func counterScenario(op string, x index, n int) *scenario {
	c := counter{structs + ownN(op, x), op == "count_float"}
	delta := c.of(5)
	s := &scenario{
		op: op, function: "cs_" + op + "_cpu_id", index: x, title: fmt.Sprintf("%d words", n),
		args: []value{u64(structs), u64(delta)}, slow: -1, status: -1, tries: abi.Tries,
		start: onZero, gate: openGate(2), events: 3, gates: []int{abi.GateCSCPUID / 8},
		fails: answers,
		setup: func(m *memory) {
			m.store(structs+abi.CellsBase, dataAt)
			m.store(structs+abi.CellsStride, counterStride)
			m.store(structs+ownN(op, x), uint64(n))
			for i := range 2 {
				m.store(c.word(i), c.of(float64(100+i)))
			}
		},
		others: []other{
			{name: "an add", only: -1, run: func(m *memory, i int) { c.add(m, i, c.of(1000)) }},
			{name: "a negative add", only: -1, run: func(m *memory, i int) { c.add(m, i, c.of(-1)) }},
			{name: "a Value", only: -1, anywhere: true, run: func(m *memory, i int) { m.saw(m.load(c.word(i))) }},
		},
		mayWrite: func(_ *memory, t thread) []span {
			if !t.registered || t.place >= n {
				return nil
			}
			return []span{{c.word(t.place), 8}}
		},
	}
	done := func() outcome { return answers(abi.Done) }
	switch {
	case op != "add":
		s.args = append(s.args, u64(slowAt))
		s.slow = 2
		s.fails = slowly
		done = func() outcome { return outcome{} }
		s.gates = ownGates(x)
	case x == mmCID: // Go calls the function for mm_cid itself
		s.function = "cs_add_mm_cid"
		s.gates = []int{abi.GateCSMMCID / 8}
	}
	s.do = own(s, func(m *memory, i int) outcome {
		if status := c.add(m, i, delta); status != abi.Done {
			return s.fails(status)
		}
		return done()
	})
	return s
}

// madeMeanwhile returns the scenario of a struct whose words are made by another thread.
func madeMeanwhile(s *scenario) *scenario {
	s.title = "no words at first"
	made := s.setup
	nAt := structs + ownN(s.op, s.index)
	s.setup = func(m *memory) {
		made(m)
		for _, at := range []uint64{structs + abi.CellsBase, structs + abi.CellsStride, nAt} {
			m.store(at, 0)
		}
	}
	s.others = append(s.others,
		other{name: "the words are made", only: 0, anywhere: true,
			when: func(m *memory, _ int) bool { return m.load(structs+abi.CellsBase) == 0 },
			run: func(m *memory, _ int) {
				m.store(structs+abi.CellsBase, dataAt)
				m.store(structs+abi.CellsStride, counterStride)
			}},
		other{name: "they are taken into use", only: 0, anywhere: true,
			when: func(m *memory, _ int) bool { return m.load(structs+abi.CellsBase) != 0 && m.load(nAt) == 0 },
			run:  func(m *memory, _ int) { m.store(nAt, 2) }})
	return s
}

// own is the pseudocode before body of an operation on the thread's own index.
func own(s *scenario, body func(m *memory, i int) outcome) func(*memory, thread, gate) outcome {
	return func(m *memory, t thread, _ gate) outcome {
		if !t.registered {
			return s.fails(abi.NotRegistered)
		}
		return body(m, t.place)
	}
}

// ownN returns the offset of the number of indexes in an operation's struct. Cells have one
// number, the structs of percpu have one for each kind of index.
func ownN(op string, x index) uint64 {
	if op != "add" && x == mmCID {
		return abi.CurrentNMMCID
	}
	return abi.CurrentN
}

// ownGates returns the words of the gate that an operation on a struct of percpu needs. Go calls
// the function for cpu_id, which may jump to the one for mm_cid.
func ownGates(x index) []int {
	if x == mmCID {
		return []int{abi.GateCSCPUID / 8, abi.GateCSMMCID / 8}
	}
	return []int{abi.GateCSCPUID / 8}
}
