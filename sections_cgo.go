//go:build linux && cgo && (amd64 || arm64)

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
