package inspect

import (
	"bytes"
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

const (
	// A thread that does not stop at once, as one in an uninterruptible system call,
	// is put aside. What is aside when all were looked at gets patience, together.
	atOnce   = 50 * time.Millisecond
	patience = 5 * time.Second
	// passes bounds how often the threads are listed, since a process may make
	// threads faster than they can be looked at.
	passes = 5
)

// configuration is struct ptrace_rseq_configuration.
type configuration struct {
	address   uint64
	length    uint32
	signature uint32
	flags     uint32
	_         uint32
}

// Process returns the registration of every thread of process pid. It seizes and
// interrupts one thread after the other and lets each go before it takes the next;
// none receives a signal, but a system call that signals do not restart may return
// EINTR. A thread that does not stop is left out. When ctx ends, the thread that is
// held is let go and the error is ctx's.
func Process(ctx context.Context, pid int) (r *Report, err error) {
	onThread(func() {
		p := process{ctx: ctx, pid: pid}
		r, err = p.look()
	})
	return r, err
}

// onThread calls f on a thread of its own, since ptrace requests must come from the
// thread that attached. The thread then ends, and the kernel lets go what it had
// attached to and could not detach from. The main thread would not end with its
// goroutine, but wait for the process to end, and so is not used.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			onThread(f) // another one, since this goroutine keeps the main thread
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}

// process is one that is being looked at.
type process struct {
	ctx   context.Context
	pid   int
	dir   *os.File // its folder of /proc, which never becomes another process's
	aside []int    // threads that were seized and interrupted, and have not stopped
}

// path returns the path of a file of the process's folder. When the process has ended,
// no other's is opened by it.
func (p *process) path(name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", p.dir.Fd(), name)
}

func (p *process) look() (*Report, error) {
	if err := sameNamespace(); err != nil {
		return nil, err
	}
	var err error
	p.dir, err = os.Open(fmt.Sprintf("/proc/%d", p.pid))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no process %d", p.pid)
	}
	if err != nil {
		return nil, err
	}
	defer p.dir.Close()
	defer p.release()
	r := &Report{PID: p.pid, Threads: []Thread{}}
	take := func(t Thread, err error) error {
		if err == nil {
			r.Threads = append(r.Threads, t)
		} else if !errors.Is(err, errEnded) && !errors.Is(err, errAside) {
			return err
		}
		return nil
	}
	seen := map[int]bool{}
	for pass := 0; ; pass++ {
		tids, err := p.list()
		if err != nil {
			return nil, err
		}
		tids = slices.DeleteFunc(tids, func(tid int) bool { return seen[tid] })
		if len(tids) == 0 {
			break // no thread came while the last ones were looked at
		}
		if pass == passes {
			r.Missing = "it makes threads as fast as they can be looked at: the last are left out"
			break
		}
		for _, tid := range tids {
			seen[tid] = true
			if err := take(p.thread(tid)); err != nil {
				return nil, err
			}
		}
	}
	for began := time.Now(); len(p.aside) > 0 && time.Since(began) < patience; time.Sleep(time.Millisecond) {
		if err := p.ctx.Err(); err != nil {
			return nil, err
		}
		tids := p.aside
		p.aside = nil
		for _, tid := range tids {
			if err := take(p.ask(tid, 0)); err != nil {
				return nil, err
			}
		}
	}
	stuck := ""
	if n := len(p.aside); n > 0 {
		stuck = fmt.Sprintf("%s did not stop within %v, being in an uninterruptible system call", plural(n, "thread"), patience)
	}
	switch {
	case len(r.Threads) > 0:
		r.Missing = strings.TrimPrefix(r.Missing+"; "+stuck, "; ")
		r.Missing = strings.TrimSuffix(r.Missing, "; ")
	case stuck != "":
		return nil, fmt.Errorf("process %d: %s", p.pid, stuck)
	default:
		return nil, fmt.Errorf("process %d ended while it was looked at", p.pid)
	}
	slices.SortFunc(r.Threads, func(a, b Thread) int { return a.TID - b.TID })
	return r, nil
}

// sameNamespace checks that /proc has the ids that this process's system calls take: a
// container may have that of another namespace, in which the same numbers are other
// processes.
func sameNamespace() error {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fmt.Errorf("/proc is not mounted, or not for this process's namespace of process ids, "+
			"and the threads are listed there: %w", err)
	}
	// The ids of this process, in the namespace that /proc is of and in those below.
	ids, told := field(data, "NSpid")
	if !told { // before Linux 4.1
		ids, _ = field(data, "Pid")
	}
	if ids != strconv.Itoa(os.Getpid()) {
		return fmt.Errorf("/proc is of another namespace of process ids: this process is %s there, and %d for the kernel: "+
			"mount /proc anew (unshare --mount-proc)", strings.ReplaceAll(ids, "\t", ", below that "), os.Getpid())
	}
	return nil
}

// plural is "1 thread", "2 threads".
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// list returns the ids of the process's threads.
func (p *process) list() ([]int, error) {
	entries, err := os.ReadDir(p.path("task"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, nil // it ended
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the threads of process %d: %w", p.pid, err)
	}
	var tids []int
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids, nil
}

var (
	errEnded = errors.New("the thread ended between listing and looking")
	errAside = errors.New("the thread has not stopped yet")
)

func (p *process) thread(tid int) (Thread, error) {
	if err := p.ctx.Err(); err != nil {
		return Thread{}, err
	}
	if err := unix.PtraceSeize(tid); err != nil {
		return Thread{}, p.seizeError(tid, err)
	}
	if err := unix.PtraceInterrupt(tid); err != nil {
		return Thread{}, errEnded
	}
	return p.ask(tid, atOnce)
}

// ask waits until the thread stands still, asks about it and lets it go. One that does
// not stop within limit it puts aside.
func (p *process) ask(tid int, limit time.Duration) (Thread, error) {
	var pending unix.Signal
	began := time.Now()
	for pause := 20 * time.Microsecond; ; pause = min(2*pause, 10*time.Millisecond) {
		var stopped bool
		var err error
		if pending, stopped, err = wait(tid); err != nil {
			return Thread{}, err
		} else if stopped {
			break
		}
		if p.ctx.Err() != nil || time.Since(began) >= limit {
			p.aside = append(p.aside, tid)
			return Thread{}, errAside
		}
		time.Sleep(pause)
	}
	defer detach(tid, pending)
	// Held, the thread keeps its id. It may be another process's that had the id by
	// the time that it was seized.
	name, err := os.ReadFile(p.path(fmt.Sprintf("task/%d/comm", tid)))
	if err != nil {
		return Thread{}, errEnded
	}
	var c configuration
	size, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GET_RSEQ_CONFIGURATION,
		uintptr(tid), unsafe.Sizeof(c), uintptr(unsafe.Pointer(&c)), 0, 0)
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
	t := Thread{TID: tid, Name: string(bytes.TrimSuffix(name, []byte("\n")))}
	if c.address != 0 {
		t.Address, t.Length, t.Signature, t.Flags = c.address, c.length, c.signature, c.flags
	}
	return t, nil
}

// wait looks whether an interrupted thread stands still by now. If it stopped because a
// signal is about to be delivered, that signal is returned, for detach to hand on.
func wait(tid int) (pending unix.Signal, stopped bool, err error) {
	var status unix.WaitStatus
	got, err := unix.Wait4(tid, &status, unix.WALL|unix.WNOHANG, nil)
	switch {
	case err == unix.EINTR:
		return 0, false, nil
	case err != nil:
		return 0, false, errEnded
	case got != tid:
		return 0, false, nil
	case !status.Stopped():
		return 0, false, errEnded
	case status>>16 == unix.PTRACE_EVENT_STOP:
		return 0, true, nil // interrupted, or in a group stop that detaching leaves as it is
	}
	return status.StopSignal(), true, nil
}

// release lets go what is aside and has stopped by now; what still has not the kernel
// lets go when this thread ends.
func (p *process) release() {
	for _, tid := range p.aside {
		if pending, stopped, _ := wait(tid); stopped {
			detach(tid, pending)
		}
	}
}

// detach lets a stopped thread run on, with the signal that it was to receive.
func detach(tid int, pending unix.Signal) {
	unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, uintptr(tid), 0, uintptr(pending), 0, 0)
}

// seizeError says why a thread cannot be seized. The kernel answers EPERM to
// many things, so it looks which one it was.
func (p *process) seizeError(tid int, err error) error {
	status, _ := os.ReadFile(p.path(fmt.Sprintf("task/%d/status", tid)))
	state, _ := field(status, "State")
	switch {
	case errors.Is(err, unix.ESRCH), state == "", strings.HasPrefix(state, "Z"), strings.HasPrefix(state, "X"):
		return errEnded
	case !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES):
		return fmt.Errorf("cannot trace thread %d of process %d: %w", tid, p.pid, err)
	}
	if p.pid == os.Getpid() {
		return fmt.Errorf("process %d is this one, and no process can trace itself: use `rseq show`", p.pid)
	}
	if p.isKernelThread() {
		return fmt.Errorf("process %d is a kernel thread: it has no user memory, so no rseq area", p.pid)
	}
	if tracer, _ := field(status, "TracerPid"); tracer != "" && tracer != "0" {
		return fmt.Errorf("process %d is traced already, by thread %s (a debugger, strace?): end that first", p.pid, tracer)
	}
	uids, _ := field(status, "Uid")
	uid, _, _ := strings.Cut(uids, "\t")
	if self := os.Getuid(); self != 0 && uid != strconv.Itoa(self) {
		return fmt.Errorf("process %d belongs to user %s, this is user %d: run as that user or as root", p.pid, uid, self)
	}
	if scope, e := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); e == nil {
		switch s := strings.TrimSpace(string(scope)); s {
		case "1", "2":
			return fmt.Errorf("process %d is protected by Yama (kernel.yama.ptrace_scope is %s): run as root", p.pid, s)
		case "3":
			return fmt.Errorf("no process may be traced: kernel.yama.ptrace_scope is 3 until the next boot")
		}
	}
	return fmt.Errorf("process %d may not be traced (%w): it is not dumpable, or a container or filter keeps CAP_SYS_PTRACE from this one: "+
		"run as root on the host", p.pid, err)
}

// isKernelThread looks at PF_KTHREAD in the flags, the ninth field of stat.
func (p *process) isKernelThread() bool {
	const pfKthread = 0x00200000
	stat, err := os.ReadFile(p.path("stat"))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	fields := strings.Fields(rest) // from the third field, state, on
	if len(fields) < 7 {
		return false
	}
	flags, err := strconv.ParseUint(fields[6], 10, 64)
	return err == nil && flags&pfKthread != 0
}

// field returns the value of one line of a status file of /proc.
func field(status []byte, key string) (value string, found bool) {
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}
