// Program filter runs a command under a seccomp filter for rseq(2): it answers
// the errno that the first argument names, or "kill"s or "trap"s. "EPERM:a,b" is for
// the system calls a and b instead.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"
)

var actions = map[string]seccomp.Action{
	"ENOSYS": seccomp.ActionErrno | seccomp.Action(unix.ENOSYS),
	"EPERM":  seccomp.ActionErrno | seccomp.Action(unix.EPERM),
	"EACCES": seccomp.ActionErrno | seccomp.Action(unix.EACCES),
	"EINVAL": seccomp.ActionErrno | seccomp.Action(unix.EINVAL),
	"kill":   seccomp.ActionKillProcess,
	"trap":   seccomp.ActionTrap,
}

func main() {
	runtime.LockOSThread() // no_new_privs is a thread's, and the filter needs it
	action, calls, other := strings.Cut(os.Args[1], ":")
	if !other {
		calls = "rseq"
	}
	err := seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true,
		Flag:       seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionAllow,
			Syscalls:      []seccomp.SyscallGroup{{Action: actions[action], Names: strings.Split(calls, ",")}},
		},
	})
	if err == nil {
		var path string
		if path, err = exec.LookPath(os.Args[2]); err == nil {
			err = unix.Exec(path, os.Args[2:], os.Environ())
		}
	}
	fmt.Fprintln(os.Stderr, "filter:", err)
	os.Exit(3)
}
