// Package seccomp loads filters of system calls, for programs that tests run.
package seccomp

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Rule matches a system call, or only those of its calls for which Condition holds.
type Rule struct {
	Call      string
	Condition *Condition
}

// A Condition compares an argument with a value: it is equal, or, with Below, less.
type Condition struct {
	Argument uint32
	Below    bool
	Value    uint64
}

// Actions, besides Errno.
const (
	Allow = unix.SECCOMP_RET_ALLOW
	Kill  = unix.SECCOMP_RET_KILL_PROCESS
	Trap  = unix.SECCOMP_RET_TRAP
)

// Errno is the action that a call fails.
func Errno(e unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(e) }

// audit are the kernel's names of architectures (linux/audit.h).
var audit = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64, "riscv64": unix.AUDIT_ARCH_RISCV64}

// calls are the numbers of system calls that rules name.
var calls = map[string]uint32{
	"acct": unix.SYS_ACCT, "clock_nanosleep": unix.SYS_CLOCK_NANOSLEEP, "clone": unix.SYS_CLONE, "clone3": unix.SYS_CLONE3,
	"epoll_pwait": unix.SYS_EPOLL_PWAIT, "exit": unix.SYS_EXIT, "exit_group": unix.SYS_EXIT_GROUP, "futex": unix.SYS_FUTEX,
	"getcpu": unix.SYS_GETCPU, "getpid": unix.SYS_GETPID, "gettid": unix.SYS_GETTID, "madvise": unix.SYS_MADVISE,
	"membarrier": unix.SYS_MEMBARRIER, "mmap": unix.SYS_MMAP, "mprotect": unix.SYS_MPROTECT, "munmap": unix.SYS_MUNMAP,
	"nanosleep": unix.SYS_NANOSLEEP, "prctl": unix.SYS_PRCTL, "rseq": unix.SYS_RSEQ, "rt_sigprocmask": unix.SYS_RT_SIGPROCMASK,
	"rt_sigreturn": unix.SYS_RT_SIGRETURN, "sched_getaffinity": unix.SYS_SCHED_GETAFFINITY,
	"sched_setaffinity": unix.SYS_SCHED_SETAFFINITY, "sched_setscheduler": unix.SYS_SCHED_SETSCHEDULER,
	"sched_yield": unix.SYS_SCHED_YIELD, "set_robust_list": unix.SYS_SET_ROBUST_LIST, "sigaltstack": unix.SYS_SIGALTSTACK,
	"swapoff": unix.SYS_SWAPOFF, "tgkill": unix.SYS_TGKILL, "write": unix.SYS_WRITE,
}

// Load filters the calling thread, with flags of seccomp(2): a system call that a rule matches
// has the action matched, any other one the action other.
func Load(rules []Rule, matched, other uint32, flags uintptr) error {
	arch, known := audit[runtime.GOARCH]
	if !known {
		return fmt.Errorf("no filter is made for %s", runtime.GOARCH)
	}
	load := func(offset uintptr) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(offset)}
	}
	jump := func(test uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	end := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}

	var data struct { // struct seccomp_data, as the filter reads it
		nr, arch           uint32
		instructionPointer uint64
		args               [6]uint64
	}
	program := []unix.SockFilter{load(unsafe.Offsetof(data.arch)), jump(unix.BPF_JEQ, arch, 1, 0), end(other)}
	for _, r := range rules {
		nr, known := calls[r.Call]
		if !known {
			return fmt.Errorf("%s: this package has no number of that system call", r.Call)
		}
		if r.Condition == nil {
			program = append(program, load(unsafe.Offsetof(data.nr)), jump(unix.BPF_JEQ, nr, 0, 1), end(matched))
			continue
		}
		c := *r.Condition
		low := unsafe.Offsetof(data.args) + 8*uintptr(c.Argument) // little-endian
		high := low + 4
		// A value has 32 bits: what the tests name is small.
		if c.Value>>32 != 0 || c.Argument >= uint32(len(data.args)) {
			return fmt.Errorf("%s, argument %d: %d: expected a value of 32 bits and an argument below 6", r.Call, c.Argument, c.Value)
		}
		is := jump(unix.BPF_JEQ, uint32(c.Value), 0, 1)
		if c.Below {
			is = jump(unix.BPF_JGE, uint32(c.Value), 1, 0)
		}
		program = append(program, load(unsafe.Offsetof(data.nr)), jump(unix.BPF_JEQ, nr, 0, 5),
			load(high), jump(unix.BPF_JEQ, 0, 0, 3), load(low), is, end(matched))
	}
	program = append(program, end(other))
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&filter)))
	runtime.KeepAlive(program)
	if e != 0 {
		return fmt.Errorf("seccomp: %w", e)
	}
	return nil
}
