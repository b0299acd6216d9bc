//go:build linux && cgo && (amd64 || arm64)

package rseq

// #cgo CFLAGS: -O2 -Wall -Wextra
// #cgo LDFLAGS: -ldl
// #include "glibc.h"
import "C"

import (
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/tramp"
)

// signature is RSEQ_SIG.
const signature = C.RSEQGO_SIG

// discover asks the C part what it found when the program was loaded.
func discover() (Info, error) {
	c := C.rseqgo_discover()
	info := Info{
		Libc:              C.GoString(&c.libc[0]),
		Offset:            int(c.offset),
		LibcSize:          uint32(c.libc_size),
		Size:              uint32(c.size),
		Flags:             uint32(c.flags),
		KernelFeatureSize: uint32(c.kernel_feature_size),
		KernelAlign:       uint32(c.kernel_align),
	}
	switch c.via {
	case C.RSEQGO_VIA_DLSYM:
		info.Via = "dlsym"
	case C.RSEQGO_VIA_DIRECT:
		info.Via = "direct"
	default:
		return info, notSupportedError("the C library (%s) does not register an rseq area: glibc does since 2.35", info.Libc)
	}
	if info.Size == 0 {
		return info, notSupportedError("%s registered no rseq area: either the tunable glibc.pthread.rseq is 0 "+
			"(unset GLIBC_TUNABLES), or the kernel refused (Linux before 4.18, or a filter)", info.Libc)
	}
	info.Owner = OwnerLibc
	return info, nil
}

// confirm has the kernel say whether the calling thread is registered as i
// says, and reports whether that answer is final for the process.
func confirm(i Info) (_ Info, final bool) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	area := uintptr(tramp.ThreadPointer()) + uintptr(i.Offset)
	i.AlignActual = uint32(area & -area)

	// glibc 2.41 registers max(size, 32), earlier ones 32.
	r := kernel.Ask(area, signature, max(i.LibcSize, legacyLen))
	switch r.State {
	case kernel.Registered:
		i.Confirmed = Confirmed
		i.RegisteredLen = r.Len
		i.Mode = ModeLegacy
		if r.Len > legacyLen {
			i.Mode = ModeV2
			i.AlignRequired = max(i.KernelAlign, legacyAlign)
		}
		if !r.Ours {
			i.Reason = "the area is registered with another signature than glibc's"
			return i, true
		}
		i.Signature = signature
		return i, true

	case kernel.NotRegistered:
		i.Confirmed = Refuted
		if atomic.LoadInt32(field(offsetCPUID)) < 0 { // this thread is not, others may be
			i.Reason = "the calling thread is not registered, although the C library registers threads"
			return i, false
		}
		// The area's memory pretends to be registered and would never change.
		tramp.SetOffsets(0, 0, 0)
		i.Owner, i.Size, i.Features = OwnerNone, 0, 0
		i.Reason = fmt.Sprintf("%s says that it registered an area, the kernel says that this thread has none "+
			"(a process restored without its registration?)", i.Libc)
		return i, true
	}
	i.Confirmed = CouldNotAsk
	i.Reason = fmt.Sprintf("the kernel could not be asked: rseq(2) answered %v; a filter stands in between, "+
		"or the thread is registered elsewhere", r.Errno)
	return i, false
}
