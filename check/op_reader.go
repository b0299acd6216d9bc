package main

import "github.com/rseq-go/rseq/internal/abi"

// reader is a function that reads a field of the area.
type reader struct {
	name, op string
	index    index
	args     []value // the last is the slow path
	gates    []int
	read     func(t thread, x index) int32
}

func init() {
	slow := u64(slowAt)
	cpu := func(t thread, x index) int32 { cpu, _ := t.ids(x); return cpu }
	mm := func(t thread, x index) int32 { _, mm := t.ids(x); return mm }
	node := func(t thread, _ index) int32 { return t.node() }
	for _, readers := range [][]reader{
		{{"read_cpu_id", "read", cpuID, []value{slow}, []int{abi.GateReadCPUID}, cpu}},
		{{"read_node_id", "read", cpuID, []value{slow}, []int{abi.GateReadNodeID}, node}},
		{{"read_mm_cid", "read", cpuID, []value{slow}, []int{abi.GateReadMMCID}, mm}},
		{{"read_index", "read_index", cpuID, []value{{uint64(cpuID), 8}, slow}, []int{abi.GateReadCPUID}, cpu},
			{"read_index", "read_index", mmCID, []value{{uint64(mmCID), 8}, slow}, []int{abi.GateReadCPUID, abi.GateReadMMCID}, mm}},
	} {
		operations = append(operations, operation{readers[0].name, func(*image) (all []*scenario) {
			for _, r := range readers {
				all = append(all, r.scenario().alsoElsewhere()...)
			}
			return all
		}})
	}
}

func (r reader) scenario() *scenario {
	s := &scenario{
		op: r.op, function: r.name, index: r.index, title: "a reader", args: r.args, slow: len(r.args) - 1, status: -1,
		start: onZero, gate: openGate(2), events: 3, fails: slowly,
		mayWrite: func(*memory, thread) []span { return nil },
	}
	for _, g := range r.gates {
		s.gates = append(s.gates, g/8)
	}
	s.do = func(_ *memory, t thread, _ gate) outcome {
		if !t.registered {
			return slowly(abi.NotRegistered)
		}
		return outcome{results: []value{{uint64(uint32(r.read(t, s.index))), 32}}}
	}
	return s
}
