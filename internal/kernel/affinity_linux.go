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

// maskCPUs is how many CPUs a mask must have room for: the kernel answers EINVAL to
// a shorter one.
var maskCPUs atomic.Int64

// Affinity returns the CPUs that a thread may run on, the calling thread if tid is 0.
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

// Bind lets a thread run on some CPUs only, the calling thread if tid is 0.
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

// OnThread runs f on a thread that nothing else of Go's uses meanwhile, and returns
// f's error. f may bind the thread: afterwards its affinity is what it was. The thread
// ends then, unless it is the main one, which cannot: Go would park it for ever.
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

// restore lets the calling thread run where it could before it was bound. A thread
// that nobody confined gets all CPUs and not those of today: it is to follow its cpuset.
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
		return nil // none of those CPUs is left
	}
	return err
}
