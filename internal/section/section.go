// Package section has the Go declarations of the functions in cs_<arch>.s: the readers of
// the calling thread's rseq area and the critical sections. They stand in assembly for
// GNU as, in package rseq, which a program that uses this package must link; the compiler
// calls them directly, with arguments in registers (Go's ABIInternal). There is nothing
// between a caller and the first instruction.
//
// Such a function uses no stack and Go does not preempt it, since it is not Go's: the
// thread cannot change while it runs, no garbage collection can end, and no stack moves.
// So a pointer argument may point anywhere, stacks included, and what it points to stays.
//
// # Slow paths
//
// An operation that may have to do something else has an argument slow: a Go function
// that it jumps to in place of itself, with its own arguments but for slow, whose place
// the [Gate] has. A slow function must be at package level, no closure, so that its value
// is a constant. It returns to the operation's caller.
//
// # Without sections
//
// In a build without cgo, with the build tag purego, or for another architecture than
// amd64 and arm64 the functions have Go bodies, which take the slow path or answer
// NotRegistered. The same bodies serve where [Convention] is an error.
package section

import "unsafe"

// A Gate says to the sections of one program or library where the rseq areas are. Zero
// closes: then the slow path is taken, or the answer is NotRegistered. A plugin and its
// host have a copy of the sections each, and so a gate each, but share package rseq.
//
// All but Possible are bytes from the thread pointer to the area. Package rseq writes it,
// atomically, Possible first.
type Gate struct {
	ReadCPUID, ReadNodeID, ReadMMCID uintptr // where a reader may read its field
	CSCPUID, CSMMCID                 uintptr // where sections with that index may run
	Possible                         uint64  // how many indexes there can be
}

// Uninitialized is the kernel's cpu_id of an area that is not registered
// (RSEQ_CPU_ID_UNINITIALIZED). Any negative cpu_id means that.
const Uninitialized = -1

// The types of slow paths.
type (
	ReadSlow  func(gate *Gate) int32
	IndexSlow func(x uint8, gate *Gate) int32
	CountSlow func(counter unsafe.Pointer, delta int64, gate *Gate)
	LockSlow  func(lock unsafe.Pointer, delta int64, gate *Gate) bool
	PushSlow  func(list unsafe.Pointer, v uint64, gate *Gate, status uint32) bool
	PopSlow   func(list unsafe.Pointer, gate *Gate, status uint32) (v uint64, ok bool)
	TakeSlow  func(list unsafe.Pointer, gate *Gate, status uint32) (v unsafe.Pointer, ok bool)
	BatchSlow func(list unsafe.Pointer, v *uint64, n int, gate *Gate, status uint32) int
)

// Adopt opens the gate that a slow path was given, if it is that of a plugin's copy of the
// sections. Package rseq sets it.
var Adopt = func(*Gate) {}

// Disturbance is what befalls a thread inside a critical section in a live check:
// enum rseqgo_disturbance of internal.h.
type Disturbance int

const (
	Preempted Disturbance = iota
	Signalled
	Migrated
)

// LiveCheck disturbs a thread made for the purpose in a critical section, so many
// times, and counts how often the section was aborted, as it must be, and how
// often it ran on. Unarmed, the section is none, so that nothing aborts it. The
// error says why a round could not be played. Package rseq sets it; nil where
// there are no critical sections.
var LiveCheck func(how Disturbance, rounds int, unarmed bool) (aborted, survived int, err error)
