package main

import (
	"slices"
	"strings"

	"github.com/rseq-go/rseq/internal/abi"
)

// list is a struct list at structs, with an entry for each index, which points to a block.
type list struct{ n int }

// The addresses of the blocks. Resizing puts a spare in the place of a block, which is retired.
const (
	noBlock   = dataAt + 0x20
	block0    = dataAt + 0x30
	block1    = dataAt + 0x58
	spare0    = dataAt + 0x80
	spare1    = dataAt + 0xb0
	handles   = dataAt + 0xe0 // the handles of a batch
	listCap   = 3
	spareCap  = 4
	batchSize = 2
)

func (list) entry(i int) uint64 { return dataAt + 8*uint64(i) }
func (list) block(i int) uint64 { return [...]uint64{block0, block1}[i] }
func (list) spare(i int) uint64 { return [...]uint64{spare0, spare1}[i] }

// use returns the block of an index, its count and its capacity.
func (l list) use(m *memory, i int) (b, count, room uint64) {
	b = m.load(l.entry(i))
	return b, m.load(b + abi.BlockCount), m.load(b + abi.BlockCap)
}

func item(b, n uint64) uint64 { return b + abi.BlockItems + 8*n }

// The pseudocode. n is the number of handles that were moved.

func (l list) push(m *memory, i int, v ...uint64) (n uint64) {
	b, count, room := l.use(m, i)
	for ; n < uint64(len(v)) && count < room; n++ {
		m.store(item(b, count), v[n])
		count++
	}
	if n > 0 {
		m.store(b+abi.BlockCount, count)
	}
	return n
}

func (l list) pop(m *memory, i, most int) (v []uint64) {
	b, count, _ := l.use(m, i)
	for ; len(v) < most && count > 0; count-- {
		v = append(v, m.load(item(b, count-1)))
	}
	if len(v) > 0 {
		m.store(b+abi.BlockCount, count)
	}
	return v
}

// The writers. Each replaces the block by noBlock, then fences, takes the old block, and
// publishes another one or the same again.

func (l list) publish(m *memory, i int) {
	m.store(aboutAt, m.load(l.entry(i)))
	m.store(aboutAt+8, uint64(i))
	m.store(l.entry(i), noBlock)
}

func (l list) drain(m *memory, i int) {
	b := l.taken(m)
	for n := range m.load(b + abi.BlockCount) {
		m.saw(m.load(item(b, n)))
	}
	m.store(b+abi.BlockCount, 0)
	m.store(l.entry(i), b)
}

func (l list) resize(m *memory, i int) {
	b, to := l.taken(m), l.spare(i)
	count := m.load(b + abi.BlockCount)
	for n := range count {
		m.store(item(to, n), m.load(item(b, n)))
	}
	m.store(to+abi.BlockCount, count)
	m.store(to+abi.BlockCap, spareCap)
	m.store(l.entry(i), to)
}

func (l list) taken(m *memory) uint64 {
	b := m.load(aboutAt)
	m.store(aboutAt, 0)
	return b
}

func (l list) others() []other {
	about := func(m *memory, i int) bool { return m.load(aboutAt) != 0 && m.load(aboutAt+8) == uint64(i) }
	return []other{
		{name: "a push", only: -1, run: func(m *memory, i int) { m.saw(l.push(m, i, 0xa1)) }},
		{name: "a pop", only: -1, run: func(m *memory, i int) { l.saw(m, l.pop(m, i, 1)) }},
		{name: "a push of two", only: -1, run: func(m *memory, i int) { m.saw(l.push(m, i, 0xb1, 0xb2)) }},
		{name: "a pop of two", only: -1, run: func(m *memory, i int) { l.saw(m, l.pop(m, i, 2)) }},
		{name: "a block is taken away", only: -1, anywhere: true,
			when: func(m *memory, i int) bool { return m.load(aboutAt) == 0 && m.load(l.entry(i)) != noBlock },
			run:  l.publish},
		{name: "the fence and the drain", only: -1, anywhere: true, fences: true, when: about, run: l.drain},
		{name: "the fence and a larger block", only: -1, anywhere: true, fences: true,
			when: func(m *memory, i int) bool { return about(m, i) && m.load(aboutAt) == l.block(i) },
			run:  l.resize},
		{name: "the first block", only: -1, anywhere: true,
			when: func(m *memory, i int) bool { return m.load(aboutAt) == 0 && m.load(l.entry(i)) == noBlock },
			run:  func(m *memory, i int) { m.store(l.entry(i), l.block(i)) }},
	}
}

func (list) saw(m *memory, v []uint64) {
	m.saw(uint64(len(v)))
	for _, h := range v {
		m.saw(h)
	}
}

// mayWrite returns the block of the thread's index, unless the writer has fenced.
func (l list) mayWrite(m *memory, t thread) (spans []span) {
	if !t.registered || t.place >= l.n {
		return nil
	}
	blocks := []uint64{m.load(l.entry(t.place))}
	if b := m.load(aboutAt); b != 0 && m.load(aboutAt+8) == uint64(t.place) {
		blocks = append(blocks, b)
	}
	for _, b := range blocks {
		if b != noBlock {
			spans = append(spans, span{b + abi.BlockCount, 8}, span{item(b, 0), 8 * m.load(b+abi.BlockCap)})
		}
	}
	return spans
}

func (l list) retired(m *memory) (spans []span) {
	for i := range 2 {
		if b := l.spare(i); m.load(l.entry(i)) == b || m.load(aboutAt) == b {
			spans = append(spans, span{l.block(i), abi.BlockItems + 8*listCap})
		}
	}
	return spans
}

// loose returns the handles beyond the count of each block.
func (l list) loose(m *memory) (spans []span) {
	for i := range 2 {
		for _, b := range []uint64{l.block(i), l.spare(i)} {
			count, room := m.load(b+abi.BlockCount), m.load(b+abi.BlockCap)
			spans = append(spans, span{item(b, count), 8 * (room - count)})
		}
	}
	return spans
}

func init() {
	for _, op := range []string{"push", "pop", "push_batch", "pop_batch"} {
		operations = append(operations, operation{op, func(*image) (all []*scenario) {
			for _, x := range []index{cpuID, mmCID} {
				all = append(all, listScenario(op, x, 2, 1, 2).alsoElsewhere()...)
				for _, s := range []*scenario{listScenario(op, x, 2, 0, 3), listScenario(op, x, 2, -1, 1)} {
					all = append(all, s, s.on(onOne, ""))
				}
				all = append(all, listScenario(op, x, 1, 2, 2).on(onOne, ", room for one index"))
				// Three events, in V2 mode and without batches of other threads.
				three := listScenario(op, x, 2, 1, 2)
				three.title += ", fewer others"
				three.events, three.onlyV2 = 3, true
				three.others = slices.DeleteFunc(three.others, func(o other) bool { return strings.HasSuffix(o.name, "of two") })
				all = append(all, three)
			}
			return all
		}})
	}
}

// listScenario returns a scenario whose blocks have counts handles; -1 is no block.
func listScenario(op string, x index, n int, counts ...int) *scenario {
	l := list{n}
	s := &scenario{
		op: op, function: "cs_" + op + "_cpu_id", index: x, tries: abi.Tries,
		start: onZero, gate: openGate(2), events: 2, gates: ownGates(x), fails: slowly,
		others: l.others(), mayWrite: l.mayWrite, retired: l.retired,
		loose: func(m *memory, _ outcome) []span { return l.loose(m) },
		setup: func(m *memory) {
			m.store(structs+abi.ListBlocks, dataAt)
			m.store(structs+ownN(op, x), uint64(n))
			for i := range batchSize {
				m.store(handles+8*uint64(i), uint64(0xc1+i))
			}
			for i, count := range counts {
				b := l.block(i)
				m.store(b+abi.BlockCap, listCap)
				m.store(l.entry(i), b)
				if count < 0 {
					m.store(l.entry(i), noBlock)
					count = 0
				}
				m.store(b+abi.BlockCount, uint64(count))
				for k := range count {
					m.store(item(b, uint64(k)), uint64(0x10*(i+1)+k))
				}
			}
		},
	}
	for _, c := range counts {
		switch {
		case c < 0:
			s.title += "no block "
		case c == 0:
			s.title += "an empty list "
		case c == listCap:
			s.title += "a full list "
		default:
			s.title += "a list "
		}
	}
	s.title = s.title[:len(s.title)-1]
	moved := func(n int, m *memory) outcome {
		if n == 0 {
			return s.fails(abi.CompareFailed)
		}
		return outcome{results: []value{u64(uint64(n))}}
	}
	var body func(m *memory, i int) outcome
	batch := []value{u64(structs), u64(handles), u64(batchSize), u64(slowAt), {0, 32}}
	switch op {
	case "push":
		s.args = []value{u64(structs), u64(0xc0), u64(slowAt), {0, 32}}
		body = func(m *memory, i int) outcome {
			if l.push(m, i, 0xc0) == 0 {
				return s.fails(abi.CompareFailed)
			}
			return outcome{results: []value{{1, 8}}}
		}
	case "pop":
		s.args = []value{u64(structs), u64(slowAt), {0, 32}}
		body = func(m *memory, i int) outcome {
			v := l.pop(m, i, 1)
			if len(v) == 0 {
				return s.fails(abi.CompareFailed)
			}
			return outcome{results: []value{u64(v[0]), {1, 8}}}
		}
	case "push_batch":
		s.args = batch
		body = func(m *memory, i int) outcome {
			return moved(int(l.push(m, i, m.load(handles), m.load(handles+8))), m)
		}
	case "pop_batch":
		s.args = batch
		body = func(m *memory, i int) outcome {
			v := l.pop(m, i, batchSize)
			for k, h := range v {
				m.store(handles+8*uint64(k), h)
			}
			return moved(len(v), m)
		}
		s.mayWrite = func(m *memory, t thread) []span {
			return append(l.mayWrite(m, t), span{handles, 8 * batchSize})
		}
		s.loose = func(m *memory, o outcome) []span {
			written := uint64(0)
			if o.how == returned {
				written = o.results[0].v
			}
			return append(l.loose(m), span{handles + 8*written, 8 * (batchSize - written)})
		}
	}
	s.status = len(s.args) - 1
	s.slow = s.status - 1
	s.do = own(s, func(m *memory, i int) outcome {
		if i >= l.n {
			return s.fails(abi.OutOfRange)
		}
		return body(m, i)
	})
	return s
}
