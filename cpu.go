package rseq

import (
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/section"
)

// CPU returns the number of the CPU that the calling goroutine runs on, which
// may be another one by the time that the caller looks: use it to spread work,
// not to exclude others. It may be called from any goroutine. It costs a
// function call where the thread is registered. Where it is not, that depends on what the
// processor tells: on amd64 it may be as little, else it is a system call.
// Where the C library registered nothing, the first call of the process makes a
// thread, under a seccomp filter a child process too, to find out who registers.
// The error is not nil only outside Linux and where a filter refuses getcpu(2);
// the number is then -1.
func CPU() (int, error) {
	c := section.CPUID(slowCPU)
	if c < 0 {
		return -1, errGetcpu
	}
	return int(c), nil
}

// NodeID returns the NUMA node that the calling goroutine runs on, like [CPU]
// already stale when it returns. Before Linux 6.3 it costs what CPU does without an area.
func NodeID() (int, error) {
	n := section.NodeID(slowNodeID)
	if n < 0 {
		return -1, errGetcpu
	}
	return int(n), nil
}

// ConcurrencyID returns the concurrency id of the thread that the calling goroutine
// runs on: unique among the threads of this process that run at this moment, and small:
// below the number of the process's threads, running or not, and of the CPUs that they
// may use, though the kernel takes an id back late. Like [CPU] it is stale when it
// returns. Without a registered area, and before Linux 6.3, nothing tells it: the id is
// -1 and the error matches [ErrNotSupported].
func ConcurrencyID() (int, error) {
	c := section.MMCID(slowConcurrencyID)
	if c < 0 {
		return -1, errConcurrencyID
	}
	return int(c), nil
}

// PossibleCPUs returns how many cells per-CPU data needs, one more than the
// highest number that [CPU] and [ConcurrencyID] can return: what
// /sys/devices/system/cpu/possible says, and where that cannot be read what
// sched_getaffinity(2) wants room for, up to 63 more. It is never too small, and does
// not change while a process runs, unlike [runtime.NumCPU], which counts the CPUs that
// it may use. Where the process has too many files open at the first call, a child
// process reads the file.
func PossibleCPUs() int { return kernel.PossibleCPUs() }
