package kernel

import (
	"math/rand/v2"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// minLen is the size of struct rseq in Linux 4.18 (d7822b1e24f2), the
	// least length that a kernel takes.
	minLen = 32
	// maxLen bounds the search for a registered length; Linux 7.2 has 33.
	maxLen = 256

	flagUnregister = 1 // RSEQ_FLAG_UNREGISTER

	// kernelAddress lies in the kernel's half of the address space and is a
	// multiple of every alignment.
	kernelAddress = ^uintptr(0) &^ 0xfffff
)

// Ask has the kernel say whether the calling thread is registered at area,
// with which length, and whether with signature sig. likely are the lengths to
// try first. The caller stays on its thread (runtime.LockOSThread).
//
// It unregisters with a signature that is surely wrong: EPERM if and only if
// address and length are the registered ones, EINVAL otherwise, no effect in
// either case (kernel/rseq.c). The signature is drawn at random, since the
// right one would unregister. A seccomp filter may answer instead of the
// kernel, so an address that nobody can register is asked about first; and
// since a filter may answer EINVAL, a no counts only where a registration at
// that address fails with EFAULT, which a kernel answers to an unregistered
// thread alone.
func Ask(area uintptr, sig uint32, likely ...uint32) Registration {
	wrong := rand.Uint32()
	for wrong == sig {
		wrong = rand.Uint32()
	}
	if e := rseq(kernelAddress, minLen, flagUnregister, wrong); e != unix.EINVAL {
		return Registration{Errno: e}
	}
	for n := uint32(minLen); n <= maxLen; n++ {
		likely = append(likely, n)
	}
	for _, n := range likely {
		if rseq(area, n, flagUnregister, wrong) != unix.EPERM {
			continue
		}
		return Registration{State: Registered, Len: n, Ours: rseq(area, n, 0, sig) == unix.EBUSY}
	}
	if e := rseq(kernelAddress, minLen, 0, sig); e != unix.EFAULT {
		return Registration{Errno: e}
	}
	return Registration{State: NotRegistered}
}

// Supported asks whether the kernel has rseq(2): EINVAL to a call without an
// area means yes (nil), ENOSYS no, anything else comes from a filter.
func Supported() error {
	if e := rseq(0, 0, 0, 0); e != unix.EINVAL {
		return e
	}
	return nil
}

func rseq(area uintptr, length uint32, flags int, sig uint32) unix.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_RSEQ, area, uintptr(length), uintptr(flags), uintptr(sig), 0, 0)
	return e
}

// Getcpu returns the CPU and the NUMA node that the calling thread runs on.
func Getcpu() (cpu, node int, err error) {
	var c, n uint32
	_, _, e := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&c)), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return -1, -1, e
	}
	return int(c), int(n), nil
}
