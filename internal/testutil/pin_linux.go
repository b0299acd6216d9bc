package testutil

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/section"
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

// Pin moves the calling thread, to which the goroutine is locked, to one of cpus.
func Pin(t testing.TB, cpus ...int) {
	t.Helper()
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		t.Errorf("pin to CPU %v: %v", cpus, err)
	}
}

// Unregister takes the area of the calling thread away, to which the goroutine is
// locked for good. It is for areas of the C library's, which does not notice.
func Unregister(t testing.TB) {
	t.Helper()
	info, err := rseq.Query()
	if err != nil || info.Owner != rseq.OwnerLibc {
		t.Errorf("owner %v, %v: expected the C library", info.Owner, err)
		return
	}
	UnregisterArea(t, info.Offset, info.RegisteredLen, info.Signature)
}

// RegisterAgain undoes Unregister.
func RegisterAgain(t testing.TB) {
	t.Helper()
	info, _ := rseq.Query()
	area := uintptr(section.ThreadPointer()) + uintptr(info.Offset)
	if _, _, e := unix.RawSyscall6(unix.SYS_RSEQ, area, uintptr(info.RegisteredLen), 0, uintptr(info.Signature), 0, 0); e != 0 {
		t.Errorf("registering again: %v", e)
	}
}

// UnregisterArea is Unregister for a process that was not asked yet what it has.
func UnregisterArea(t testing.TB, offset int, length, signature uint32) {
	t.Helper()
	const unregister = 1 // RSEQ_FLAG_UNREGISTER
	area := uintptr(section.ThreadPointer()) + uintptr(offset)
	if _, _, e := unix.RawSyscall6(unix.SYS_RSEQ, area, uintptr(length), unregister, uintptr(signature), 0, 0); e != 0 {
		t.Errorf("unregistering: %v", e)
	}
}
