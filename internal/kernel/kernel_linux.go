// Package kernel makes the system calls that need no rseq area.
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

// Release returns the kernel's release, as "6.12.5-arm64", or "" if uname(2) fails.
func Release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// ENOTSUPP is what the kernel answers where a feature is switched off or not built in. The
// C library has no name for it.
const ENOTSUPP = unix.Errno(524)

// SliceExtension reports whether the time slice extension of the calling thread is enabled.
func SliceExtension() bool {
	on, _, e := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_RSEQ_SLICE_EXTENSION, unix.PR_RSEQ_SLICE_EXTENSION_GET, 0, 0, 0, 0)
	return e == 0 && on&unix.PR_RSEQ_SLICE_EXT_ENABLE != 0
}

// SetSliceExtension enables or disables the time slice extension of the calling thread.
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

// SliceYield gives the processor up if the kernel had extended the time slice, and reports
// whether the thread still had the extension.
func SliceYield() (yielded bool, err error) {
	r, _, e := unix.RawSyscall(unix.SYS_RSEQ_SLICE_YIELD, 0, 0, 0)
	if e != 0 {
		return false, e
	}
	return r == 1, nil
}

// Map maps size bytes of zeros. A page takes memory once it is written, and pages are small.
// Map returns nil if the kernel has no room.
func Map(size int) []byte {
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil
	}
	// The first write to a huge page would take all of it. Kernels without huge pages
	// return an error.
	unix.Madvise(memory, unix.MADV_NOHUGEPAGE)
	return memory
}

// Discard gives the memory of a mapping that Map made back to the kernel, and reports whether
// that worked: it fails if the process locks its memory (mlockall). The mapping stays and
// reads as zeros.
func Discard(memory []byte) bool { return unix.Madvise(memory, unix.MADV_DONTNEED) == nil }
