package rseq

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/kernel"
)

// SliceOutcome says what became of a request to have the time slice extended.
type SliceOutcome uint8

const (
	// SliceUnused: the kernel did not want the processor meanwhile.
	SliceUnused SliceOutcome = iota
	// SliceYielded: the kernel wanted it, let the thread go on, and has it now.
	SliceYielded
	// SliceRevoked: the thread was scheduled out all the same. It took longer than
	// was granted, made a system call, or nothing could be granted.
	SliceRevoked
)

func (o SliceOutcome) String() string { return name(o, "unused", "yielded", "revoked") }

// sliceRequest is slice_ctrl.request in the word that it is the first byte of, on
// machines that store the lowest byte first. The second is slice_ctrl.granted.
const sliceRequest = 0xff

// EnableSliceExtension asks the kernel to let this thread ask for extensions of its
// time slice (Linux 7.0, CONFIG_RSEQ_SLICE_EXTENSION), until Unlock:
//
//	t.RequestSlice()
//	// some microseconds that others wait for: with a lock held, say
//	t.YieldSlice()
//
// If the kernel wants the processor for somebody else in between, it waits, for 5
// microseconds unless it is set up otherwise (rseq/slice_ext_nsec in debugfs), and
// YieldSlice gives the processor up. A system call in between does so at once, and
// so does the return from a signal, those of the Go runtime included.
//
// The error matches [ErrNotSupported] where the kernel or the registration does not
// have that: it has to be longer than the original 32 bytes, which those of glibc
// 2.41 and later and this package's own are. RequestSlice and YieldSlice then do
// nothing.
func (t *Thread) EnableSliceExtension() error {
	k := known.Load()
	switch {
	case t.unlocked:
		return errUnlocked
	case t.cpuID == &absent:
		return notSupportedError("time slice extension: the calling thread is not registered")
	case k.info.KernelFeatureSize < abi.NeedsSliceCtrl:
		return notSupportedError("time slice extension: it needs Linux 7.0, this kernel has %d bytes of fields", k.info.KernelFeatureSize)
	case !k.info.Features.Has(FeatureSliceCtrl):
		return notSupportedError("time slice extension: it needs a registration of more than %d bytes, as glibc 2.41 or later makes, "+
			"or with GLIBC_TUNABLES=glibc.pthread.rseq=0 this package: this area has %d bytes of fields", abi.OriginalLen, k.info.Size)
	}
	before := kernel.SliceExtension()
	switch err := kernel.SetSliceExtension(true); {
	case err == nil:
	case errors.Is(err, kernel.ENOTSUPP):
		return notSupportedError("time slice extension: this kernel was built without CONFIG_RSEQ_SLICE_EXTENSION, or started with " +
			"rseq_slice_ext=off, or the registration is in legacy mode")
	case errors.Is(err, syscall.EINVAL):
		return notSupportedError("time slice extension: this kernel's prctl(2) does not know it")
	default:
		return fmt.Errorf("rseq: time slice extension: prctl(2) was refused: %w", err)
	}
	t.slice = (*uint32)(unsafe.Pointer(field(abi.OffsetSliceCtrl)))
	t.enabledSlice = t.enabledSlice || !before
	return nil
}

// RequestSlice asks for more time, should the kernel want the processor before
// YieldSlice.
func (t *Thread) RequestSlice() { atomic.OrUint32(t.slice, 1) }

// YieldSlice ends what RequestSlice began: it gives the processor up if the kernel
// granted more time, and says what became of the request.
func (t *Thread) YieldSlice() SliceOutcome {
	// One instruction takes the request back and sees the grant: no interrupt comes
	// in between.
	switch was := atomic.AndUint32(t.slice, ^uint32(sliceRequest)); {
	case was == 1:
		return SliceUnused
	case t.slice == &t.noSlice: // nothing was requested
		return SliceUnused
	case kernel.SliceYield():
		return SliceYielded
	}
	// Without a grant the call did nothing, but that a kernel that checks for misuse
	// (rseq_debug) would take the next request for one.
	return SliceRevoked
}
