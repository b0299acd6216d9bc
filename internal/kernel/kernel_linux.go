// Package kernel asks the kernel what needs no area.
package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Getcpu returns the CPU and the NUMA node that the calling thread runs on.
func Getcpu() (cpu, node int, err error) {
	var c, n uint32
	_, _, e := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&c)), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return -1, -1, e
	}
	return int(c), int(n), nil
}

// Release returns the kernel's release, "6.12.5-arm64", or "" if it is not told.
func Release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// ENOTSUPP is what the kernel answers where something is switched off or not
// built in; the C library has no name for it.
const ENOTSUPP = unix.Errno(524)

// SliceExtension reports whether the calling thread may ask for extensions of its
// time slice.
func SliceExtension() bool {
	on, _, e := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_RSEQ_SLICE_EXTENSION, unix.PR_RSEQ_SLICE_EXTENSION_GET, 0, 0, 0, 0)
	return e == 0 && on&unix.PR_RSEQ_SLICE_EXT_ENABLE != 0
}

// SetSliceExtension lets it, or no more.
func SetSliceExtension(on bool) error {
	value := uintptr(0)
	if on {
		value = unix.PR_RSEQ_SLICE_EXT_ENABLE
	}
	if _, _, e := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_RSEQ_SLICE_EXTENSION, unix.PR_RSEQ_SLICE_EXTENSION_SET, value, 0, 0, 0); e != 0 {
		return e
	}
	return nil
}

// SliceYield gives the processor up if more time was granted, and reports whether
// it was, until now.
func SliceYield() (yielded bool, err error) {
	r, _, e := unix.RawSyscall(unix.SYS_RSEQ_SLICE_YIELD, 0, 0, 0)
	if e != 0 {
		return false, e
	}
	return r == 1, nil
}

// Map returns memory of the kernel's, zero, which is there from when it is first
// written, in small pages; nil if there is none.
func Map(size int) []byte {
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil
	}
	// A huge page would be there as a whole. Older kernels have none.
	unix.Madvise(memory, unix.MADV_NOHUGEPAGE)
	return memory
}

// Discard gives the memory back of what Map returned, which is zero then and there
// again when it is written, and reports whether it did: not, if the process locks all
// memory (mlockall).
func Discard(memory []byte) bool { return unix.Madvise(memory, unix.MADV_DONTNEED) == nil }
