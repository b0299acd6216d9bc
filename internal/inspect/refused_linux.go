package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The errors that say why a process cannot be inspected.

// reason is an error with its own text that errors.Is finds to be one of ErrGone and the like.
type reason struct {
	error
	is error
}

func (r reason) Is(target error) bool { return target == r.is }

func because(is error, format string, args ...any) error {
	return reason{fmt.Errorf(format, args...), is}
}

// sameNamespace checks that the ids in /proc are those that this process's system calls take.
// A container may have the /proc of another namespace, where the same numbers are other
// processes.
func sameNamespace() error {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fmt.Errorf("/proc is not mounted, or not for this process's namespace of process ids, "+
			"and the threads are listed there: %w", err)
	}
	// The ids of this process in the namespace of /proc and in the namespaces below that.
	ids, found := field(data, "NSpid")
	if !found { // a kernel before Linux 4.1
		ids, _ = field(data, "Pid")
	}
	if ids != strconv.Itoa(os.Getpid()) {
		return fmt.Errorf("/proc is of another namespace of process ids: this process is %s there, and %d for the kernel: "+
			"mount /proc again (unshare --mount-proc)", strings.ReplaceAll(ids, "\t", ", below that "), os.Getpid())
	}
	return nil
}

// seizeError says why a thread cannot be seized. The kernel answers EPERM for many reasons;
// seizeError looks for the one that holds.
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
		return because(ErrKernel, "process %d is a kernel thread: it has no user memory, so no rseq area", p.pid)
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

// isKernelThread reads PF_KTHREAD in the flags, the ninth field of stat.
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
