package kernel

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Commands of membarrier(2) for critical sections, Linux 5.10 (2a36ab717e8f).
const (
	membarrierPrivateExpeditedRseq         = 1 << 7
	membarrierRegisterPrivateExpeditedRseq = 1 << 8
	membarrierFlagCPU                      = 1
)

// Membarrier ends the critical sections that run now on a CPU, on all if cpu is
// negative: the kernel aborts them. Whoever was in one before sees what the caller
// stored before.
func Membarrier(cpu int) error {
	flags := uintptr(membarrierFlagCPU)
	if cpu < 0 {
		cpu, flags = 0, 0
	}
	fence := func() unix.Errno {
		_, _, e := unix.Syscall(unix.SYS_MEMBARRIER, membarrierPrivateExpeditedRseq, flags, uintptr(cpu))
		return e
	}
	e := fence()
	if e == unix.EPERM { // not registered yet, or not any more: a restored process
		if _, _, e = unix.Syscall(unix.SYS_MEMBARRIER, membarrierRegisterPrivateExpeditedRseq, 0, 0); e == 0 {
			e = fence()
		}
	}
	if e != 0 {
		return e
	}
	return nil
}

// Visit does what Membarrier does by running on the CPU, on every one if cpu is
// negative: what ran there was preempted. It takes as long as the scheduler takes to
// let a thread in that is made for it.
func Visit(cpu int) error {
	first, last := cpu, cpu
	if cpu < 0 {
		first, last = 0, PossibleCPUs()-1
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends, with its affinity
		var own unix.CPUSet
		err := unix.SchedGetaffinity(0, &own) // also where it is too small
		for cpu := first; cpu <= last && err == nil; cpu++ {
			err = visit(cpu)
		}
		done <- err
	}()
	return <-done
}

func visit(cpu int) error {
	var one unix.CPUSet
	one.Set(cpu)
	for {
		switch err := unix.SchedSetaffinity(0, &one); {
		case errors.Is(err, unix.EINVAL):
			// It is off, or not for this thread; what ran there was moved away, if no
			// other may use it. (Or is, within microseconds, if that changed just now.)
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
