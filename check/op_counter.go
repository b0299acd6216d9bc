package main

import (
	"fmt"

	"github.com/rseq-go/rseq/internal/abi"
)

// counter is a struct cells at structs, with n words.
type counter struct{ n int }

const counterStride = 0x40

func (counter) word(i int) uint64 { return dataAt + uint64(i)*counterStride }

// add is the pseudocode of add and of count.
func (c counter) add(m *memory, i int, delta uint64) (status int) {
	if i >= c.n {
		return abi.OutOfRange
	}
	m.store(c.word(i), m.load(c.word(i))+delta)
	return abi.Done
}

func init() {
	for _, op := range []string{"add", "count"} {
		operations = append(operations, operation{op, func(*image) (all []*scenario) {
			for _, x := range []index{cpuID, mmCID} {
				all = append(all, counterScenario(op, x, 2).alsoElsewhere()...)
				all = append(all, counterScenario(op, x, 1), counterScenario(op, x, 1).on(onOne, ""))
			}
			return all
		}})
	}
}

func counterScenario(op string, x index, n int) *scenario {
	c := counter{n}
	const delta = 5
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
				m.store(c.word(i), uint64(100+i))
			}
		},
		others: []other{
			{name: "an add", only: -1, run: func(m *memory, i int) { c.add(m, i, 1000) }},
			{name: "a negative add", only: -1, run: func(m *memory, i int) { c.add(m, i, ^uint64(0)) }},
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
	case op == "count":
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
		return abi.OwnNMMCID
	}
	return abi.OwnN
}

// ownGates returns the words of the gate that an operation on a struct of percpu needs. Go calls
// the function for cpu_id, which may jump to the one for mm_cid.
func ownGates(x index) []int {
	if x == mmCID {
		return []int{abi.GateCSCPUID / 8, abi.GateCSMMCID / 8}
	}
	return []int{abi.GateCSCPUID / 8}
}
