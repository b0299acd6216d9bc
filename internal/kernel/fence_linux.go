package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq/internal/abi"
)

const (
	// membarrierFlagCPU is MEMBARRIER_CMD_FLAG_CPU: the fence is for one CPU (Linux 5.10,
	// 2a36ab717e8f).
	membarrierFlagCPU = 1

	membarrierQuery    = 0      // MEMBARRIER_CMD_QUERY: which commands the kernel has
	membarrierSyncCore = 1 << 5 // MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, one of them
)

// mayMembarrier and mayVisit ask whether a seccomp filter kills the process for the system
// calls of the two ways to fence.
var (
	mayMembarrier = question{calls: []Call{
		{unix.SYS_MEMBARRIER, membarrierQuery, 0, 0, 0},
		{unix.SYS_MEMBARRIER, abi.MembarrierRegisterRseq, 0, 0, 0},
		{unix.SYS_MEMBARRIER, abi.MembarrierRseq, 0, 0, 0},
		{unix.SYS_MEMBARRIER, abi.MembarrierRseq, membarrierFlagCPU, 0, 0},
	}}
	mayVisit = question{calls: []Call{
		{unix.SYS_SCHED_GETAFFINITY, 0, 0, 0, 0},
		{unix.SYS_SCHED_SETAFFINITY, 0, 0, 0, 0},
		{unix.SYS_GETCPU, 0, 0, 0, 0},
	}}
)

// Membarrier has the kernel abort the critical sections that run now on a CPU, or on all
// CPUs if cpu is negative. Each section that begins afterwards sees what the caller stored
// before.
func Membarrier(cpu int) error {
	if err := mayMembarrier.ask(); err != nil {
		return err
	}
	if mayMissThreads {
		commands, e := membarrier(membarrierQuery, 0, 0)
		if e != 0 {
			return e
		}
		if commands&membarrierSyncCore == 0 {
			return unix.EINVAL // as from a kernel without the command
		}
	}
	flags := uintptr(membarrierFlagCPU)
	if cpu < 0 {
		cpu, flags = 0, 0
	}
	_, e := membarrier(abi.MembarrierRseq, flags, uintptr(cpu))
	if e == unix.EPERM { // the process has not registered for it, or was restored since
		if _, e = membarrier(abi.MembarrierRegisterRseq, 0, 0); e == 0 {
			_, e = membarrier(abi.MembarrierRseq, flags, uintptr(cpu))
		}
	}
	if e != 0 {
		return e
	}
	return nil
}

// mayMissThreads says that membarrier(2) may be no fence here. On riscv64 before Linux 6.9 it skips
// a CPU that is switching to a thread of this process, although what that thread loads may be
// older (mended by d6cfd1770f20). The command SYNC_CORE came later in the same series
// (cd9b29014dc6), so a kernel that has it is mended. A variable for the tests.
var mayMissThreads = runtime.GOARCH == "riscv64"

// membarrier calls membarrier(2). A variable for the tests.
var membarrier = func(command, flags, cpu uintptr) (uintptr, unix.Errno) {
	r, _, e := unix.Syscall(unix.SYS_MEMBARRIER, command, flags, cpu)
	return r, e
}

// Visit does what Membarrier does, by running a thread on the CPU: the thread that ran there
// is preempted, which aborts its section. If cpu is negative it visits each CPU that a
// thread of this process was last on. It takes as long as the scheduler takes to run a
// thread there.
//
// Visit looks where each thread is, and not where it may run. A CPU that goes offline, or
// leaves the cpuset, is missing from the affinity of a thread that still runs there, and
// binding to it fails with EINVAL. (tcmalloc reads /proc/self/cpuset after its visits, which
// waits for a change of the cpuset but for nothing else.) A thread on a CPU that this one
// cannot be bound to must be seen waiting, or on another CPU: then it was switched out
// since Visit was called. A thread that was made or moved meanwhile runs no section that
// began before.
func Visit(cpu int) error {
	if err := mayVisit.ask(); err != nil {
		return fmt.Errorf("sched_setaffinity: %w", err)
	}
	return OnThread(func() error {
		v := visitor{target: cpu, been: map[int]bool{}, left: PossibleCPUs(), deadline: time.Now().Add(patience)}
		return v.visit()
	})
}

// patience is how long Visit waits for a thread to leave a CPU that it cannot be bound to.
const patience = 2 * time.Second

type visitor struct {
	target   int          // the CPU to fence, all if negative
	been     map[int]bool // the CPUs that it ran on
	left     int          // the number of possible CPUs that are left
	deadline time.Time
}

func (v *visitor) visit() error {
	if v.target >= 0 {
		if arrived, err := v.arrive(v.target); arrived || err != nil {
			return err
		}
	}
	threads, err := listThreads()
	if err != nil {
		return v.everywhere(err)
	}
	for _, id := range threads {
		if v.left == 0 {
			break // it was everywhere
		}
		if err := v.interrupt(id); err != nil {
			return err
		}
	}
	return nil
}

// everywhere visits every CPU, for the case that the threads cannot be listed.
func (v *visitor) everywhere(why error) error {
	for cpu := range PossibleCPUs() {
		if v.target >= 0 && cpu != v.target {
			continue
		}
		if arrived, err := v.arrive(cpu); err != nil {
			return err
		} else if !arrived {
			return fmt.Errorf("sched_setaffinity to CPU %d: %w, and it cannot be seen whether a thread runs there: %w", cpu, unix.EINVAL, why)
		}
	}
	return nil
}

// interrupt returns once a thread was switched out after the visit began.
func (v *visitor) interrupt(id string) error {
	for {
		cpu, err := lastCPU(id)
		if gone(err) {
			return nil
		} else if err != nil {
			return err
		}
		if v.target >= 0 && cpu != v.target || v.been[cpu] {
			return nil
		}
		if arrived, err := v.arrive(cpu); arrived || err != nil {
			return err
		}
		if waits(id) {
			return nil
		}
		if time.Now().After(v.deadline) {
			return fmt.Errorf("sched_setaffinity to CPU %d: %w, and thread %s does not stop running there", cpu, unix.EINVAL, id)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// arrive moves the calling thread to a CPU and reports whether it ran there. It did not if the
// kernel does not let the thread run there.
func (v *visitor) arrive(cpu int) (arrived bool, err error) {
	for range 1000 {
		if err := Bind(0, cpu); errors.Is(err, unix.EINVAL) {
			return false, nil
		} else if err != nil {
			return false, fmt.Errorf("sched_setaffinity to CPU %d: %w", cpu, err)
		}
		on, _, err := Getcpu()
		if err != nil {
			return false, err
		}
		if !v.been[on] {
			v.been[on] = true
			if on < PossibleCPUs() {
				v.left--
			}
		}
		if on == cpu { // else another process has moved this thread on
			return true, nil
		}
	}
	return false, fmt.Errorf("CPU %d cannot be visited: this thread is moved away each time", cpu)
}

const tasks = "/proc/self/task"

// listThreads lists the threads of this process: every thread that exists from the beginning
// of the call to its end, and perhaps others. Reading the directory in /proc is not enough:
// if a thread ends that was just listed, the kernel leaves out others. So the list must be
// as long as the kernel's count. If threads come and go too fast for that, listThreads tries
// every number.
func listThreads() ([]string, error) {
	for range 5 {
		if ids, complete, err := readTasks(); err != nil || complete {
			return ids, err
		}
	}
	return tryAll()
}

// readTasks returns the threads that /proc lists, and whether the list is complete.
func readTasks() (ids []string, complete bool, err error) {
	dir, err := os.Open(tasks)
	if err != nil {
		return nil, false, err
	}
	defer dir.Close()
	if ids, err = dir.Readdirnames(-1); err != nil {
		return nil, false, err
	}
	info, err := dir.Stat()
	if err != nil {
		return nil, false, err
	}
	for _, id := range ids {
		// A thread that exists now existed when the kernel counted.
		if err := unix.Access(filepath.Join(tasks, id), unix.F_OK); err != nil {
			return ids, false, nil
		}
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ids, ok && int(stat.Nlink) == len(ids)+2, nil // a link for each thread, and two
}

// tryAll finds the threads by trying every possible thread id.
func tryAll() (ids []string, err error) {
	pid := os.Getpid()
	if self, err := os.Readlink("/proc/self"); err != nil {
		return nil, err
	} else if self != strconv.Itoa(pid) {
		return nil, fmt.Errorf("threads come and go, and /proc is another PID namespace's: this process is %s there and %d here", self, pid)
	}
	last := 1 << 22 // PID_MAX_LIMIT, include/linux/threads.h
	if data, err := os.ReadFile("/proc/sys/kernel/pid_max"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
			last = n
		}
	}
	for id := 1; id <= last; id++ {
		if err := unix.Tgkill(pid, id, 0); err == nil {
			ids = append(ids, strconv.Itoa(id))
		} else if err != unix.ESRCH {
			return nil, fmt.Errorf("tgkill of thread %d: %w", id, err)
		}
	}
	return ids, nil
}

// lastCPU returns the CPU that a thread runs on, or ran on last.
func lastCPU(id string) (int, error) {
	data, err := os.ReadFile(filepath.Join(tasks, id, "stat"))
	if err != nil {
		return -1, err
	}
	// The name, in parentheses, may have any character in it. See proc_pid_stat(5).
	stat := string(data)
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const processor = 39 - 3 // the state is field 3
	if len(fields) <= processor {
		return -1, fmt.Errorf("%s/%s/stat: %q has no processor", tasks, id, stat)
	}
	return strconv.Atoi(fields[processor])
}

// waits reports whether a thread is switched out and waits for something. (Its state would
// not tell: a thread may leave the state "running" and go on before it is switched out.)
func waits(id string) bool {
	what, err := os.ReadFile(filepath.Join(tasks, id, "syscall"))
	return gone(err) || err == nil && !strings.HasPrefix(string(what), "running")
}

func gone(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) }
