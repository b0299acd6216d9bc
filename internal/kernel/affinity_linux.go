package kernel

import (
	"errors"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// maxCPUs is more CPUs than any kernel can be built for: 8,192 (NR_CPUS, Linux 6.18).
const maxCPUs = 1 << 16

// maskCPUs is the number of CPUs that a mask must have room for: the kernel answers EINVAL
// to a shorter mask.
var maskCPUs atomic.Int64

// Affinity returns the CPUs that a thread may run on. Thread 0 is the calling thread.
func Affinity(tid int) (unix.CPUSetDynamic, error) {
	for cpus := max(int(maskCPUs.Load()), 1024); ; cpus *= 2 {
		set := unix.NewCPUSet(cpus)
		err := unix.SchedGetaffinityDynamic(tid, set)
		if err == nil {
			maskCPUs.Store(int64(cpus))
		}
		if !errors.Is(err, unix.EINVAL) || cpus >= maxCPUs {
			return set, err
		}
	}
}

// Bind restricts a thread to some CPUs. Thread 0 is the calling thread.
func Bind(tid int, cpus ...int) error {
	set := unix.NewCPUSet(maxCPUs)
	for _, cpu := range cpus {
		if cpu < 0 {
			return unix.EINVAL
		}
		set.Set(cpu)
	}
	return unix.SchedSetaffinityDynamic(tid, set)
}

// CPUs returns the numbers in a set.
func CPUs(set unix.CPUSetDynamic) (cpus []int) {
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

// AllowedCPUs returns the CPUs that the calling thread may run on.
func AllowedCPUs() ([]int, error) {
	set, err := Affinity(0)
	return CPUs(set), err
}

// OnThread runs f on a thread that no other goroutine uses meanwhile, and returns f's error.
// f may bind the thread: OnThread restores its affinity. Then the thread ends, unless it is
// the main thread, which Go would park for ever; that one goes back to the scheduler.
func OnThread(f func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		var before unix.CPUSetDynamic
		if before, err = Affinity(0); err != nil {
			runtime.UnlockOSThread()
			return
		}
		defer func() {
			if restore(before) == nil && unix.Gettid() == unix.Getpid() {
				runtime.UnlockOSThread()
			}
		}()
		err = f()
	}()
	<-done
	return err
}

// restore gives the calling thread the affinity that it had before it was bound. If that
// was no restriction, the thread gets every possible CPU, so that it follows its cpuset
// when that grows.
func restore(before unix.CPUSetDynamic) error {
	all := unix.NewCPUSet(maxCPUs)
	all.Fill()
	if err := unix.SchedSetaffinityDynamic(0, all); err != nil {
		return err
	}
	if now, err := Affinity(0); err == nil && slices.Equal(now, before) {
		return nil
	}
	err := unix.SchedSetaffinityDynamic(0, before)
	if errors.Is(err, unix.EINVAL) {
		return nil // all of those CPUs have gone offline or left the cpuset
	}
	return err
}
