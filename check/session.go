package main

import (
	"encoding/binary"
	"strings"
)

// session is an emulator with an image.
type session struct {
	image     *image
	e         *emulator
	world     []byte
	stack     []byte
	gateAt    uint64
	gateBytes []byte
	covered   map[uint64]uint32 // the sizes of the instructions that ran
	steps     uint64
}

func newSession(i *image) (s *session, err error) {
	s = &session{image: i, covered: map[uint64]uint32{}}
	if s.e, err = newEmulator(i.arch); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.e.close()
		}
	}()
	for _, l := range i.loads {
		b, err := s.e.mapMemory(l.at, uint64(len(l.bytes)))
		if err != nil {
			return nil, err
		}
		copy(b, l.bytes)
	}
	if s.world, err = s.e.mapMemory(worldAt, page); err != nil {
		return nil, err
	}
	if s.stack, err = s.e.mapMemory(stackAt, page); err != nil {
		return nil, err
	}
	if _, err = s.e.mapMemory(returnTo, page); err != nil {
		return nil, err
	}
	if s.gateAt, err = i.at("gate"); err != nil {
		return nil, err
	}
	s.gateBytes = s.e.bytes(s.gateAt, uint64(len(gate{})*8))
	return s, s.e.setThreadPointer(threads)
}

// checker returns a checker of a scenario.
func (s *session) checker(sc *scenario, v2 bool) (*checker, error) {
	c := &checker{session: s, s: sc, v2: v2, memo: map[[2]uint64]uint64{}, judged: map[string][]candidate{}}
	a := s.image.arch
	for n := range a.registers {
		c.first.regs[n] = junk(n)
	}
	c.entry = stackAt + page/2
	c.first.regs[a.sp] = c.entry
	if a.flags >= 0 {
		c.first.regs[a.flags] = a.firstFlags
	}
	if a.link < 0 {
		binary.LittleEndian.PutUint64(s.stack[page/2:], returnTo)
	} else {
		c.first.regs[a.link] = returnTo
	}
	in := a.arguments
	if sc.c {
		in = a.cArguments
	}
	for n, v := range sc.args {
		r := &c.first.regs[in[n]]
		*r = *r<<v.bits | v.v // the bits above a narrow argument are arbitrary
	}
	foreign := "cs_spin"
	if sc.function == foreign {
		foreign = "cs_add_cpu_id"
	}
	var err error
	if c.foreign, err = s.image.at(foreign + "_descriptor"); err != nil {
		return nil, err
	}
	at, err := s.image.at(sc.function)
	if err != nil {
		return nil, err
	}
	c.first.regs[a.pc] = at
	for _, name := range []string{sc.function, strings.TrimSuffix(sc.function, "_cpu_id") + "_mm_cid"} {
		if f, ok := s.image.symbols[name]; ok {
			c.code = append(c.code, span{f.Value, f.Size})
		}
	}
	if sc.op != "" {
		word, err := s.image.at("portable_" + sc.op)
		if err != nil {
			return nil, err
		}
		var to uint64
		if sc.portable {
			to = portable
		}
		binary.LittleEndian.PutUint64(s.e.bytes(word, 8), to)
	}
	c.first.t, c.first.g = sc.start, sc.gate
	sc.start.write(&c.first.m, sc.index)
	c.first.m.store(slowAt, slowCode)
	if sc.setup != nil {
		sc.setup(&c.first.m)
	}
	return c, nil
}

func junk(n int) uint64 { return 0x5eed_0000_0000_0000 + uint64(n+1)*0x0101_0101 }

// check tries all schedules of a scenario with up to budget events, and returns the numbers of
// schedules and states. The error is a *failure if one of them is wrong.
func (s *session) check(sc *scenario, v2 bool, budget int) (schedules, states uint64, err error) {
	c, err := s.checker(sc, v2)
	if err != nil {
		return 0, 0, err
	}
	// An event at no boundary, at every boundary as often as it comes, and at each alone.
	pcs, f := c.always(func(uint64) bool { return false }, false)
	all := []func(uint64) bool{func(uint64) bool { return true }}
	for _, pc := range pcs {
		all = append(all, func(at uint64) bool { return at == pc })
	}
	for _, at := range all {
		for _, migrates := range []bool{false, true} {
			if f == nil && budget > 0 {
				_, f = c.always(at, migrates)
				schedules++
			}
		}
	}
	c.trail = c.trail[:0]
	if f == nil {
		var n uint64
		first := c.first
		n, f = c.explore(&first, budget, 0)
		schedules += n
	}
	if f != nil {
		return schedules, uint64(len(c.memo)), f
	}
	return schedules, uint64(len(c.memo)), nil
}
