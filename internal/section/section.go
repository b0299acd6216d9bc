// Package section declares the functions of cs_<arch>.s in Go: the readers of the calling
// thread's rseq area and the critical sections. They are assembly for GNU as and belong to
// package rseq, which a program that uses this package must link. The compiler calls them
// directly, with arguments in registers (Go's ABIInternal), without a trampoline.
//
// Such a function uses no stack, and Go does not preempt it, since it is not Go code: while
// it runs the goroutine stays on its thread, no garbage collection can end, and no stack
// moves. So a pointer argument may point anywhere, stacks included, and what it points to
// stays in place.
//
// # Slow paths
//
// An operation with a slow path has an argument slow, a Go function. Where the section cannot
// do the operation it jumps to slow with its own arguments; only slow itself is replaced, by
// the address of the [Gate]. slow must be a function at package level and no closure, so
// that its value is a constant. It returns to the caller of the operation.
//
// # Without sections
//
// In a build without cgo, with the build tag purego, or for another architecture than
// amd64, arm64 and riscv64 the functions have Go bodies, which take the slow path or return
// NotRegistered. The same bodies are used where [Convention] returns an error.
package section

import (
	"unsafe"

	"github.com/rseq-go/rseq/internal/abi"
)

// A Gate tells the sections of one program or library where the rseq areas are. A word that
// is zero closes the gate: the section takes the slow path, or returns NotRegistered. A
// plugin and its host have their own copies of the sections and so their own gates, but
// share package rseq.
//
// Every word but Possible is the distance in bytes from the thread pointer to the area.
// Package rseq writes the words atomically, Possible first.
type Gate struct {
	ReadCPUID, ReadNodeID, ReadMMCID uintptr // for the reader of that field
	CSCPUID, CSMMCID                 uintptr // for sections with that index
	Possible                         uint64  // how many indexes there can be
}

// Uninitialized is the cpu_id of an area that is not registered. Another negative cpu_id
// means the same: the C library writes -2 where its registration was refused.
const Uninitialized = abi.CPUIDUninitialized

// The types of slow paths.
type (
	ReadSlow    func(gate *Gate) int32
	IndexSlow   func(x uint8, gate *Gate) int32
	CountSlow   func(counter unsafe.Pointer, delta int64, gate *Gate)
	FloatSlow   func(counter unsafe.Pointer, delta uint64, gate *Gate)
	ObserveSlow func(histogram unsafe.Pointer, bucket uintptr, v uint64, gate *Gate)
	LockSlow    func(lock unsafe.Pointer, delta int64, gate *Gate) bool
	PushSlow    func(list unsafe.Pointer, v uint64, gate *Gate, status uint32) bool
	PopSlow     func(list unsafe.Pointer, gate *Gate, status uint32) (v uint64, ok bool)
	TakeSlow    func(list unsafe.Pointer, gate *Gate, status uint32) (v unsafe.Pointer, ok bool)
	BatchSlow   func(list unsafe.Pointer, v *uint64, n int, gate *Gate, status uint32) int
)

// Adopt opens the gate that a slow path got, if it is the gate of a plugin's sections.
// Package rseq sets Adopt.
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
