//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package rseq

// #include "internal.h"
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/section"
)

// refusal says why critical sections must not run on the areas of i, nil if they may, and
// whether that is final. mu is held.
func refusal(i *Info) (why error, final bool) {
	if err := section.Convention(); err != nil {
		return notSupportedError("critical sections: %v", err), true
	}
	if i.Owner == OwnerForeign && i.Confirmed != Confirmed && i.RegisteredLen == 0 {
		return errors.New("rseq: critical sections: another library registers threads, but no thread was seen that it registered"), false
	}
	if i.Offset == 0 { // riscv64; see own.c
		return notSupportedError("critical sections: the areas are at the thread pointer itself, and the distance 0 stands for no area"), true
	}
	if (i.Confirmed == Confirmed || !signatureKnown()) && i.Signature == 0 {
		return notSupportedError("critical sections: the areas are registered with another signature than %#x, the kernel would kill", C.RSEQGO_SIG), true
	}
	if !mustCheck || seenToAbort {
		return nil, true
	}
	if i.Confirmed != Confirmed {
		// The kernel did not confirm this thread, perhaps because of a filter that kills. The
		// C library may register a thread that is made here, and the filter end the process.
		return fmt.Errorf("rseq: critical sections: the kernel could not be asked about the calling thread, "+
			"and is not watched then (Linux %s)", kernel.Release()), false
	}
	if err := kernel.Survives(liveCheckCalls...); err != nil {
		return fmt.Errorf("rseq: critical sections: what the kernel (Linux %s) does cannot be watched: sched_setaffinity: %w",
			kernel.Release(), err), false
	}
	why, final = judge(liveCheck(section.Preempted, 3, false))
	seenToAbort = why == nil
	return why, final
}

// mustCheck says that a live check is made before a section may run: on arm64 Linux 6.19
// to 7.0.13 let sections run on (39a167560a61, fixed by 411c1cf43039). The version does not
// tell, since distributions keep theirs when they backport. A variable for the tests.
var mustCheck = runtime.GOARCH == "arm64"

// liveCheckCalls are the calls of a live check for which a seccomp filter may kill.
var liveCheckCalls = []kernel.Call{{Number: unix.SYS_SCHED_GETAFFINITY}, {Number: unix.SYS_SCHED_SETAFFINITY}, {Number: unix.SYS_SCHED_SETSCHEDULER}}

// seenToAbort says that the kernel was seen to abort a section whose thread was preempted. A
// signal would not tell: Linux 7.0.13 aborts for signals. mu guards it.
var seenToAbort bool

// judge says what a live check that preempts means.
func judge(aborted, survived int, err error) (why error, final bool) {
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

// C's disturbances are Go's, and C's results of spin the assembly's; a difference does not
// compile.
var _ = [...][0]int{
	[C.RSEQGO_SPIN_ABORTED - abi.SpinAborted]int{},
	[C.RSEQGO_SPIN_SAW_FLAG - abi.SpinSawFlag]int{},
	[C.RSEQGO_SPIN_EXHAUSTED - abi.SpinExhausted]int{},
	[C.RSEQGO_PREEMPTED - section.Preempted]int{},
	[C.RSEQGO_SIGNALLED - section.Signalled]int{},
	[C.RSEQGO_MIGRATED - section.Migrated]int{},
}

func init() { section.LiveCheck = liveCheck }

// liveCheck is rseqgo_live_check. A variable for the tests.
var liveCheck = func(how section.Disturbance, rounds int, unarmed bool) (aborted, survived int, err error) {
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
