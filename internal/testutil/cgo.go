//go:build linux && cgo

package testutil

// #define _GNU_SOURCE
// #include <sched.h>
import "C"

// SchedGetcpu asks the C library for the CPU number, through cgo.
func SchedGetcpu() int { return int(C.sched_getcpu()) }
