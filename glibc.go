//go:build linux && !android && cgo && !purego && (amd64 || arm64)

package rseq

// #cgo CFLAGS: -O2 -Wall
// #cgo LDFLAGS: -ldl -lpthread
// #include "internal.h"
import "C"

import (
	"fmt"
	"math/bits"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/section"
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
		Libc:              C.GoString(&c.libc[0]),
		Offset:            int(C.rseqgo_own_offset()),
		LibcSize:          uint32(c.libc_size),
		KernelFeatureSize: uint32(c.kernel_feature_size),
		KernelAlign:       uint32(c.kernel_align),
	}}
	// The size is set last, so it is read first: C code may be finding out at this moment.
	if size := atomic.LoadUint32((*uint32)(&c.size)); size > 0 {
		i := &k.info
		i.Owner, i.Via = Owner(c.owner), vias[c.via]
		i.Offset, i.Size = int(c.offset), size
		i.Signature, i.Flags = uint32(c.signature), uint32(c.flags)
		i.setRegisteredLen(uint32(c.len))
		return k
	}
	why := atomic.LoadInt32((*int32)(&c.error))
	k.refused = why != 0
	switch why {
	case 0:
		k.err = fmt.Errorf("rseq: the C library (%s) registered no area, and no thread was given one yet", k.info.Libc)
	case int32(syscall.ENOSYS):
		k.final = true
		k.err = notSupportedError("the kernel has no rseq(2): it needs Linux 4.18 and CONFIG_RSEQ, or a filter hides it (ENOSYS)")
	case C.RSEQGO_KILLED:
		k.final = true
		k.err = notSupportedError("a seccomp filter kills a thread that calls rseq(2)")
	case C.RSEQGO_FORBIDDEN:
		k.final = true
		k.err = notSupportedError("nobody else registered an area, and the environment forbids this package to (RSEQ_GO_REGISTER=0)")
	case C.RSEQGO_ELSEWHERE:
		k.err = fmt.Errorf("rseq: another registration exists whose area cannot be used: it is not at the same distance " +
			"from every thread's pointer, or begins as if it were registered, or its library is not ready, or a filter answers EINVAL; " +
			"`rseq inspect PID` shows what the kernel holds")
	default:
		k.err = fmt.Errorf("rseq: rseq(2) was refused, by a seccomp filter? Or there is no room now for one more thread, "+
			"process or thread-specific key, which it takes to find out: %w", syscall.Errno(why))
	}
	return k
}

// register gives the calling thread, to which the goroutine is locked, an area if it
// can have one, and returns its CPU number, negative if it has none. The first thread of
// the process finds out who the owner is; the others wait for that, also where that
// first one is C's. Where an earlier thread's answer may change, it is asked for again
// after a while, or at once if insist is set.
func register(insist bool) int32 {
	if k := known.Load(); k.info.Owner == OwnerNone {
		learning.Lock()
		defer learning.Unlock()
		if k := known.Load(); k.final || k.refused && !insist && !ownerAgain.due() {
			return section.Uninitialized
		}
	}
	cpu := int32(C.rseqgo_register(1))
	for cpu == C.RSEQGO_BEING_FOUND_OUT { // by a C thread, in a moment
		time.Sleep(50 * time.Microsecond)
		cpu = int32(C.rseqgo_register(1))
	}
	if k := known.Load(); k.info.Owner == OwnerNone && !k.final {
		found := discover()
		if found.refused {
			ownerAgain.later()
		}
		learn(found)
	}
	return cpu
}

// setRegisteredLen sets what follows from the length that is registered; zero:
// it is not known yet.
func (i *Info) setRegisteredLen(n uint32) {
	i.RegisteredLen = n
	if n == 0 {
		return
	}
	i.Mode, i.AlignRequired = ModeLegacy, abi.OriginalAlign
	if n > abi.OriginalLen {
		i.AlignRequired = max(i.KernelAlign, abi.OriginalAlign)
		if i.KernelFeatureSize > abi.OriginalLen {
			i.Mode = ModeV2
		}
	}
}

// confirm has the kernel say whether the calling thread, to which the goroutine
// is locked, is registered as k says, and returns what is known then, which is to be
// learned if it is an error.
func confirm(k knowledge) knowledge {
	i := &k.info
	area := uintptr(section.ThreadPointer()) + uintptr(i.Offset)
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
	case r.state == C.RSEQGO_COULD_NOT_ASK:
		// EINVAL: elsewhere, or a filter's word. Where the area is found it is elsewhere.
		i.Confirmed = CouldNotAsk
		i.Reason = fmt.Sprintf("the kernel could not be asked: rseq(2) answered %q; a filter stands in between, "+
			"or the thread is registered where it cannot be found", syscall.Errno(r.error))
		if syscall.Errno(r.error) == syscall.EINVAL && C.rseqgo_look().state == C.RSEQGO_REGISTERED {
			i.Confirmed = Elsewhere
			i.Reason = "the calling thread is registered elsewhere, by another library"
		}
	case atomic.LoadInt32(field(abi.OffsetCPUID)) < 0:
		i.Confirmed = Refuted
		i.Reason = "the calling thread is not registered, others are"
	default:
		// The area's memory pretends to be registered and will never change.
		C.rseqgo_disown()
		owner := i.Owner
		k = knowledge{final: true, info: Info{Libc: i.Libc, LibcSize: i.LibcSize, Confirmed: Refuted, Offset: int(C.rseqgo_never_offset()),
			KernelFeatureSize: i.KernelFeatureSize, KernelAlign: i.KernelAlign}}
		k.err = notSupportedError("the area (owner: %v) says that it is registered, the kernel says that it is not: "+
			"was this process restored without its registrations?", owner)
	}
	if i.Confirmed != Confirmed {
		// What is registered is not known of this thread.
		i.Signature, i.RegisteredLen, i.Mode, i.AlignRequired = 0, 0, ModeUnknown, 0
	}
	return k
}

// field returns where in the calling thread's area the field at offset is. The
// goroutine is locked to its thread.
func field(offset int) *int32 {
	return (*int32)(unsafe.Add(section.ThreadPointer(), known.Load().info.Offset+offset))
}
