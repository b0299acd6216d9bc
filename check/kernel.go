package main

import (
	"encoding/binary"

	"github.com/rseq-go/rseq/internal/abi"
)

// Offsets in struct rseq_cs.
const (
	csStart = 8
	csLen   = 16
	csAbort = 24
	csSize  = 32
)

// interrupt does what the kernel does when it returns to a thread that was preempted, migrated
// or sent a signal, by the rules of Documentation/userspace-api/rseq.rst.
func (c *checker) interrupt(s *state) *failure {
	cs := s.m.load(areaAt + abi.OffsetRseqCS)
	if !s.t.registered || cs == 0 {
		return nil
	}
	d := c.e.bytes(cs, csSize)
	if d == nil {
		return c.fail("SIGSEGV: rseq_cs points to %#x, where nothing is mapped", cs)
	}
	word := binary.LittleEndian.Uint64
	start, n, abort := word(d[csStart:]), word(d[csLen:]), word(d[csAbort:])
	pc := &s.regs[c.image.arch.pc]
	if *pc-start < n {
		if word(d) != 0 {
			return c.fail("SIGSEGV: the descriptor at %#x has version and flags %#x", cs, word(d))
		}
		if abort-start < n {
			return c.fail("SIGSEGV: the descriptor at %#x has its abort address inside its section", cs)
		}
		signature := c.e.bytes(abort-4, 4)
		if signature == nil || binary.LittleEndian.Uint32(signature) != abi.Signature[c.image.arch.name] {
			return c.fail("SIGSEGV: no signature before the abort address %#x", abort)
		}
		*pc = abort
		s.disturbed++
	}
	if !c.v2 {
		s.m.store(areaAt+abi.OffsetRseqCS, 0)
	}
	return nil
}
