// Program filter runs a command under a seccomp filter. The first argument is what the filter does
// for rseq(2): an errno, "kill" or "trap". "EPERM:a,b" is for the system calls a and b in place
// of rseq(2). "a/1<256" is a call of a whose argument 1 is below 256, and "a/0=5" one whose
// argument 0 is 5.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"
)

var actions = map[string]seccomp.Action{
	"ENOSYS": seccomp.ActionErrno | seccomp.Action(unix.ENOSYS),
	"EAGAIN": seccomp.ActionErrno | seccomp.Action(unix.EAGAIN),
	"EPERM":  seccomp.ActionErrno | seccomp.Action(unix.EPERM),
	"EACCES": seccomp.ActionErrno | seccomp.Action(unix.EACCES),
	"EINVAL": seccomp.ActionErrno | seccomp.Action(unix.EINVAL),
	"kill":   seccomp.ActionKillProcess,
	"trap":   seccomp.ActionTrap,
}

func main() {
	runtime.LockOSThread() // the filter needs no_new_privs, which is for one thread
	action, calls, other := strings.Cut(os.Args[1], ":")
	if !other {
		calls = "rseq"
	}
	group := seccomp.SyscallGroup{Action: actions[action]}
	for call := range strings.SplitSeq(calls, ",") {
		name, condition, conditional := strings.Cut(call, "/")
		if !conditional {
			group.Names = append(group.Names, name)
			continue
		}
		is := map[byte]seccomp.Operation{'<': seccomp.LessThan, '=': seccomp.Equal}[condition[1]]
		value, err := strconv.ParseUint(condition[2:], 10, 64)
		if err != nil {
			panic(err)
		}
		group.NamesWithCondtions = append(group.NamesWithCondtions, seccomp.NameWithConditions{
			Name:       name,
			Conditions: []seccomp.Condition{{Argument: uint32(condition[0] - '0'), Operation: is, Value: value}},
		})
	}
	err := seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true,
		Flag:       seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionAllow,
			Syscalls:      []seccomp.SyscallGroup{group},
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
