package main

import "github.com/rseq-go/rseq/internal/abi"

func init() {
	operations = append(operations, operation{"spin", func(i *image) []*scenario {
		s := &scenario{
			function: "cs_spin", c: true, title: "3 rounds",
			slow: -1, status: -1, tries: 1, start: onZero, gate: openGate(2), events: 3,
			fails: func(int) outcome { return outcome{results: []value{{abi.SpinAborted, 32}}} },
			others: []other{{name: "the flag", only: 0, anywhere: true,
				when: func(m *memory, _ int) bool { return m.load(dataAt) == 0 },
				run:  func(m *memory, _ int) { m.store32(dataAt, 1) }}},
			mayWrite: func(*memory, thread) []span { return nil },
			do: func(m *memory, _ thread, _ gate) outcome {
				if m.load(dataAt) != 0 {
					return outcome{results: []value{{abi.SpinSawFlag, 32}}}
				}
				return outcome{results: []value{{abi.SpinExhausted, 32}}}
			},
		}
		s.args = []value{u64(dataAt), u64(3), u64(areaAt), u64(i.symbols["cs_spin_descriptor"].Value)}
		return []*scenario{s, s.on(unregistered, "")}
	}})
}
