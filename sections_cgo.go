//go:build linux && !android && cgo && (amd64 || arm64)

package rseq

// #include "internal.h"
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"

	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/tramp"
)

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

// mayAsk says why rseq(2) must not be called now, nil if it may be.
func mayAsk() error {
	switch e := C.rseqgo_kills(); e {
	case 0:
		return nil
	case C.RSEQGO_KILLED:
		return errors.New("a seccomp filter kills a thread that calls rseq(2)")
	default:
		return fmt.Errorf("there may be a seccomp filter that kills, and no child process can find that out now: %w", syscall.Errno(e))
	}
}

// sectionsRefused says why critical sections must not run on the areas of i, nil if
// they may, and whether that is so for good.
func sectionsRefused(i *Info) (why error, conclusive bool) {
	if i.Owner == OwnerForeign && i.Confirmed != Confirmed && i.RegisteredLen == 0 {
		return errors.New("rseq: critical sections: another library registers threads, but no thread was seen that it registered"), false
	}
	// Of the C library's own areas the signature is known by its documents; of
	// others, and once the kernel confirmed, it was asked.
	asked := i.Owner == OwnerForeign || i.Via == vias[C.RSEQGO_VIA_KERNEL] || i.Confirmed == Confirmed
	if asked && i.Signature == 0 {
		return notSupportedError("critical sections: the areas are registered with another signature than %#x, the kernel would kill", C.RSEQGO_SIG), true
	}
	if mustWatch && !aborts {
		if i.Confirmed != Confirmed {
			// A filter: threads that are made here may end the process, since the C
			// library registers them.
			return fmt.Errorf("rseq: critical sections: the kernel could not be asked about the calling thread, "+
				"and is not watched then (Linux %s)", kernel.Release()), false
		}
		why, conclusive = judge(liveCheck(tramp.Preempted, 3, false))
		aborts = why == nil
		return why, conclusive
	}
	return nil, true
}

// mustWatch: on arm64 the kernel is watched before a section may run. Linux 6.19 to
// 7.0.13 let sections run on (39a167560a61, fixed by 411c1cf43039), and no version tells:
// distributions keep theirs when they backport. A variable for the tests.
var mustWatch = runtime.GOARCH == "arm64"

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

// liveCheck is rseqgo_live_check; a variable for the tests.
var liveCheck = func(how tramp.Disturbance, rounds int, unarmed bool) (aborted, survived int, err error) {
	u := C.int(0)
	if unarmed {
		u = 1
	}
	l := C.rseqgo_live_check(C.enum_rseqgo_disturbance(how), C.int(rounds), u)
	switch l.error {
	case 0:
	case C.RSEQGO_LIVE_NOT_REGISTERED:
		err = errLiveNotRegistered
	case C.RSEQGO_LIVE_OTHER_SIGNATURE:
		err = errors.New("rseq: live check: the area of the thread made for it is registered with another signature")
	default:
		err = fmt.Errorf("rseq: live check: %w", syscall.Errno(l.error))
	}
	return int(l.aborted), int(l.survived), err
}

var errLiveNotRegistered = errors.New("rseq: live check: the thread made for it has no area: " +
	"the library that owns the areas did not register it, though it allocated memory, or its registration was refused")
