package main

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// maxCPUs is more than any kernel can be built for.
const maxCPUs = 1 << 14

// onThread runs f on a thread that nothing else of Go's uses meanwhile. f may bind it:
// afterwards its affinity is what it was. A goroutine that ends while locked would not
// do for that, since the main thread does not end with it.
func onThread(f func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		before := unix.NewCPUSet(maxCPUs)
		if err = unix.SchedGetaffinityDynamic(0, before); err != nil {
			runtime.UnlockOSThread()
			return
		}
		defer func() {
			if unix.SchedSetaffinityDynamic(0, before) == nil {
				runtime.UnlockOSThread()
			}
		}()
		err = f()
	}()
	<-done
	return err
}

// bind lets a thread run on one CPU only, the calling thread if tid is 0.
func bind(tid, cpu int) error {
	one := unix.NewCPUSet(cpu + 1)
	one.Set(cpu)
	return unix.SchedSetaffinityDynamic(tid, one)
}
