package rseq

import (
	"errors"
	"runtime"
	"sync/atomic"

	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/processor"
	"github.com/rseq-go/rseq/internal/section"
)

// Thread reads the rseq area of the thread that a goroutine is locked to. Its
// methods are for that goroutine alone, between [LockThread] and
// [Thread.Unlock]; those that read inline to one atomic load. (Atomic for the
// compiler, which would merge two plain loads into one.) It must not be copied.
//
// A goroutine that ends while locked takes its thread along, or, if that is the main one,
// leaves it parked: no other goroutine may hold its Thread.
type Thread struct {
	// Fields of the area, in the C library's thread-local storage, or absent.
	cpuID, nodeID, mmCID *int32
	slice                *uint32 // slice_ctrl; nil: not enabled
	enabledSlice         bool    // by this Thread: Unlock disables it
	requested            bool
	unlocked             bool
}

// absent stands for a field that the area does not have.
var absent int32 = section.Uninitialized

var errUnlocked = errors.New("rseq: this Thread was unlocked")

// LockThread locks the calling goroutine to its thread, as
// [runtime.LockOSThread] does, and returns a reader of that thread's area.
// Where the thread is not registered its methods ask getcpu(2). The error
// matches [ErrNotSupported] where there is nothing to ask; the goroutine is
// then not locked.
func LockThread() (*Thread, error) {
	runtime.LockOSThread()
	if _, err := CPU(); err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	t := &Thread{cpuID: &absent, nodeID: &absent, mmCID: &absent}
	if known.Load().mayRegister() && atomic.LoadInt32(field(abi.OffsetCPUID)) < 0 {
		register(false)
	}
	if info := &known.Load().info; info.Owner != OwnerNone && atomic.LoadInt32(field(abi.OffsetCPUID)) >= 0 {
		t.cpuID = field(abi.OffsetCPUID)
		if info.Features.Has(FeatureNodeID) {
			t.nodeID = field(abi.OffsetNodeID)
		}
		if info.Features.Has(FeatureMMCID) {
			t.mmCID = field(abi.OffsetMMCID)
		}
	}
	return t, nil
}

// Unlock undoes LockThread and EnableSliceExtension. Afterwards every method that
// reads returns -1 and an error. A second Unlock does nothing.
func (t *Thread) Unlock() {
	if t.unlocked {
		return
	}
	t.YieldSlice()
	if t.enabledSlice {
		kernel.SetSliceExtension(false)
	}
	t.forget()
	t.unlocked = true
	runtime.UnlockOSThread()
}

// CPU is like the function [CPU].
func (t *Thread) CPU() (int, error) {
	if c := atomic.LoadInt32(t.cpuID); c >= 0 {
		return int(c), nil
	}
	return t.slow(CPU)
}

// NodeID is like the function [NodeID].
func (t *Thread) NodeID() (int, error) {
	if n := atomic.LoadInt32(t.nodeID); n >= 0 {
		return int(n), nil
	}
	return t.slow(NodeID)
}

// ConcurrencyID is like the function [ConcurrencyID].
func (t *Thread) ConcurrencyID() (int, error) {
	if c := atomic.LoadInt32(t.mmCID); c >= 0 {
		return int(c), nil
	}
	return t.slow(ConcurrencyID)
}

// Confirm has the kernel say whether this thread is registered where the methods
// read, by system calls that change nothing, under a seccomp filter as [Query] does.
// Refuted though the area says that it is registered, as after a restore from a
// checkpoint without registrations, no area of this process is believed any more:
// everything is done the portable way, and critical sections are refused. Threads that
// were locked before read the area until their own Confirm or Unlock. Where CPU and node
// come from the processor, that is held against getcpu(2) again.
func (t *Thread) Confirm() Confirmation {
	if t.unlocked {
		return NotAsked
	}
	processor.Confirm()
	learning.Lock()
	defer learning.Unlock()
	k := *known.Load()
	if k.info.Owner == OwnerNone {
		t.forget()
		return NotAsked
	}
	asked := k.ask()
	if asked.err != nil {
		learn(asked)
		t.forget()
	}
	return asked.info.Confirmed
}

// forget has every method go the slow way.
func (t *Thread) forget() {
	t.cpuID, t.nodeID, t.mmCID = &absent, &absent, &absent
	t.slice, t.requested = nil, false
}

// slow is behind the methods' one load: it says no, or asks the portable way.
func (t *Thread) slow(ask func() (int, error)) (int, error) {
	if t.unlocked {
		return -1, errUnlocked
	}
	return ask()
}
