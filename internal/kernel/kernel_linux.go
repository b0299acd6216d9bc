// Package kernel asks the kernel what needs no area.
package kernel

import (
	"os"
	"strconv"
	"strings"
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

// PossibleCPUs returns one more than the highest number that a CPU may get:
// what /sys says, or without it as many as sched_getaffinity(2) has bits for.
func PossibleCPUs() int {
	if data, err := os.ReadFile("/sys/devices/system/cpu/possible"); err == nil {
		if n := lastOf(string(data)) + 1; n > 0 {
			return n
		}
	}
	var mask [1 << 13]byte // Linux allows 8192 CPUs
	n, _, e := unix.RawSyscall(unix.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(mask), uintptr(unsafe.Pointer(&mask)))
	if e != 0 {
		return len(mask)
	}
	return int(n) * 8
}

// AllowedCPUs returns the CPUs that the calling thread may run on.
func AllowedCPUs() (cpus []int, err error) {
	var set unix.CPUSet
	err = unix.SchedGetaffinity(0, &set)
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, err
}

// lastOf returns the last number of a list of CPUs ("0-3", "0,2-5"), or -1.
func lastOf(list string) int {
	list = strings.TrimSpace(list)
	last, err := strconv.Atoi(list[strings.LastIndexAny(list, "-,")+1:])
	if err != nil || last < 0 {
		return -1
	}
	return last
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

// Unmap gives back what Map returned.
func Unmap(memory []byte) { unix.Munmap(memory) }
