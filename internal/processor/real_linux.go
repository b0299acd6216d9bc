package processor

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq/internal/kernel"
)

// real is this machine.
var real = machine{
	instructions: instructions,
	read:         read,
	getcpu:       kernel.Getcpu,
	possible:     kernel.PossibleCPUs,
	allowed:      kernel.AllowedCPUs,
	mayAsk: func() error {
		var set unix.CPUSet
		path := [...]byte{'/', 0} // kernel.PossibleCPUs opens a file
		cwd := unix.AT_FDCWD
		return survives(call{number: unix.SYS_GETCPU},
			call{unix.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(set), uintptr(unsafe.Pointer(&set))},
			call{unix.SYS_OPENAT, uintptr(cwd), uintptr(unsafe.Pointer(&path)), unix.O_RDONLY})
	},
	mayBind: func() error {
		var nothing unix.CPUSet // which is refused, if it comes so far
		return survives(call{unix.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(nothing), uintptr(unsafe.Pointer(&nothing))})
	},
	bind: func(cpu int) error {
		var one unix.CPUSet
		one.Set(cpu)
		return unix.SchedSetaffinity(0, &one)
	},
	cost:   cost,
	thread: thread,
}

// cost returns the nanoseconds of a call, the least of some tries: a thread that waits for
// a processor says nothing.
func cost(call func()) float64 {
	const tries, calls = 5, 50
	least := time.Duration(1<<63 - 1)
	for range tries {
		begin := time.Now()
		for range calls {
			call()
		}
		least = min(least, time.Since(begin))
	}
	return float64(least.Nanoseconds()) / calls
}

// thread runs f on a thread that ends with it. The main thread cannot end, so it is kept
// while another is found.
func thread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			thread(f)
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}
