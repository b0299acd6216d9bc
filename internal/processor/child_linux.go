package processor

import (
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// call is a system call's number and its first arguments.
type call struct{ number, a, b, c uintptr }

// survives returns nil if the calling thread may make these calls. A seccomp filter may
// kill for one, so under a filter a child process makes them first.
func survives(calls ...call) error {
	mode, _, e := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_GET_SECCOMP, 0, 0, 0, 0, 0)
	if e == 0 && mode == 0 {
		return nil
	}
	status, err := inChild(calls)
	switch {
	case err != nil:
		return fmt.Errorf("a seccomp filter may kill for it, and no child process could be made to try: %w", err)
	case status.Signaled():
		return errKills
	}
	return nil
}

// inChild has a child process make calls, and returns how it ended.
func inChild(calls []call) (status unix.WaitStatus, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// No handler of this process runs in the child, and a signal that a filter sends
	// kills at once.
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
		// Of a child that sends no signal when it ends only who has __WALL hears.
		if _, err := unix.Wait4(int(pid), &status, unix.WALL, nil); err != unix.EINTR {
			return status, err
		}
	}
}

// forkAndCall returns in the parent only. The child has a copy of everything and one
// thread, which must not enter the Go runtime: it makes raw system calls and ends. (As
// in package syscall, forkAndExecInChild.)
//
//go:noinline
//go:norace
//go:nosplit
func forkAndCall(calls []call) (pid uintptr, e syscall.Errno) {
	pid, _, e = syscall.RawSyscall6(unix.SYS_CLONE, 0, 0, 0, 0, 0, 0)
	if e != 0 || pid != 0 {
		return pid, e
	}
	syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0, 0) // no core file
	for i := range calls {
		c := &calls[i]
		syscall.RawSyscall6(c.number, c.a, c.b, c.c, 0, 0, 0)
	}
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
