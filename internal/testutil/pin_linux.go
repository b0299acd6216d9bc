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

// OnThread runs f on a thread of its own, which ends with f, or, if it is the main one,
// is parked for ever. So what f does to the thread (its affinity, its signal mask, its
// area) stays with it.
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
	if err := kernel.Bind(0, cpus...); err != nil {
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
	area := uintptr(section.ThreadPointer()) + uintptr(offset)
	if _, _, e := unix.RawSyscall6(unix.SYS_RSEQ, area, uintptr(length), abi.FlagUnregister, uintptr(signature), 0, 0); e != 0 {
		t.Errorf("unregistering: %v", e)
	}
}

// ThreadTime returns how long a thread of this process has run on a CPU. What a thread
// does while it runs is judged by that, since a machine may let it run late.
func ThreadTime(t testing.TB, tid int) time.Duration {
	t.Helper()
	const perThread, sched = 4, 2 // linux/posix-timers.h
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^tid<<3|perThread|sched), &ts); err != nil {
		t.Error(err)
	}
	return time.Duration(ts.Nano())
}
