package main

import (
	"fmt"

	"github.com/rseq-go/rseq/internal/abi"
)

// The addresses of the data of operations that name their index.
const (
	wordV   = dataAt
	wordV2  = dataAt + 0x8
	pointer = dataAt + 0x10 // to an object
	objectA = dataAt + 0x20 // an object, whose word at objectAt points to a word
	objectB = dataAt + 0x40
	countA  = dataAt + 0x60
	countB  = dataAt + 0x80
	node1   = dataAt + 0x60 // nodes of a list: the word at nodeLink points to the next
	node2   = dataAt + 0x80
	node3   = dataAt + 0xa0
	source  = dataAt + 0xc0
	target  = dataAt + 0xe0

	objectAt = 8
	nodeLink = 8
)

// words is an operation that names its index: the arguments between the kind of index and the
// index, and the pseudocode.
type words struct {
	op      string
	setup   func(m *memory)
	calls   []call
	do      func(m *memory, args []uint64) outcome
	fails   func(status int) outcome // answers if nil
	others  []other
	writes  func(m *memory) []span // the words that it may write
	loose   []span                 // words that may have any value if it did not take effect
	retired func(m *memory) []span
}

type call struct {
	title string
	args  []uint64
	setup func(m *memory) // the operation's setup if nil
}

func done() outcome { return answers(abi.Done) }

var (
	addToV = other{name: "an add to v", run: func(m *memory, _ int) { m.store(wordV, m.load(wordV)+100) }}
	// Stores the value that is expected, after any others.
	resetV = other{name: "v as it was", run: func(m *memory, _ int) { m.store(wordV, 5); m.saw(5) }}
	// A writer on another CPU raises a flag, fences, and then reads what the flag guards.
	raise = other{name: "a writer's flag", anywhere: true,
		when: func(m *memory, _ int) bool { return m.load(wordV2) == 0 },
		run:  func(m *memory, _ int) { m.store(wordV2, 1) }}
	raised = other{name: "the writer's fence", anywhere: true, fences: true,
		when: func(m *memory, _ int) bool { return m.load(wordV2) == 1 },
		run:  func(m *memory, _ int) { m.saw(m.load(wordV)); m.store(wordV2, 2) }}
)

var allWords = []words{{
	op:    "load_cbne_store",
	calls: []call{{title: "equal", args: []uint64{wordV, 5, 9}}, {title: "not equal", args: []uint64{wordV, 105, 9}}},
	do: func(m *memory, a []uint64) outcome {
		if m.load(a[0]) != a[1] {
			return answers(abi.CompareFailed)
		}
		m.store(a[0], a[2])
		return done()
	},
	others: []other{addToV, resetV},
}, {
	op:    "load_add_store",
	calls: []call{{title: "3", args: []uint64{wordV, 3}}},
	do: func(m *memory, a []uint64) outcome {
		m.store(a[0], m.load(a[0])+a[1])
		return done()
	},
	others: []other{addToV, resetV},
}, {
	op: "load_cbeq_store_add_load_store",
	setup: func(m *memory) {
		m.store(wordV, node1)
		m.store(node1+nodeLink, node2)
		m.store(node2+nodeLink, node3)
	},
	calls: []call{{title: "a list of three", args: []uint64{wordV, 0, nodeLink}},
		{title: "an empty list", args: []uint64{wordV, 0, nodeLink}, setup: func(m *memory) { m.store(node1+nodeLink, 1) }}},
	do: func(m *memory, a []uint64) outcome {
		load := m.load(a[0])
		if load == a[1] {
			return popped(load, abi.CompareFailed)
		}
		m.store(a[0], m.load(load+a[2]))
		return popped(load, abi.Done)
	},
	fails: func(status int) outcome { return popped(0, status) },
	others: []other{
		{name: "a pop", run: func(m *memory, _ int) {
			head := m.load(wordV)
			m.saw(head)
			if head == 0 {
				return
			}
			m.store(wordV, m.load(head+nodeLink))
			m.store(head+nodeLink, 1) // the node is taken
		}},
		{name: "a push of node 1", when: func(m *memory, _ int) bool { return m.load(node1+nodeLink) == 1 }, run: func(m *memory, _ int) {
			m.store(node1+nodeLink, m.load(wordV))
			m.store(wordV, node1)
		}},
	},
}, {
	op: "load_add_load_load_add_store",
	setup: func(m *memory) {
		m.store(pointer, objectA)
		m.store(objectA+objectAt, countA)
		m.store(objectB+objectAt, countB)
		m.store(countA, 50)
	},
	calls: []call{{title: "7", args: []uint64{pointer, objectAt, 7}}},
	do: func(m *memory, a []uint64) outcome {
		p := m.load(m.load(a[0]) + a[1])
		m.store(p, m.load(p)+a[2])
		return done()
	},
	others: []other{
		{name: "an add", run: func(m *memory, _ int) {
			p := m.load(m.load(pointer) + objectAt)
			m.store(p, m.load(p)+1000)
		}},
		{name: "another object is published", anywhere: true,
			when: func(m *memory, _ int) bool { return m.load(pointer) == objectA },
			run:  func(m *memory, _ int) { m.store(pointer, objectB); m.store(aboutAt, 1) }},
		{name: "the fence and the sum", anywhere: true, fences: true,
			when: func(m *memory, _ int) bool { return m.load(aboutAt) == 1 },
			run:  func(m *memory, _ int) { m.saw(m.load(countA)); m.store(aboutAt, 2) }},
	},
	writes: func(m *memory) []span {
		if m.load(aboutAt) == 2 {
			return []span{{countB, 8}}
		}
		return []span{{countA, 8}, {countB, 8}}
	},
	retired: func(m *memory) []span {
		if m.load(aboutAt) == 2 {
			return []span{{objectA, 16}, {countA, 8}}
		}
		return nil
	},
}, {
	op: "load_cbne_load_cbne_store",
	calls: []call{{title: "equal", args: []uint64{wordV, 5, wordV2, 0, 9}}, {title: "the first not", args: []uint64{wordV, 105, wordV2, 0, 9}},
		{title: "the second not", args: []uint64{wordV, 5, wordV2, 2, 9}}},
	do: func(m *memory, a []uint64) outcome {
		if m.load(a[0]) != a[1] || m.load(a[2]) != a[3] {
			return answers(abi.CompareFailed)
		}
		m.store(a[0], a[4])
		return done()
	},
	others: []other{addToV, resetV, raise, raised},
}}

// popped returns the outcome of load_cbeq_store_add_load_store.
func popped(load uint64, status int) outcome {
	o := outcome{results: []value{u64(load), {uint64(status), 32}}}
	if status != abi.Done {
		o.results[0] = value{} // load means nothing then
	}
	return o
}

func init() {
	for _, release := range []string{"", "_release"} {
		allWords = append(allWords, words{
			op:    "load_cbne_store_store" + release,
			calls: []call{{title: "equal", args: []uint64{wordV, 5, wordV2, 7, 9}}, {title: "not equal", args: []uint64{wordV, 105, wordV2, 7, 9}}},
			do: func(m *memory, a []uint64) outcome {
				if m.load(a[0]) != a[1] {
					return answers(abi.CompareFailed)
				}
				m.store(a[2], a[3])
				m.store(a[0], a[4])
				return done()
			},
			others: []other{addToV, resetV},
			writes: func(*memory) []span { return []span{{wordV, 8}, {wordV2, 8}} },
			loose:  []span{{wordV2, 8}},
		})
		copying := words{
			op: "load_cbne_memcpy_store" + release,
			setup: func(m *memory) {
				m.store(wordV, 5)
				for i := range uint64(24) {
					*m.byte(source + i) = byte(0xd0 + i)
				}
			},
			do: func(m *memory, a []uint64) outcome {
				if m.load(a[0]) != a[1] {
					return answers(abi.CompareFailed)
				}
				for i := range a[4] {
					*m.byte(a[2] + i) = *m.byte(a[3] + i)
				}
				m.store(a[0], a[5])
				return done()
			},
			others: []other{addToV, resetV},
			writes: func(*memory) []span { return []span{{wordV, 8}, {target, 19}} },
			loose:  []span{{target, 19}},
		}
		for _, n := range []uint64{0, 2, 8, 19} {
			copying.calls = append(copying.calls, call{title: fmt.Sprintf("%d bytes", n), args: []uint64{wordV, 5, target, source, n, 9}})
		}
		copying.calls = append(copying.calls, call{title: "not equal", args: []uint64{wordV, 105, target, source, 8, 9}})
		allWords = append(allWords, copying)
	}
	for _, w := range allWords {
		operations = append(operations, operation{w.op, func(im *image) (all []*scenario) {
			for _, x := range []index{cpuID, mmCID} {
				for n, c := range w.calls {
					s := w.scenario(x, c, 0)
					if n == 0 {
						all = append(all, s.alsoElsewhere()...)
						all = append(all, w.scenario(x, c, 1), w.scenario(x, c, 2), w.scenario(x, c, -1))
						if im.arch.reorders { // the gate is open, but the number of indexes is not seen yet
							early := w.scenario(x, c, 0)
							early.title += ", possible indexes not seen yet"
							early.gate[abi.GatePossible/8] = 0
							all = append(all, early)
						}
						continue
					}
					all = append(all, s)
				}
			}
			return all
		}})
	}
}

func (w *words) scenario(x index, c call, i int) *scenario {
	s := &scenario{
		op: w.op, function: "cs_" + w.op + "_cpu_id", index: x, title: c.title,
		args: []value{{uint64(x), 8}}, slow: -1, status: -1, tries: 1,
		start: onZero, gate: openGate(2), events: 3, gates: ownGates(x),
		fails: w.fails, setup: w.setup, retired: w.retired,
		mayWrite: func(m *memory, t thread) []span {
			if !t.registered || t.place != i {
				return nil
			}
			if w.writes != nil {
				return w.writes(m)
			}
			return []span{{wordV, 8}}
		},
	}
	if i != 0 {
		s.title += fmt.Sprintf(", i %d", i)
	}
	for _, o := range w.others {
		o.only = i & 1 // if i is no index, another thread has 0 or 1
		s.others = append(s.others, o)
	}
	if s.fails == nil {
		s.fails = answers
	}
	if c.setup != nil {
		s.setup = c.setup
	}
	if s.setup == nil {
		s.setup = func(m *memory) { m.store(wordV, 5) }
	}
	for _, v := range c.args {
		s.args = append(s.args, u64(v))
	}
	s.args = append(s.args, u64(uint64(i)))
	s.do = func(m *memory, t thread, g gate) outcome {
		switch {
		case g[abi.GatePossible/8] == 0:
			return s.fails(abi.NotRegistered)
		case uint64(i) >= g[abi.GatePossible/8]:
			return s.fails(abi.OutOfRange)
		case !t.registered:
			return s.fails(abi.NotRegistered)
		case t.place != i:
			return s.fails(abi.Raced)
		}
		return w.do(m, c.args)
	}
	s.loose = func(_ *memory, o outcome) []span {
		if o.how != returned || o.results[len(o.results)-1].v == abi.Done {
			return nil
		}
		return w.loose
	}
	return s
}
