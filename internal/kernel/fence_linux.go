package kernel

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Commands of membarrier(2) for critical sections, Linux 5.10 (2a36ab717e8f).
const (
	membarrierPrivateExpeditedRseq         = 1 << 7
	membarrierRegisterPrivateExpeditedRseq = 1 << 8
	membarrierFlagCPU                      = 1
)

var fences atomic.Bool // the process is registered for them

// Membarrier ends the critical sections that run now on a CPU, on all if cpu is
// negative: the kernel aborts them. Whoever was in one before sees what the caller
// stored before.
func Membarrier(cpu int) error {
	if !fences.Load() {
		if _, _, e := unix.Syscall(unix.SYS_MEMBARRIER, membarrierRegisterPrivateExpeditedRseq, 0, 0); e != 0 {
			return e
		}
		fences.Store(true)
	}
	flags := uintptr(membarrierFlagCPU)
	if cpu < 0 {
		cpu, flags = 0, 0
	}
	if _, _, e := unix.Syscall(unix.SYS_MEMBARRIER, membarrierPrivateExpeditedRseq, flags, uintptr(cpu)); e != 0 {
		return e
	}
	return nil
}

// Visit does what Membarrier does by running on the CPU, on every one if cpu is
// negative: what ran there was preempted. It takes as long as the scheduler takes to
// let the calling thread in.
func Visit(cpu int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil { // also where it is too small
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	defer unix.SchedSetaffinity(0, &before)
	first, last := cpu, cpu
	if cpu < 0 {
		first, last = 0, PossibleCPUs()-1
	}
	for cpu := first; cpu <= last; cpu++ {
		if err := visit(cpu); err != nil {
			return err
		}
	}
	return nil
}

func visit(cpu int) error {
	var one unix.CPUSet
	one.Set(cpu)
	for {
		switch err := unix.SchedSetaffinity(0, &one); {
		case errors.Is(err, unix.EINVAL):
			// It is off, or not for this thread; what ran there was moved away, if no
			// other may use it.
			if used, e := usable(); e != nil || used.IsSet(cpu) {
				return fmt.Errorf("sched_setaffinity to CPU %d, which another thread may use: %w", cpu, errors.Join(err, e))
			}
			return nil
		case err != nil:
			return fmt.Errorf("sched_setaffinity to CPU %d: %w", cpu, err)
		}
		// Somebody may have moved this thread on.
		if on, _, err := Getcpu(); err != nil || on == cpu {
			return err
		}
	}
}

// usable returns the CPUs that any thread of this process may use.
func usable() (all unix.CPUSet, err error) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return all, err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return all, err
		}
		var set unix.CPUSet
		if err := unix.SchedGetaffinity(tid, &set); errors.Is(err, unix.ESRCH) {
			continue // it ended
		} else if err != nil {
			return all, fmt.Errorf("sched_getaffinity of thread %d: %w", tid, err)
		}
		for i := range all {
			all[i] |= set[i]
		}
	}
	return all, nil
}
