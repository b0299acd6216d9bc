package main

import (
	"encoding/binary"

	"github.com/rseq-go/rseq/internal/abi"
)

// The addresses outside of the program.
const (
	worldAt = 0x10_0000_0000
	areaAt  = worldAt         // struct rseq
	slowAt  = worldAt + 0x40  // the function value slow: a pointer to code
	seenAt  = worldAt + 0x48  // a hash of what the operations of other threads returned
	aboutAt = worldAt + 0x50  // what a writer takes once it has fenced
	structs = worldAt + 0x60  // the operation's struct
	dataAt  = worldAt + 0x90  // the operation's data
	threads = worldAt + 0x800 // the thread pointer

	stackAt  = 0x20_0000_0000
	returnTo = 0x30_0000_0000 // the return address; a call ends there
	slowCode = returnTo + 0x100
	portable = returnTo + 0x200
)

// memory is the area and the data at worldAt.
type memory [0x200]byte

func (m *memory) load(at uint64) uint64 { return binary.LittleEndian.Uint64(m[at-worldAt:]) }
func (m *memory) store(at, v uint64)    { binary.LittleEndian.PutUint64(m[at-worldAt:], v) }
func (m *memory) store32(at uint64, v int32) {
	binary.LittleEndian.PutUint32(m[at-worldAt:], uint32(v))
}
func (m *memory) byte(at uint64) *byte { return &m[at-worldAt] }

// has reports whether the memory has n bytes at an address.
func (m *memory) has(at, n uint64) bool { return at >= worldAt && at-worldAt+n <= uint64(len(m)) }

// saw records what an operation of another thread returned.
func (m *memory) saw(v uint64) { m.store(seenAt, m.load(seenAt)*0x100000001b3+v+1) }

// span is a range of n bytes.
type span struct{ at, n uint64 }

func within(spans []span, at, n uint64) bool {
	for _, s := range spans {
		if at >= s.at && at+n <= s.at+s.n {
			return true
		}
	}
	return false
}

func overlaps(spans []span, at, n uint64) bool {
	for _, s := range spans {
		if at < s.at+s.n && s.at < at+n {
			return true
		}
	}
	return false
}

// index is a kind of index.
type index int

const (
	cpuID index = iota
	mmCID
)

func (x index) String() string { return [...]string{"cpu_id", "mm_cid"}[x] }

// thread is the thread's registration.
type thread struct {
	registered bool
	place      int // its index, of the operation's kind
}

// ids returns cpu_id and mm_cid of a thread. They always differ, so that a mix-up shows.
func (t thread) ids(x index) (cpu, mm int32) {
	if !t.registered {
		return -1, 0
	}
	cpu, mm = int32(t.place), int32(1-t.place)
	if x == mmCID {
		cpu, mm = mm, cpu
	}
	return cpu, mm
}

// node returns the node_id of a thread.
func (t thread) node() int32 {
	if !t.registered {
		return 0
	}
	return int32(10 + t.place)
}

// write writes the ids of an area, as the kernel does.
func (t thread) write(m *memory, x index) {
	cpu, mm := t.ids(x)
	m.store32(areaAt+abi.OffsetCPUIDStart, max(cpu, 0))
	m.store32(areaAt+abi.OffsetCPUID, cpu)
	m.store32(areaAt+abi.OffsetNodeID, t.node())
	m.store32(areaAt+abi.OffsetMMCID, mm)
}

// gate has the words of type Gate in internal/section.
type gate [abi.GateSize / 8]uint64

// openGate returns an open gate for a number of possible indexes.
func openGate(possible uint64) (g gate) {
	for i := range g {
		g[i] = areaDistance
	}
	g[abi.GatePossible/8] = possible
	return g
}

const areaDistance = ^uint64(threads-areaAt) + 1
