// Package kernel makes the system calls of this module that need no area.
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
