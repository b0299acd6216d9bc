//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package rseq

// #cgo CFLAGS: -O2 -Wall
// #cgo LDFLAGS: -ldl -lpthread
// #include "internal.h"
import "C"

import (
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/section"
)

// C's owners are Go's; a difference does not compile.
var _ = [...][0]int{
	[C.RSEQGO_NONE - OwnerNone]int{},
	[C.RSEQGO_LIBC - OwnerLibc]int{},
	[C.RSEQGO_SELF - OwnerSelf]int{},
	[C.RSEQGO_FOREIGN - OwnerForeign]int{},
}

var vias = map[C.enum_rseqgo_via]string{
	C.RSEQGO_VIA_DLSYM:  "dlsym",
	C.RSEQGO_VIA_DIRECT: "direct",
	C.RSEQGO_VIA_SYMBOL: "symbol",
	C.RSEQGO_VIA_KERNEL: "kernel",
	C.RSEQGO_VIA_OWN:    "own",
}

// discover returns the state by what the C files know now.
func discover() state {
	c := C.rseqgo_discover()
	s := state{info: Info{
		Libc:              C.GoString(&c.libc[0]),
		Offset:            int(C.rseqgo_own_offset()),
		LibcSize:          uint32(c.libc_size),
		KernelFeatureSize: uint32(c.kernel_feature_size),
		KernelAlign:       uint32(c.kernel_align),
	}}
	// The size is set last, so it is read first: a C thread may be searching meanwhile.
	if size := atomic.LoadUint32((*uint32)(&c.size)); size > 0 {
		i := &s.info
		i.Owner, i.Via = Owner(c.owner), vias[c.via]
		i.Offset, i.Size = int(c.offset), size
		i.Signature, i.Flags = uint32(c.signature), uint32(c.flags)
		i.setRegisteredLen(uint32(c.len))
		s.areas = areasUnconfirmed
		return s
	}
	s.areas, s.err = noOwner(atomic.LoadInt32((*int32)(&c.error)), s.info.Libc)
	return s
}

// noOwner says what an error of the C files means: an errno or an RSEQGO_ constant of
// glibc.h.
func noOwner(why int32, libc string) (areasPhase, error) {
	switch why {
	case 0:
		return areasUnasked, fmt.Errorf("rseq: the C library (%s) registered no area, and no thread was given one yet", libc)
	case int32(syscall.ENOSYS):
		return areasUnavailable, notSupportedError("the kernel has no rseq(2): it needs Linux 4.18 and CONFIG_RSEQ, or a filter hides it (ENOSYS)")
	case C.RSEQGO_KILLED:
		return areasUnavailable, notSupportedError("a seccomp filter kills a thread that calls rseq(2)")
	case C.RSEQGO_FORBIDDEN:
		return areasUnavailable, notSupportedError("nobody else registered an area, and the environment forbids this package to (RSEQ_GO_REGISTER=0)")
	case C.RSEQGO_ELSEWHERE:
		return areasFailed, fmt.Errorf("rseq: another registration exists whose area cannot be used: it is not at the same distance " +
			"from every thread's pointer, or begins as if it were registered, or its library is not ready, or a filter answers EINVAL; " +
			"`rseq inspect PID` shows what the kernel holds")
	}
	return areasFailed, fmt.Errorf("rseq: rseq(2) was refused, by a seccomp filter? Or there is no room now for one more thread, "+
		"process or thread-specific key, which it takes to find out: %w", syscall.Errno(why))
}

// registerThread gives the calling thread, to which the goroutine is locked, an area if it
// can have one, and returns its CPU number, negative if it has none. If a C thread is
// searching for the owner, it waits for that.
func registerThread() int32 {
	for {
		if cpu := C.rseqgo_register(1); cpu != C.RSEQGO_OWNER_PENDING {
			return int32(cpu)
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// signatureKnown reports whether the owner is known to register with our signature.
func signatureKnown() bool { return C.rseqgo_signature_known(C.rseqgo_discover()) != 0 }

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

// mayAsk says why rseq(2) must not be called now, nil if it may be.
func mayAsk() error {
	switch e := C.rseqgo_filter_kills(); e {
	case 0:
		return nil
	case C.RSEQGO_KILLED:
		return errors.New("a seccomp filter kills a thread that calls rseq(2)")
	default:
		return fmt.Errorf("there may be a seccomp filter that kills, and no child process can find that out now: %w", syscall.Errno(e))
	}
}

// confirm asks the kernel whether the calling thread, to which the goroutine is locked,
// is registered as i says, and returns i with the answer. stale says that the area
// says so and the kernel does not; the areas are forgotten then.
func confirm(i Info) (_ Info, stale bool) {
	area := uintptr(section.ThreadPointer()) + uintptr(i.Offset)
	i.AlignActual = 1 << bits.TrailingZeros64(uint64(area))
	// glibc 2.41 registers max(size, 32) bytes, earlier ones 32.
	likely := max(i.RegisteredLen, i.LibcSize, abi.OriginalLen)
	r := C.rseqgo_ask(C.ptrdiff_t(i.Offset), C.uint32_t(likely))
	switch {
	case r.state == C.RSEQGO_REGISTERED:
		i.Confirmed = Confirmed
		i.Signature = uint32(r.signature)
		i.setRegisteredLen(uint32(r.len))
		if r.signature == 0 {
			i.Reason = "the area is registered with another signature than ours: its fields are read, " +
				"but a critical section would be killed"
		}
	case r.state == C.RSEQGO_COULD_NOT_ASK:
		// EINVAL comes from a filter, or means that the thread is registered elsewhere;
		// it is elsewhere if the area is found.
		i.Confirmed = CouldNotAsk
		i.Reason = fmt.Sprintf("the kernel could not be asked: rseq(2) answered %q; a filter stands in between, "+
			"or the thread is registered where it cannot be found", syscall.Errno(r.error))
		if syscall.Errno(r.error) == syscall.EINVAL && C.rseqgo_look(C.rseqgo_claimed_offset()).state == C.RSEQGO_REGISTERED {
			i.Confirmed = Elsewhere
			i.Reason = "the calling thread is registered elsewhere, by another library"
		}
	case atomic.LoadInt32(field(abi.OffsetCPUID)) < 0:
		i.Confirmed = Refuted
		i.Reason = "the calling thread is not registered, others are"
	default:
		// The area's memory reads as registered and will never change.
		C.rseqgo_forget_areas()
		return Info{Libc: i.Libc, LibcSize: i.LibcSize, Confirmed: Refuted, Offset: int(C.rseqgo_unregistered_offset()),
			KernelFeatureSize: i.KernelFeatureSize, KernelAlign: i.KernelAlign}, true
	}
	return i, false
}
