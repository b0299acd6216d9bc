package rseq

import (
	"fmt"
	"runtime"

	"github.com/rseq-go/rseq/internal/kernel"
)

// Fence ends the critical sections that run now on index i, on all if i is negative:
// when it returns, each that began before has committed or will start again or
// answer Raced, and each that begins sees what the caller stored before. So one that
// publishes another word, which every section loads, and then fences has what the
// old one leads to for itself:
//
//	old := atomic.SwapUintptr(&words[i], empty)
//	if err := rseq.ByCPU.Fence(i); err == nil {
//		// no section writes to old any more
//	}
//
// That is how another CPU's data is drained and read exactly. It takes some
// microseconds, by membarrier(2), from Linux 5.10 on; for a concurrency id, which the
// kernel does not know, all CPUs are fenced. The first fence of a process takes longer,
// some 20 milliseconds, to register for it.
//
// Where that is missing or forbidden, a thread of Go's visits the CPU, by
// sched_setaffinity(2), or for all CPUs each that a thread of the process was on last;
// then its affinity is what it was. That takes as long as the scheduler likes, and some
// milliseconds for hundreds of threads. Where it may not visit a CPU it waits, up to two
// seconds, until it has seen all threads elsewhere or switched out.
//
// Under a seccomp filter a child process asks first, once, whether the filter kills for
// these calls. If it does they are not made. If there can be no child, neither are they,
// and the next fence asks again, after a while.
//
// The error says what forbade both ways, and matches [ErrNotSupported] outside Linux;
// sections may still run then.
func (x Index) Fence(i int) error {
	if x == ByConcurrencyID {
		i = -1
	}
	if runtime.GOOS != "linux" {
		return notLinux()
	}
	err := kernel.Membarrier(i)
	if err == nil {
		return nil
	}
	if visit := kernel.Visit(i); visit != nil {
		return fmt.Errorf("rseq: cannot fence critical sections: membarrier: %w; %w", err, visit)
	}
	return nil
}
