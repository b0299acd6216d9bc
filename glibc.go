//go:build linux && cgo && (amd64 || arm64)

package rseq

// #cgo CFLAGS: -O2 -Wall
// #cgo LDFLAGS: -ldl -lpthread
// #include "internal.h"
import "C"

import (
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/tramp"
)

var vias = map[C.enum_rseqgo_via]string{
	C.RSEQGO_VIA_DLSYM:  "dlsym",
	C.RSEQGO_VIA_DIRECT: "direct",
	C.RSEQGO_VIA_SYMBOL: "symbol",
	C.RSEQGO_VIA_KERNEL: "kernel",
	C.RSEQGO_VIA_OWN:    "own",
}

// discover says what the C part knows by now.
func discover() knowledge {
	c := C.rseqgo_discover()
	k := knowledge{info: Info{
		Owner:             Owner(c.owner),
		Via:               vias[c.via],
		Libc:              C.GoString(&c.libc[0]),
		Offset:            int(c.offset),
		LibcSize:          uint32(c.libc_size),
		Size:              uint32(c.size),
		Signature:         uint32(c.signature),
		Flags:             uint32(c.flags),
		KernelFeatureSize: uint32(c.kernel_feature_size),
		KernelAlign:       uint32(c.kernel_align),
	}}
	if k.info.Owner != OwnerNone {
		k.info.setRegisteredLen(uint32(c.len))
		return k
	}
	k.refused = c.error != 0
	switch c.error {
	case 0:
		k.err = fmt.Errorf("rseq: the C library (%s) registered no area, and no thread has asked for one yet", k.info.Libc)
	case C.int(syscall.ENOSYS):
		k.final = true
		k.err = notSupportedError("the kernel has no rseq(2): it needs Linux 4.18 and CONFIG_RSEQ, or a filter hides it (ENOSYS)")
	case C.RSEQGO_KILLED:
		k.final = true
		k.err = notSupportedError("a seccomp filter kills whoever calls rseq(2), or forbids to find out")
	case C.RSEQGO_ELSEWHERE:
		k.err = fmt.Errorf("rseq: another registration exists whose area cannot be used: it is not at the same distance " +
			"from every thread's pointer, or begins as if it were registered, or a filter answers EINVAL; " +
			"`rseq inspect PID` shows what the kernel holds")
	default:
		k.err = fmt.Errorf("rseq: rseq(2) was refused, by a seccomp filter? %w", syscall.Errno(c.error))
	}
	return k
}

// register gives the calling thread an area if it can have one, and returns its
// CPU number, negative if it has none. The first thread of the process finds
// out who the owner is; the others wait for that.
func register() int32 {
	if known.Load().info.Owner == OwnerNone {
		learning.Lock()
		defer learning.Unlock()
	}
	cpu := int32(C.rseqgo_register_thread())
	if k := known.Load(); k.info.Owner == OwnerNone && !k.final {
		learn(discover())
	}
	return cpu
}

// setRegisteredLen sets what follows from the length that is registered; zero:
// it is not known yet.
func (i *Info) setRegisteredLen(n uint32) {
	i.RegisteredLen = n
	switch {
	case n > abi.OriginalLen:
		i.Mode = ModeV2
		i.AlignRequired = max(i.KernelAlign, abi.OriginalAlign)
	case n > 0:
		i.Mode = ModeLegacy
		i.AlignRequired = abi.OriginalAlign
	}
}

// confirm has the kernel say whether the calling thread, to which the goroutine
// is locked, is registered as k says.
func confirm(k knowledge) knowledge {
	i := &k.info
	area := uintptr(tramp.ThreadPointer()) + uintptr(i.Offset)
	i.AlignActual = 1 << bits.TrailingZeros64(uint64(area))
	// glibc 2.41 registers max(size, 32), earlier ones 32.
	likely := max(i.RegisteredLen, i.LibcSize, abi.OriginalLen)
	r := C.rseqgo_ask(C.ptrdiff_t(i.Offset), C.uint32_t(likely))
	switch {
	case r.state == C.RSEQGO_REGISTERED:
		k.final = true
		i.Confirmed = Confirmed
		i.Signature = uint32(r.signature)
		i.setRegisteredLen(uint32(r.len))
		if r.signature == 0 {
			i.Reason = "the area is registered with another signature than ours: its fields are read, " +
				"but a critical section would be killed"
		}
	case r.state == C.RSEQGO_COULD_NOT_ASK && i.Owner == OwnerSelf && syscall.Errno(r.error) == syscall.EINVAL:
		i.Confirmed = Refuted
		i.Reason = "the calling thread is registered by another library, elsewhere"
	case r.state == C.RSEQGO_COULD_NOT_ASK:
		i.Confirmed = CouldNotAsk
		i.Reason = fmt.Sprintf("the kernel could not be asked: rseq(2) answered %q; a filter stands in between, "+
			"or the thread is registered elsewhere", syscall.Errno(r.error))
	case atomic.LoadInt32(field(abi.OffsetCPUID)) < 0:
		i.Confirmed = Refuted
		i.Reason = "the calling thread is not registered, others are"
	default:
		// The area's memory pretends to be registered and will never change.
		C.rseqgo_disown()
		k.final = true
		*i = Info{Libc: i.Libc, LibcSize: i.LibcSize, Confirmed: Refuted, Offset: int(C.rseqgo_own_offset()),
			KernelFeatureSize: i.KernelFeatureSize, KernelAlign: i.KernelAlign}
		k.err = notSupportedError("the %s area says that it is registered, the kernel says that it is not: "+
			"was this process restored without its registrations?", i.Libc)
	}
	return k
}

// field returns where in the calling thread's area the field at offset is. The
// goroutine is locked to its thread.
func field(offset int) *int32 {
	return (*int32)(unsafe.Add(tramp.ThreadPointer(), known.Load().info.Offset+offset))
}

// allowSections tells the critical sections where the areas are, or refuses
// them.
func allowSections(i *Info) {
	if !i.CriticalSections {
		C.rseqgo_allow(0, 0, 0) // possible stays
		return
	}
	mmCID := C.ptrdiff_t(0)
	if i.Features.Has(FeatureMMCID) {
		mmCID = C.ptrdiff_t(i.Offset)
	}
	C.rseqgo_allow(C.ptrdiff_t(i.Offset), mmCID, C.uint64_t(PossibleCPUs()))
}

// mayAsk reports whether rseq(2) can be called without being killed for it.
func mayAsk() bool { return C.rseqgo_kills() == 0 }

// sectionsRefused says why critical sections must not run on the areas of i, nil if
// they may, and whether that is so for good.
func sectionsRefused(i *Info) (why error, conclusive bool) {
	// Of the C library's own areas the signature is known by its documents; of
	// others, and once the kernel confirmed, it was asked.
	asked := i.Owner == OwnerForeign || i.Via == vias[C.RSEQGO_VIA_KERNEL] || i.Confirmed == Confirmed
	if asked && i.Signature == 0 {
		return notSupportedError("critical sections: the areas are registered with another signature than %#x, the kernel would kill", C.RSEQGO_SIG), true
	}
	if runtime.GOARCH == "arm64" && !aborts && kernel.MayKeepSections(kernel.Release()) {
		why, conclusive = judge(liveCheck(tramp.Preempted, 3, false))
		aborts = why == nil
		return why, conclusive
	}
	return nil, true
}

// aborts: the kernel was seen to abort a section whose thread was preempted. A
// signal would not tell: Linux 7.0.13 aborts for those. Under learning.
var aborts bool

// judge says what a live check that preempts means.
func judge(aborted, survived int, err error) (why error, conclusive bool) {
	switch {
	case survived > 0:
		return notSupportedError("critical sections: this kernel (Linux %s) does not abort them when a thread is preempted, "+
			"so updates would be lost: it needs the fix 411c1cf43039 (Linux 7.0.14, 7.1)", kernel.Release()), true
	case aborted > 0:
		return nil, true
	case err == nil:
		err = errors.New("no thread was preempted in time")
	}
	return fmt.Errorf("rseq: critical sections: it could not be seen whether this kernel (Linux %s) aborts them "+
		"when a thread is preempted, which 6.19 to 7.0.13 do not on arm64: %w", kernel.Release(), err), false
}

func init() { tramp.LiveCheck = liveCheck }

func liveCheck(how tramp.Disturbance, rounds int, unarmed bool) (aborted, survived int, err error) {
	u := C.int(0)
	if unarmed {
		u = 1
	}
	l := C.rseqgo_live_check(C.enum_rseqgo_disturbance(how), C.int(rounds), u)
	if l.error != 0 {
		err = fmt.Errorf("rseq: live check: %w", syscall.Errno(l.error))
	}
	return int(l.aborted), int(l.survived), err
}
