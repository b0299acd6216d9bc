package main

import (
	"math"

	"github.com/rseq-go/rseq/internal/abi"
)

// histogram has two buckets for each of n indexes; what is called is to observe in the second.
type histogram struct{ n int }

const (
	bucketSize      = 24
	histogramStride = 0x40
	histogramClosed = 0

	closedWords, readWords = 1, 2 // at aboutAt: what a snapshot has done
)

func (histogram) bucket(i, k int) uint64 {
	return dataAt + uint64(i)*histogramStride + uint64(k)*bucketSize
}

// sum returns where a bucket's sum is, or the one that means nothing.
func (h histogram) sum(m *memory, i, k int, other uint64) uint64 {
	b := h.bucket(i, k)
	return b + abi.BucketSums + 8*((m.load(b+abi.BucketCount)+other)%2)
}

// observe is the pseudocode, and reports whether the histogram was open.
func (h histogram) observe(m *memory, i, k int, v float64) bool {
	if m.load(structs+abi.WordsState) != abi.WordsOpen {
		return false
	}
	old := math.Float64frombits(m.load(h.sum(m, i, k, 0)))
	m.store(h.sum(m, i, k, 1), math.Float64bits(old+v))
	count := h.bucket(i, k) + abi.BucketCount
	m.store(count, m.load(count)+1)
	return true
}

func (h histogram) others() []other {
	state := uint64(structs + abi.WordsState)
	unread := func(m *memory, _ int) bool { return m.load(aboutAt) == closedWords }
	return []other{
		{name: "an observation", only: -1, run: func(m *memory, i int) { h.observe(m, i, 1, 1000) }},
		{name: "an observation in another bucket", only: -1, run: func(m *memory, i int) { h.observe(m, i, 0, 1) }},
		{name: "a snapshot closes the words", only: 0, anywhere: true,
			when: func(m *memory, _ int) bool { return m.load(state) == abi.WordsOpen },
			run:  func(m *memory, _ int) { m.store(aboutAt, closedWords); m.store(state, histogramClosed) }},
		{name: "the snapshot reads them", only: 0, anywhere: true, when: unread, run: func(m *memory, _ int) {
			for i := range 2 {
				m.saw(m.load(h.bucket(i, 1) + abi.BucketCount))
				m.saw(m.load(h.sum(m, i, 1, 0)))
			}
			m.store(aboutAt, readWords)
		}},
		{name: "the words open", only: 0, anywhere: true,
			when: func(m *memory, i int) bool { return m.load(state) != abi.WordsOpen && !unread(m, i) },
			run:  func(m *memory, _ int) { m.store(state, abi.WordsOpen) }},
	}
}

func init() {
	operations = append(operations, operation{"observe", func(*image) (all []*scenario) {
		for _, x := range []index{cpuID, mmCID} {
			all = append(all, histogramScenario("open", x, 2, abi.WordsOpen).alsoElsewhere()...)
			all = append(all, histogramScenario("closed", x, 2, histogramClosed),
				histogramScenario("words for one index", x, 1, abi.WordsOpen).on(onOne, ""))
		}
		return all
	}})
}

func histogramScenario(title string, x index, n int, state uint64) *scenario {
	h := histogram{n}
	const v = 2.5
	s := &scenario{
		op: "observe", function: "cs_observe_cpu_id", index: x, title: title,
		args: []value{u64(structs), u64(bucketSize), u64(math.Float64bits(v)), u64(slowAt)}, slow: 3, status: -1, tries: abi.Tries,
		start: onZero, gate: openGate(2), events: 3, gates: ownGates(x), fails: slowly,
		setup: func(m *memory) {
			m.store(structs+abi.CellsBase, dataAt)
			m.store(structs+abi.CellsStride, histogramStride)
			m.store(structs+ownN("observe", x), uint64(n))
			m.store(structs+abi.WordsState, state)
			for i := range 2 { // an even and an odd count
				m.store(h.bucket(i, 1)+abi.BucketCount, uint64(100+i))
				m.store(h.sum(m, i, 1, 0), math.Float64bits(float64(200+i)))
				m.store(h.sum(m, i, 1, 1), math.Float64bits(0.5))
			}
		},
		others: h.others(),
		// A section that saw the words open may still write when they are not.
		mayWrite: func(m *memory, t thread) []span {
			if !t.registered || t.place >= n ||
				m.load(structs+abi.WordsState) != abi.WordsOpen && m.load(aboutAt) == 0 {
				return nil
			}
			return []span{{h.bucket(t.place, 1), bucketSize}}
		},
		loose: func(m *memory, _ outcome) (spans []span) {
			for i := range 2 {
				spans = append(spans, span{h.sum(m, i, 1, 1), 8})
			}
			return spans
		},
	}
	s.do = own(s, func(m *memory, i int) outcome {
		if i >= n {
			return s.fails(abi.OutOfRange)
		}
		if !h.observe(m, i, 1, v) {
			return s.fails(abi.CompareFailed)
		}
		return outcome{}
	})
	s.late = func(m *memory, t thread) (o outcome, possible bool) {
		if !t.registered || t.place >= n || m.load(aboutAt) == 0 {
			return outcome{}, false
		}
		state := m.load(structs + abi.WordsState)
		m.store(structs+abi.WordsState, abi.WordsOpen)
		h.observe(m, t.place, 1, v)
		m.store(structs+abi.WordsState, state)
		return outcome{}, true
	}
	return s
}
