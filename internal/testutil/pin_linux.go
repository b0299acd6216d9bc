package testutil

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/abi"
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

// OnThread runs f on a thread of its own, which ends after f, or is parked for ever if it is
// the main thread. So f may change the thread's affinity, signal mask and area.
func OnThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

// Pin binds the calling thread to cpus. The goroutine must be locked to the thread.
func Pin(t testing.TB, cpus ...int) {
	t.Helper()
	if err := kernel.Bind(0, cpus...); err != nil {
		t.Errorf("pin to CPU %v: %v", cpus, err)
	}
}

// Unregister unregisters the calling thread's area. The goroutine must be locked to the
// thread. The C library, which must own the area, does not notice.
func Unregister(t testing.TB) {
	t.Helper()
	info, err := rseq.Query()
	if err != nil || info.Owner != rseq.OwnerLibc {
		t.Errorf("owner %v, %v: expected the C library", info.Owner, err)
		return
	}
	UnregisterArea(t, info.Offset, info.RegisteredLen, info.Signature)
}

// RegisterAgain registers the area again after Unregister.
func RegisterAgain(t testing.TB) {
	t.Helper()
	info, _ := rseq.Query()
	area := uintptr(section.ThreadPointer()) + uintptr(info.Offset)
	if _, _, e := unix.RawSyscall6(unix.SYS_RSEQ, area, uintptr(info.RegisteredLen), 0, uintptr(info.Signature), 0, 0); e != 0 {
		t.Errorf("registering again: %v", e)
	}
}

// UnregisterArea is Unregister for a process that must not call Query.
func UnregisterArea(t testing.TB, offset int, length, signature uint32) {
	t.Helper()
	area := uintptr(section.ThreadPointer()) + uintptr(offset)
	if _, _, e := unix.RawSyscall6(unix.SYS_RSEQ, area, uintptr(length), abi.FlagUnregister, uintptr(signature), 0, 0); e != 0 {
		t.Errorf("unregistering: %v", e)
	}
}

// ThreadTime returns how long a thread of this process has run on a CPU. Tests use it in place
// of the time that passed, in which the thread may have waited for a CPU.
func ThreadTime(t testing.TB, tid int) time.Duration {
	t.Helper()
	const perThread, sched = 4, 2 // linux/posix-timers.h
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^tid<<3|perThread|sched), &ts); err != nil {
		t.Error(err)
	}
	return time.Duration(ts.Nano())
}
