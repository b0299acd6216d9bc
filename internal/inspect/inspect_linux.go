package inspect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
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
	// A thread that does not stop within atOnce, as in an uninterruptible system call, is
	// put aside. After the last thread, those that are aside have patience to stop, together.
	atOnce   = 50 * time.Millisecond
	patience = 5 * time.Second
	// passes bounds how often the threads are listed: a process may make threads faster
	// than they can be asked about.
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

// Process returns the registration of every thread of process pid. It seizes and interrupts
// one thread at a time and detaches from it before it seizes the next. No thread receives a
// signal, but a system call that is not restarted after signals may return EINTR. A thread
// that does not stop is left out. When ctx ends Process detaches and returns ctx's error.
// It calls progress, unless that is nil, with the number of threads that were asked about
// and the number that are known.
func Process(ctx context.Context, pid int, progress func(done, all int)) (r *Report, err error) {
	onThread(func() {
		p := process{ctx: ctx, pid: pid}
		if err = p.open(); err == nil {
			defer p.close()
			r, err = p.look(progress)
		}
	})
	return r, err
}

// Processes returns the ids of all processes, including this one and kernel threads.
func Processes() ([]int, error) {
	if err := sameNamespace(); err != nil {
		return nil, err
	}
	return numbers("/proc")
}

// Named returns the ids of the processes, except this one, whose name or program's file name
// is name.
func Named(name string) (pids []int, err error) {
	all, err := Processes()
	for _, pid := range all {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		program, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		program = path.Base(strings.TrimSuffix(program, deletedMark))
		// The kernel keeps the first 15 bytes of a process's name.
		if pid != os.Getpid() && (strings.TrimSuffix(string(comm), "\n") == name[:min(len(name), 15)] || program == name) {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// onThread calls f on a thread of its own, since ptrace requests must come from the thread
// that attached. The thread ends after f, and then the kernel detaches it from every thread
// that f could not detach from. The main thread is not used: it does not end before the
// process.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			onThread(f) // on another thread, since this goroutine holds the main one
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}

// process is a process that is being inspected.
type process struct {
	ctx   context.Context
	pid   int
	dir   *os.File // its folder in /proc, which stays its own if the id is used again
	fd    uintptr  // dir's
	image *image   // nil until it is read
	again bool     // the image was read a second time
	aside []int    // threads that were seized and interrupted, but have not stopped
}

// path returns the path of a file in the process's folder. After the process has ended that
// path opens nothing.
func (p *process) path(name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", p.fd, name)
}

func (p *process) open() (err error) {
	if err := sameNamespace(); err != nil {
		return err
	}
	p.dir, err = os.Open(fmt.Sprintf("/proc/%d", p.pid))
	if errors.Is(err, os.ErrNotExist) {
		return because(ErrGone, "there is no process %d", p.pid)
	}
	if err == nil {
		p.fd = p.dir.Fd()
	}
	return err
}

func (p *process) close() {
	p.release()
	p.forget()
	p.dir.Close()
}

// forget drops the image.
func (p *process) forget() {
	if p.image != nil {
		p.image.close()
	}
	p.image, p.again = nil, false
}

// readAgain reads the image a second time, by a thread that is held. It returns an error if
// that fails, or if it was done before.
func (p *process) readAgain(tid int) error {
	if p.again {
		return errors.New("it was read a moment ago")
	}
	im, err := readImage(p.path(fmt.Sprintf("task/%d/", tid)))
	if err == nil {
		p.forget()
		p.image = im
	}
	p.again = true
	return err
}

// comm returns the name of the process or of one of its threads. (It is read for each thread,
// and os.ReadFile would make eight more system calls.)
func (p *process) comm(dir string) (string, error) {
	file, err := unix.Open(p.path(dir+"comm"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(file)
	name := make([]byte, 64) // the kernel keeps 16 bytes, for a kernel thread 64
	n, err := unix.Read(file, name)
	if err != nil {
		return "", err
	}
	return string(bytes.TrimSuffix(name[:n], []byte("\n"))), nil
}

func (p *process) look(progress func(done, all int)) (*Report, error) {
	// The image is read before any thread is stopped, since that takes a while. If it may
	// not be read no thread may be seized.
	p.image, _ = readImage(p.path(""))
	name, _ := p.comm("")
	r := &Report{PID: p.pid, Name: name, Threads: []Thread{}}
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
		tids, all, err := p.list()
		if err != nil {
			return nil, err
		}
		tids = slices.DeleteFunc(tids, func(tid int) bool { return seen[tid] })
		if len(tids) == 0 && all {
			break // no thread was made while the last ones were asked about
		}
		if pass == passes {
			r.Missing = "its threads come and go faster than they can be asked about"
			break
		}
		for n, tid := range tids {
			if progress != nil {
				progress(len(seen), len(seen)+len(tids)-n)
			}
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
		if progress != nil {
			progress(len(r.Threads), len(seen))
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
		return nil, because(ErrGone, "process %d ended while it was inspected", p.pid)
	}
	slices.SortFunc(r.Threads, func(a, b Thread) int { return a.TID - b.TID })
	return r, nil
}

// plural returns "1 thread" or "2 threads".
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// list returns the ids of the process's threads, and whether the list is complete: if a thread
// ends that was just listed, /proc leaves out others.
func (p *process) list() (tids []int, all bool, err error) {
	tids, err = numbers(p.path("task"))
	var now unix.Stat_t // the folder has two links, and one for each thread
	if err == nil {
		err = unix.Stat(p.path("task"), &now)
	}
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, true, nil // the process has ended
	}
	if err != nil {
		return nil, false, fmt.Errorf("cannot list the threads of process %d: %w", p.pid, err)
	}
	return tids, len(tids)+2 == int(now.Nlink), nil
}

// numbers returns the entries of a folder whose names are numbers.
func numbers(dir string) (list []int, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list, err
}

var (
	errEnded = errors.New("the thread ended after it was listed")
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

// ask waits until the thread has stopped, asks about it and detaches from it. A thread that
// does not stop within limit is put aside.
func (p *process) ask(tid int, limit time.Duration) (Thread, error) {
	var pending unix.Signal
	began := time.Now()
	for try, pause := 0, 20*time.Microsecond; ; try++ {
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
		if try < 20 { // most stop as soon as they run
			unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
			continue
		}
		time.Sleep(pause)
		pause = min(2*pause, 10*time.Millisecond)
	}
	defer detach(tid, pending)
	return p.held(tid)
}

// held asks about a thread that has stopped.
func (p *process) held(tid int) (Thread, error) {
	// While it is held the thread keeps its id. But when it was seized the id may already
	// have been another process's.
	name, err := p.comm(fmt.Sprintf("task/%d/", tid))
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
		return Thread{}, because(ErrTooOld, "the kernel (%s) cannot report another process's rseq registration: "+
			"PTRACE_GET_RSEQ_CONFIGURATION needs Linux 5.13 and CONFIG_RSEQ", kernel.Release())
	case errno != 0:
		return Thread{}, fmt.Errorf("thread %d: PTRACE_GET_RSEQ_CONFIGURATION: %w", tid, errno)
	case size < unsafe.Offsetof(c.flags)+unsafe.Sizeof(c.flags):
		return Thread{}, fmt.Errorf("thread %d: PTRACE_GET_RSEQ_CONFIGURATION returned %d bytes, expected %d",
			tid, size, unsafe.Sizeof(c))
	}
	t := Thread{TID: tid, Name: name}
	tp, tpErr := threadPointer(tid)
	// If the first thread of a process has ended, the process's folder shows no mappings.
	if p.image == nil || len(p.image.objects) == 0 {
		err = p.readAgain(tid)
	}
	switch {
	case c.address == 0:
		t.Owner = None
		if p.image != nil {
			t.Why = p.image.none
		}
		return t, nil
	case p.image == nil:
		t.Owner, t.Why = Unknown, fmt.Sprintf("its memory may not be read: %v", err)
	case tpErr != nil:
		t.Owner, t.Why = Unknown, tpErr.Error()
	default:
		var o *object
		t.Owner, o = p.image.owner(c.address, tp)
		if t.Owner == Unknown && p.readAgain(tid) == nil { // the process may have loaded a library since
			t.Owner, o = p.image.owner(c.address, tp)
		}
		if t.Owner == Object {
			t.Object = o.path
		}
	}
	t.Address, t.Length, t.Signature, t.Flags = c.address, c.length, c.signature, c.flags
	return t, nil
}

// threadPointer returns the address that a thread's thread-local storage is relative to.
func threadPointer(tid int) (uint64, error) {
	// FS base and tp are in struct user_regs_struct, TPIDR_EL0 in a register set of its own.
	set, words, at := uintptr(unix.NT_PRSTATUS), 27, 21
	switch runtime.GOARCH {
	case "arm64":
		set, words, at = unix.NT_ARM_TLS, 1, 0
	case "riscv64":
		words, at = 32, 4
	}
	registers := make([]uint64, words, 32) // arm64 with SME writes one more
	vector := unix.Iovec{Base: (*byte)(unsafe.Pointer(&registers[0]))}
	vector.SetLen(8 * words)
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GETREGSET, uintptr(tid), set, uintptr(unsafe.Pointer(&vector)), 0, 0)
	runtime.KeepAlive(registers)
	if e != 0 {
		return 0, fmt.Errorf("its registers may not be read: %w", e)
	}
	if uint64(vector.Len) != uint64(8*words) {
		return 0, errors.New("it is no 64-bit program")
	}
	return registers[at], nil
}

// wait reports whether an interrupted thread has stopped by now. If it stopped because a
// signal is about to be delivered, wait returns that signal, which detach must pass on.
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
		return 0, true, nil // interrupted, or in a group stop, which detaching does not end
	}
	return status.StopSignal(), true, nil
}

// release detaches from the threads that are aside and have stopped by now. The kernel
// detaches from the others when this thread ends.
func (p *process) release() {
	for _, tid := range p.aside {
		if pending, stopped, _ := wait(tid); stopped {
			detach(tid, pending)
		}
	}
}

// detach lets a stopped thread run, and delivers the signal that it was about to receive.
func detach(tid int, pending unix.Signal) {
	unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, uintptr(tid), 0, uintptr(pending), 0, 0)
}
