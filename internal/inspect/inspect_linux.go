package inspect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq/internal/kernel"
)

// stopTimeout bounds how long a thread may take to stop: one in an
// uninterruptible system call stops when that ends.
const stopTimeout = 5 * time.Second

// configuration is struct ptrace_rseq_configuration.
type configuration struct {
	address   uint64
	length    uint32
	signature uint32
	flags     uint32
	_         uint32
}

// Process returns the registration of every thread of process pid, in the
// order of their ids. It seizes and interrupts one thread after the other and
// lets each go before it takes the next; none receives a signal, but a system
// call that signals do not restart may return EINTR. When ctx ends, the thread
// that is held is let go and the error is ctx's.
func Process(ctx context.Context, pid int) (threads []Thread, err error) {
	// ptrace requests must come from the thread that attached. It ends with
	// the goroutine, which stays locked to it, and the kernel then lets go what
	// could not be detached because it did not stop.
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		threads, err = process(ctx, pid)
	}()
	<-done
	return threads, err
}

func process(ctx context.Context, pid int) ([]Thread, error) {
	seen := map[int]bool{}
	threads := []Thread{}
	for {
		tids, err := list(pid)
		if err != nil {
			return nil, err
		}
		tids = slices.DeleteFunc(tids, func(tid int) bool { return seen[tid] })
		if len(tids) == 0 {
			break // no thread came while the last ones were looked at
		}
		for _, tid := range tids {
			seen[tid] = true
			t, err := thread(ctx, pid, tid)
			if errors.Is(err, errEnded) {
				continue
			}
			if err != nil {
				return nil, err
			}
			threads = append(threads, t)
		}
	}
	if len(threads) == 0 {
		return nil, fmt.Errorf("process %d ended while it was looked at", pid)
	}
	slices.SortFunc(threads, func(a, b Thread) int { return a.TID - b.TID })
	return threads, nil
}

// list returns the ids of the process's threads.
func list(pid int) ([]int, error) {
	if _, err := os.Stat("/proc/self"); err != nil {
		return nil, errors.New("/proc is not mounted, and the threads are listed there")
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("there is no process %d", pid)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the threads of process %d: %w", pid, err)
	}
	var tids []int
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids, nil
}

// errEnded says that a thread ended between listing and looking.
var errEnded = errors.New("the thread ended")

func thread(ctx context.Context, pid, tid int) (Thread, error) {
	if err := ctx.Err(); err != nil {
		return Thread{}, err
	}
	if err := unix.PtraceSeize(tid); err != nil {
		return Thread{}, seizeError(pid, tid, err)
	}
	pending, err := stop(ctx, tid)
	if err != nil {
		return Thread{}, err
	}
	var c configuration
	size, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GET_RSEQ_CONFIGURATION,
		uintptr(tid), unsafe.Sizeof(c), uintptr(unsafe.Pointer(&c)), 0, 0)
	detach(tid, pending)
	switch {
	case errno == unix.ESRCH:
		return Thread{}, errEnded // killed while it was held
	case errno == unix.EIO:
		return Thread{}, fmt.Errorf("the kernel (%s) does not tell another process's rseq registration: "+
			"PTRACE_GET_RSEQ_CONFIGURATION needs Linux 5.13", kernel.Release())
	case errno != 0:
		return Thread{}, fmt.Errorf("thread %d: PTRACE_GET_RSEQ_CONFIGURATION: %w", tid, errno)
	case size < unsafe.Offsetof(c.flags)+unsafe.Sizeof(c.flags):
		return Thread{}, fmt.Errorf("thread %d: PTRACE_GET_RSEQ_CONFIGURATION returned %d bytes, expected %d",
			tid, size, unsafe.Sizeof(c))
	}
	t := Thread{TID: tid, Name: statusField(fmt.Sprintf("/proc/%d/task/%d/status", pid, tid), "Name")}
	if c.address != 0 {
		t.Address, t.Length, t.Signature, t.Flags = c.address, c.length, c.signature, c.flags
	}
	return t, nil
}

// stop interrupts a seized thread and waits until it stands still. If it stops
// because a signal is about to be delivered, that signal is returned, for
// detach to hand on.
func stop(ctx context.Context, tid int) (pending unix.Signal, err error) {
	if err := unix.PtraceInterrupt(tid); err != nil {
		return 0, errEnded
	}
	deadline := time.Now().Add(stopTimeout)
	for pause := 20 * time.Microsecond; ; pause = min(2*pause, 10*time.Millisecond) {
		var status unix.WaitStatus
		got, err := unix.Wait4(tid, &status, unix.WALL|unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, errEnded
		case got == tid && !status.Stopped():
			return 0, errEnded
		case got == tid && status>>16 == unix.PTRACE_EVENT_STOP:
			return 0, nil // interrupted, or in a group stop that detaching leaves as it is
		case got == tid:
			return status.StopSignal(), nil
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("thread %d did not stop within %v: it is in an uninterruptible system call; try again later",
				tid, stopTimeout)
		}
		time.Sleep(pause)
	}
}

// detach lets a stopped thread run on, with the signal that it was to receive.
func detach(tid int, pending unix.Signal) {
	unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, uintptr(tid), 0, uintptr(pending), 0, 0)
}

// seizeError says why a thread cannot be seized. The kernel answers EPERM to
// many things, so it looks which one it was.
func seizeError(pid, tid int, err error) error {
	status := fmt.Sprintf("/proc/%d/task/%d/status", pid, tid)
	state := statusField(status, "State")
	switch {
	case errors.Is(err, unix.ESRCH), state == "", strings.HasPrefix(state, "Z"), strings.HasPrefix(state, "X"):
		return errEnded
	case !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES):
		return fmt.Errorf("cannot trace thread %d of process %d: %w", tid, pid, err)
	}
	if pid == os.Getpid() {
		return fmt.Errorf("process %d is this one, and no process can trace itself: use `rseq show`", pid)
	}
	if isKernelThread(pid) {
		return fmt.Errorf("process %d is a kernel thread: it has no user memory, so no rseq area", pid)
	}
	if tracer := statusField(status, "TracerPid"); tracer != "" && tracer != "0" {
		return fmt.Errorf("process %d is traced already, by thread %s (a debugger, strace?): end that first", pid, tracer)
	}
	uid, _, _ := strings.Cut(statusField(status, "Uid"), "\t")
	if self := os.Getuid(); self != 0 && uid != strconv.Itoa(self) {
		return fmt.Errorf("process %d belongs to user %s, this is user %d: run as that user or as root", pid, uid, self)
	}
	if scope, e := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); e == nil {
		switch s := strings.TrimSpace(string(scope)); s {
		case "1", "2":
			return fmt.Errorf("process %d is protected by Yama (kernel.yama.ptrace_scope is %s): run as root", pid, s)
		case "3":
			return fmt.Errorf("no process may be traced: kernel.yama.ptrace_scope is 3 until the next boot")
		}
	}
	return fmt.Errorf("process %d may not be traced (%w): it is not dumpable, or a container or filter keeps CAP_SYS_PTRACE from this one: "+
		"run as root on the host", pid, err)
}

// isKernelThread looks at PF_KTHREAD in the flags, the ninth field of stat.
func isKernelThread(pid int) bool {
	const pfKthread = 0x00200000
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	fields := strings.Fields(rest) // from the third field, state, on
	if len(fields) < 7 {
		return false
	}
	flags, err := strconv.ParseUint(fields[6], 10, 64)
	return err == nil && flags&pfKthread != 0
}

// statusField returns the value of one line of a status file of /proc, empty if
// there is none.
func statusField(path, key string) string {
	data, _ := os.ReadFile(path)
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
