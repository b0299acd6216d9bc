package rseq

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/processor"
	"github.com/rseq-go/rseq/internal/section"
)

// Thread reads the rseq area of the thread that a goroutine is locked to. Its methods are
// for that goroutine only, between [LockThread] and [Thread.Unlock]. Those that read are
// inlined to one atomic load. (It is atomic because the compiler would merge two plain
// loads into one.) A Thread must not be copied.
//
// When a goroutine ends while it is locked, its thread ends too, or is parked if it is the
// main thread. So no other goroutine may use the Thread afterwards.
type Thread struct {
	// Fields of the area, in the thread's thread-local storage, or absent.
	cpuID, nodeID, mmCID *int32
	slice                *uint32 // slice_ctrl; nil: not enabled
	enabledSlice         bool    // by this Thread: Unlock disables it
	requested            bool
	unlocked             bool
}

// absent is read in place of a field that the area does not have.
var absent int32 = section.Uninitialized

var errUnlocked = errors.New("rseq: this Thread was unlocked")

// LockThread locks the calling goroutine to its thread, as
// [runtime.LockOSThread] does, and returns a reader of that thread's area. If the thread
// is not registered, the reader's methods do what the functions [CPU], [NodeID] and
// [ConcurrencyID] do. The error matches [ErrNotSupported] outside Linux; the goroutine is
// then not locked.
func LockThread() (*Thread, error) {
	runtime.LockOSThread()
	if _, err := CPU(); err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	t := &Thread{cpuID: &absent, nodeID: &absent, mmCID: &absent}
	if current.Load().mayRegister() && atomic.LoadInt32(field(abi.OffsetCPUID)) < 0 {
		register(false)
	}
	if info := &current.Load().info; info.Owner != OwnerNone && atomic.LoadInt32(field(abi.OffsetCPUID)) >= 0 {
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

// Confirm asks the kernel whether this thread is registered where the methods read, by
// system calls that change nothing; under a seccomp filter as [Query] does. If the kernel
// says no though the area says yes, as after a restore from a checkpoint without
// registrations, no area of this process is used any more: every call takes its slow path,
// and critical sections are refused. Threads that were locked before read the area until
// their own Confirm or Unlock. If CPU and node come from the processor, Confirm compares
// them with getcpu(2) again.
func (t *Thread) Confirm() Confirmation {
	if t.unlocked {
		return NotAsked
	}
	processor.Confirm()
	confirmation, areas := confirmThread()
	if !areas {
		t.forget()
	}
	return confirmation
}

// forget makes every method take the slow path.
func (t *Thread) forget() {
	t.cpuID, t.nodeID, t.mmCID = &absent, &absent, &absent
	t.slice, t.requested = nil, false
}

// slow is the slow path of the methods that read.
func (t *Thread) slow(ask func() (int, error)) (int, error) {
	if t.unlocked {
		return -1, errUnlocked
	}
	return ask()
}

// SliceOutcome is the result of a request for a time slice extension.
type SliceOutcome uint8

const (
	// SliceUnused: the kernel did not need the processor, or nothing was requested.
	SliceUnused SliceOutcome = iota
	// SliceYielded: the kernel let the thread go on, and got the processor from it now.
	SliceYielded
	// SliceRevoked: the thread was scheduled out, or may have been, because it took longer
	// than was granted, made a system call, or was granted nothing.
	SliceRevoked
)

func (o SliceOutcome) String() string { return name(o, "unused", "yielded", "revoked") }

// The bytes request and granted of slice_ctrl, in the word that they begin, on
// machines that store the lowest byte first.
const (
	sliceRequest = 0xff
	sliceGranted = 0xff00
)

// EnableSliceExtension enables time slice extensions for this thread, until Unlock. It
// needs Linux 7.0, built with CONFIG_RSEQ_SLICE_EXTENSION, which 7.2 has on amd64 and not
// on arm64.
//
//	t.RequestSlice()
//	// some microseconds that others wait for: with a lock held, say
//	t.YieldSlice()
//
// If the kernel needs the processor for another thread in between, it waits 5
// microseconds, or what rseq/slice_ext_nsec in debugfs says, at most 50; YieldSlice gives
// the processor up. A system call in between gives it up at once, and so does the return
// from a signal handler, those of the Go runtime included.
//
// The error matches [ErrNotSupported] if the kernel cannot do that, or the registration is
// not longer than the original 32 bytes. Those of glibc 2.41 and later are longer, and so
// are this package's. After an error RequestSlice and YieldSlice do nothing.
func (t *Thread) EnableSliceExtension() error {
	s := current.Load()
	switch {
	case t.unlocked:
		return errUnlocked
	case s.err != nil:
		return s.err
	case t.cpuID == &absent:
		return sliceError("the calling thread is not registered")
	case s.info.KernelFeatureSize < abi.NeedsSliceCtrl:
		return sliceError("it needs Linux 7.0, this kernel has %d bytes of fields", s.info.KernelFeatureSize)
	case !s.info.Features.Has(FeatureSliceCtrl):
		return sliceError("it needs a registration of more than %d bytes, as glibc 2.41 or later makes, or with "+
			"GLIBC_TUNABLES=glibc.pthread.rseq=0 this package: this area has %d bytes of fields", abi.OriginalLen, s.info.Size)
	}
	before := kernel.SliceExtension()
	switch err := kernel.SetSliceExtension(true); {
	case err == nil:
	case errors.Is(err, kernel.ENOTSUPP):
		return sliceError("this kernel was built without CONFIG_RSEQ_SLICE_EXTENSION, or started with rseq_slice_ext=off, " +
			"or the registration is in legacy mode")
	case errors.Is(err, syscall.ENXIO):
		return sliceError("the kernel has no registration of the calling thread: see Query")
	case errors.Is(err, syscall.EINVAL):
		return sliceError("this kernel's prctl(2) does not know it")
	default:
		return fmt.Errorf("rseq: time slice extension: prctl(2) was refused, by a seccomp filter? %w", err)
	}
	undo := func() {
		if !before {
			kernel.SetSliceExtension(false) // if it is refused, the extension stays on, unused
		}
	}
	// The area that is written must be the one that the kernel has.
	area := unsafe.Add(unsafe.Pointer(t.cpuID), -abi.OffsetCPUID)
	if atomic.LoadUint32((*uint32)(unsafe.Add(area, abi.OffsetFlags)))&abi.FlagSliceExtEnabled == 0 {
		undo()
		return sliceError("the kernel has another area of the calling thread than the one that was found: see Query")
	}
	// A filter may allow prctl and refuse this call. Nothing is granted now, so it does
	// nothing.
	if _, err := kernel.SliceYield(); err != nil {
		undo()
		return fmt.Errorf("rseq: time slice extension: rseq_slice_yield was refused, by a seccomp filter? %w", err)
	}
	t.slice = (*uint32)(unsafe.Add(area, abi.OffsetSliceCtrl))
	t.enabledSlice = t.enabledSlice || !before
	return nil
}

func sliceError(format string, args ...any) error {
	return notSupportedError("time slice extension: "+format, args...)
}

// RequestSlice asks for more time, in case the kernel needs the processor before
// YieldSlice. YieldSlice must be called before the next request.
func (t *Thread) RequestSlice() {
	if t.slice != nil {
		t.requested = true
		atomic.OrUint32(t.slice, 1)
	}
}

// YieldSlice ends the request. It gives the processor up if the kernel granted more time,
// and returns the result.
func (t *Thread) YieldSlice() SliceOutcome {
	if !t.requested {
		return SliceUnused
	}
	t.requested = false
	// One atomic operation takes the request back and reads the grant. Go has none for a
	// byte, and a load and a store of the word could undo a grant.
	was := atomic.AndUint32(t.slice, ^uint32(sliceRequest))
	if was&(sliceRequest|sliceGranted) == 1 {
		return SliceUnused
	}
	// Without a grant the call does nothing, but a kernel that checks for misuse
	// (rseq_debug) wants it before the next request.
	if yielded, _ := kernel.SliceYield(); yielded {
		return SliceYielded
	}
	return SliceRevoked
}
