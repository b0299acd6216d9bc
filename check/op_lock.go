package main

import "github.com/rseq-go/rseq/internal/abi"

// lock is a struct rwmutex at structs, with its readers and two words for each index, which count
// read unlocks and read locks.
type lock struct{ n int }

const (
	readersAt    = dataAt
	lockWords    = dataAt + 0x40
	lockStride   = 0x40
	lockDraining = 2
)

func (lock) word(i int, delta uint64) uint64 {
	at := lockWords + uint64(i)*lockStride
	if delta == 1 {
		at += 8
	}
	return at
}

// add is the pseudocode. It reports whether the lock was open.
func (l lock) add(m *memory, i int, delta uint64) bool {
	if m.load(structs+abi.LockWords) == 0 || m.load(readersAt+abi.WordsState) != abi.WordsOpen {
		return false
	}
	m.store(l.word(i, delta), m.load(l.word(i, delta))+delta)
	return true
}

func (l lock) others() []other {
	state := uint64(readersAt + abi.WordsState)
	closing := func(m *memory, _ int) bool { return m.load(aboutAt) != 0 }
	saw := func(m *memory, ok bool) {
		if ok {
			m.saw(1)
		} else {
			m.saw(0)
		}
	}
	return []other{
		{name: "a read lock", only: -1, run: func(m *memory, i int) { saw(m, l.add(m, i, 1)) }},
		{name: "a read unlock", only: -1, run: func(m *memory, i int) { saw(m, l.add(m, i, ^uint64(0))) }},
		{name: "a writer closes the lock", only: 0, anywhere: true,
			when: func(m *memory, _ int) bool { return m.load(state) == abi.WordsOpen },
			run:  func(m *memory, _ int) { m.store(aboutAt, 1); m.store(state, lockDraining) }},
		{name: "the fence and the sum", only: 0, anywhere: true, fences: true, allCPUs: true, when: closing, run: func(m *memory, _ int) {
			for i := range 2 {
				m.saw(m.load(l.word(i, 1)))
				m.saw(m.load(l.word(i, 0)))
			}
			m.store(aboutAt, 0)
		}},
		{name: "the lock opens", only: 0, anywhere: true,
			when: func(m *memory, i int) bool { return m.load(state) != abi.WordsOpen && !closing(m, i) },
			run:  func(m *memory, _ int) { m.store(state, abi.WordsOpen) }},
	}
}

func init() {
	operations = append(operations, operation{"read_lock", func(*image) (all []*scenario) {
		for _, x := range []index{cpuID, mmCID} {
			for _, delta := range []uint64{1, ^uint64(0)} {
				all = append(all, lockScenario("open", x, 2, delta, abi.WordsOpen, readersAt).alsoElsewhere()...)
				all = append(all, lockScenario("draining", x, 2, delta, lockDraining, readersAt))
			}
			all = append(all, lockScenario("words for one index", x, 1, 1, abi.WordsOpen, readersAt).on(onOne, ""),
				lockScenario("never open", x, 2, 1, 0, 0))
		}
		return all
	}})
}

func lockScenario(title string, x index, n int, delta, state, readers uint64) *scenario {
	l := lock{n}
	if delta == 1 {
		title += ", lock"
	} else {
		title += ", unlock"
	}
	s := &scenario{
		op: "read_lock", function: "cs_read_lock_cpu_id", index: x, title: title,
		args: []value{u64(structs), u64(delta), u64(slowAt)}, slow: 2, status: -1, tries: abi.Tries,
		start: onZero, gate: openGate(2), events: 3, gates: ownGates(x), fails: slowly,
		setup: func(m *memory) {
			m.store(structs+abi.LockWords, readers)
			m.store(readersAt+abi.CellsBase, lockWords)
			m.store(readersAt+abi.CellsStride, lockStride)
			m.store(readersAt+ownN("read_lock", x), uint64(n))
			m.store(readersAt+abi.WordsState, state)
			for i := range 2 {
				m.store(l.word(i, 0), uint64(100+i))
				m.store(l.word(i, 1), uint64(200+i))
			}
		},
		others: l.others(),
		// A section that saw the lock open may add until the writer has fenced.
		mayWrite: func(m *memory, t thread) []span {
			if !t.registered || t.place >= n ||
				m.load(readersAt+abi.WordsState) != abi.WordsOpen && m.load(aboutAt) == 0 {
				return nil
			}
			return []span{{l.word(t.place, delta), 8}}
		},
	}
	s.do = own(s, func(m *memory, i int) outcome {
		if i >= n {
			return s.fails(abi.OutOfRange)
		}
		if !l.add(m, i, delta) {
			return s.fails(abi.CompareFailed)
		}
		return outcome{results: []value{{1, 8}}}
	})
	return s
}
