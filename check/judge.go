package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rseq-go/rseq/internal/abi"
)

// candidate is a right result: the result of one order of the operations.
type candidate struct {
	m memory
	o outcome
}

// judge checks the end of a call: first where and how it ended, then the outcome.
func (c *checker) judge(s *state) *failure {
	a := c.image.arch
	var o outcome
	kept, sp := a.kept, c.entry
	if c.s.c {
		kept = a.cKept
	}
	in := a.arguments
	if c.s.c {
		in = a.cArguments
	}
	switch pc := s.pc(a); pc {
	case returnTo:
		out := a.arguments
		if c.s.c {
			out = []int{a.cResult}
		}
		for _, r := range out {
			o.results = append(o.results, u64(s.regs[r]))
		}
		if a.link < 0 {
			sp += 8
		}
	case slowCode:
		o.how = tookSlow
		if c.s.slow < 0 {
			return c.fail("it takes a slow path: it has none")
		}
		if s.regs[a.context] != slowAt {
			return c.fail("at the slow path %s is %#x: expected the function value, %#x", a.registers[a.context].name, s.regs[a.context], uint64(slowAt))
		}
		for n, v := range c.s.args {
			switch n {
			case c.s.slow:
				v = u64(c.gateAt)
			case c.s.status:
				o.status = int(uint32(s.regs[in[n]]))
				if o.status >= len(statuses) {
					return c.fail("it takes the slow path with the status %d", o.status)
				}
				continue
			}
			if !v.same(s.regs[in[n]]) {
				return c.fail("at the slow path argument %d, %s, is %#x: expected %#x", n, a.registers[in[n]].name, s.regs[in[n]], v.v)
			}
		}
	case portable:
		o.how = tookPortable
		// If the first word of the gate was zero, no register but those in opening may have
		// changed. If another word was, the function for mm_cid was reached through the one
		// for cpu_id, which changes more: then only the arguments must be the caller's.
		for n, r := range a.registers {
			if c.first.g[c.s.gates[0]] != 0 && !slices.Contains(in[:len(c.s.args)], n) {
				continue
			}
			if n != a.pc && !slices.Contains(a.opening, n) && s.regs[n] != c.first.regs[n] {
				return c.fail("at the portable function %s is %#x: expected %#x, as in the call", r.name, s.regs[n], c.first.regs[n])
			}
		}
	default:
		return c.fail("it ends at %#x", pc)
	}
	if s.regs[a.sp] != sp {
		return c.fail("the stack pointer is %#x: expected %#x", s.regs[a.sp], sp)
	}
	for _, r := range kept {
		if s.regs[r] != c.first.regs[r] {
			return c.fail("%s is %#x: expected %#x, as it was", a.registers[r].name, s.regs[r], c.first.regs[r])
		}
	}
	if !c.e.vectorIsZero() {
		return c.fail("the vector register that Go keeps zero is not")
	}
	// Compare with the results that are right.
	history := string(s.happened())
	right, ok := c.judged[history]
	if !ok {
		right = c.orders(s)
		c.judged[history] = right
	}
	var why []string
	for n, r := range right {
		if n == len(right)-1 && (c.s.tries == 0 || s.disturbed < c.s.tries) {
			break // the last candidate, which gave up
		}
		difference := c.compare(s, o, r)
		if difference == "" {
			return nil
		}
		if !slices.Contains(why, difference) {
			why = append(why, difference)
		}
	}
	return c.fail("wrong in every order: %s", strings.Join(why, "; or "))
}

// orders returns the right results, one for each order of the operations, and at last the result
// of an operation that gave up.
func (c *checker) orders(s *state) (right []candidate) {
	m, t, g := c.first.m, c.first.t, c.first.g
	var lates []candidate
	var after []int
	for n := 0; ; n++ {
		r := candidate{m: m}
		switch {
		case slices.ContainsFunc(c.s.gates, func(w int) bool { return g[w] == 0 }):
			r.o = outcome{how: tookPortable}
			if !c.s.portable || !t.registered && g[c.s.gates[0]] != 0 {
				r.o = c.s.fails(abi.NotRegistered)
			}
		default:
			r.o = c.s.do(&r.m, t, g)
			if c.s.late != nil {
				late, possible := candidate{m: m}, false
				if late.o, possible = c.s.late(&late.m, t); possible {
					lates = append(lates, late)
					after = append(after, n)
				}
			}
		}
		right = append(right, r)
		if n == s.n {
			break
		}
		e := s.history[n]
		if e.other >= 0 {
			c.s.others[e.other].run(&m, e.at)
		}
		t = e.after
		if e.opened {
			g = *c.s.opens
		}
	}
	r := candidate{m: m}
	if c.s.tries > 0 {
		r.o = c.s.fails(abi.Raced)
	}
	// then runs the operations of other threads that came after ours.
	then := func(m *memory, k int) {
		for _, e := range s.history[k:s.n] {
			if e.other >= 0 {
				c.s.others[e.other].run(m, e.at)
			}
		}
	}
	for k := range right {
		then(&right[k].m, k)
	}
	for k := range lates {
		then(&lates[k].m, after[k])
	}
	return append(append(right, lates...), r)
}

// compare describes how an end differs from a candidate, "" if it does not.
func (c *checker) compare(s *state, o outcome, r candidate) string {
	if o.how != r.o.how || o.how == tookSlow && c.s.status >= 0 && o.status != r.o.status {
		return fmt.Sprintf("it is %v, expected %v", c.shown(o), r.o)
	}
	if o.how == returned {
		for n, v := range r.o.results {
			if !v.same(o.results[n].v) {
				return fmt.Sprintf("result %d is %#x, expected %v", n, o.results[n].v, r.o)
			}
		}
	}
	var loose []span
	if c.s.loose != nil {
		loose = c.s.loose(&r.m, r.o)
	}
	for at := uint64(slowAt); at < worldAt+uint64(len(s.m)); at += 8 {
		if s.m.load(at) == r.m.load(at) {
			continue
		}
		for b := at; b < at+8; b++ {
			if *s.m.byte(b) != *r.m.byte(b) && !overlaps(loose, b, 1) {
				return fmt.Sprintf("%v: at %s is %#x, expected %#x", r.o, c.place(at), s.m.load(at), r.m.load(at))
			}
		}
	}
	return ""
}

// shown returns the outcome with the operation's number of results.
func (c *checker) shown(o outcome) outcome {
	if o.how == returned {
		o.results = o.results[:min(2, len(o.results))]
	}
	return o
}
