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

import (
	"unsafe"

	"github.com/rseq-go/rseq/internal/abi"
)

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

// Uninitialized is the cpu_id of an area that is not registered. Another negative cpu_id
// means the same: the C library writes -2 where its registration was refused.
const Uninitialized = abi.CPUIDUninitialized

// The types of slow paths.
type (
	ReadSlow  func(gate *Gate) int32
	IndexSlow func(x uint8, gate *Gate) int32
	CountSlow func(counter unsafe.Pointer, delta int64, gate *Gate)
	LockSlow  func(lock unsafe.Pointer, delta int64, gate *Gate) bool
	PushSlow  func(list unsafe.Pointer, v uint64, gate *Gate, status uint32) bool
	PopSlow   func(list unsafe.Pointer, gate *Gate, status uint32) (v uint64, ok bool)
	BatchSlow func(list unsafe.Pointer, v *uint64, n int, gate *Gate, status uint32) int
)

// Adopt opens the gate that a slow path was given, if it is that of a plugin's copy of the
// sections. Package rseq sets it.
var Adopt = func(*Gate) {}

// Disturbance is what a live check does to a thread that is inside a critical section: enum
// rseqgo_disturbance of internal.h.
type Disturbance int

const (
	Preempted Disturbance = iota
	Signalled
	Migrated
)

// Disturbances are all of them.
var Disturbances = [...]Disturbance{Preempted, Signalled, Migrated}

func (d Disturbance) String() string {
	return [...]string{Preempted: "preempted", Signalled: "signalled", Migrated: "migrated"}[d]
}

// LiveCheck makes a thread and disturbs it inside a critical section, rounds times. It counts
// how often the kernel aborted the section, as it must, and how often the section ran on.
// Unarmed, the section has no descriptor and cannot be aborted: so the check can be seen to
// fail. The error says why there were fewer rounds. Package rseq sets LiveCheck; it is nil
// in a build without critical sections.
var LiveCheck func(how Disturbance, rounds int, unarmed bool) (aborted, survived int, err error)
