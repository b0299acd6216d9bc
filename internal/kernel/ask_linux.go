package kernel

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// question asks whether a seccomp filter kills the process for some system calls, by making
// them in a child process first. It is in Go and not in C because fences work without cgo.
type question struct {
	calls []Call // without an effect that outlives the child

	mu       sync.Mutex
	answered bool
	answer   error // nil: no filter kills
	retry    Backoff
}

// Survives returns nil if no seccomp filter of the calling thread kills the process for
// these calls. It makes them in a child process, each time anew, since the thread may have
// got another filter.
func Survives(calls ...Call) error { return (&question{calls: calls}).ask() }

// The errors of a question.
var (
	ErrKills   = errors.New("a seccomp filter kills for it: it killed a child process that asked first")
	errNoChild = errors.New("a seccomp filter may kill for it, and no child process could be made to ask first")
)

// ask returns nil if the calling thread may make the calls. An answer is kept for ever, since
// a filter cannot be removed. If no child process could be made, that is tried again after
// a while, and the error is returned until then.
func (q *question) ask() error {
	if !filtered() {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.answered || !q.retry.Due() {
		return q.answer
	}
	status, err := inChild(q.calls)
	switch {
	case err != nil:
		q.answer = fmt.Errorf("%w: %w", errNoChild, err)
		q.retry.Later()
	case status.Signaled():
		q.answered, q.answer = true, ErrKills
	default:
		q.answered, q.answer = true, nil
	}
	return q.answer
}

// filtered reports whether the calling thread may have a seccomp filter. It has none if the
// kernel says so.
var filtered = func() bool {
	mode, _, e := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_GET_SECCOMP, 0, 0, 0, 0, 0)
	return e != 0 || mode != 0
}

// Call is a system call's number and its first arguments.
type Call struct{ Number, A, B, C, D uintptr }

// inChild makes calls in a child process and returns how that ended. It is a variable for
// the tests.
var inChild = func(calls []Call) (status unix.WaitStatus, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// All signals are blocked: no handler of this process runs in the child, and a signal
	// that a filter sends kills the child at once.
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i]--
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before); err != nil {
		return 0, err
	}
	pid, e := forkAndCall(calls)
	unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	if e != 0 {
		return 0, e
	}
	for {
		// Without __WALL wait4 ignores a child that sends no signal when it ends.
		switch _, err := unix.Wait4(int(pid), &status, unix.WALL, nil); err {
		case unix.EINTR:
		default:
			return status, err
		}
	}
}

// forkAndCall forks, makes the calls in the child, and returns in the parent only. The child
// has one thread, which must not enter the Go runtime: it makes raw system calls and ends.
// (forkAndExecInChild of package syscall does the same.)
//
//go:noinline
//go:norace
//go:nosplit
func forkAndCall(calls []Call) (pid uintptr, e syscall.Errno) {
	pid, _, e = syscall.RawSyscall6(unix.SYS_CLONE, 0, 0, 0, 0, 0, 0)
	if e != 0 || pid != 0 {
		return pid, e
	}
	syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0, 0) // no core file
	for i := range calls {
		c := &calls[i]
		syscall.RawSyscall6(c.Number, c.A, c.B, c.C, c.D, 0, 0)
	}
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
