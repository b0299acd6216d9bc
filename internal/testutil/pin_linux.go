package testutil

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq/internal/kernel"
)

// AllowedCPUs returns the CPUs that this thread may run on.
func AllowedCPUs(t testing.TB) []int {
	t.Helper()
	cpus, err := kernel.AllowedCPUs()
	if err != nil {
		t.Fatal(err)
	}
	return cpus
}

// OnThread runs f on a thread of its own, which ends with f. What f does to the
// thread (its affinity, its signal mask) dies with it.
func OnThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

// Pin moves the calling thread, to which the goroutine is locked, to cpu.
func Pin(t testing.TB, cpu int) {
	t.Helper()
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		t.Errorf("pin to CPU %d: %v", cpu, err)
	}
}
