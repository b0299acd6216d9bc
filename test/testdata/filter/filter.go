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

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq/test/testdata/seccomp"
)

var actions = map[string]uint32{
	"ENOSYS": seccomp.Errno(unix.ENOSYS),
	"EAGAIN": seccomp.Errno(unix.EAGAIN),
	"EPERM":  seccomp.Errno(unix.EPERM),
	"EACCES": seccomp.Errno(unix.EACCES),
	"EINVAL": seccomp.Errno(unix.EINVAL),
	"kill":   seccomp.Kill,
	"trap":   seccomp.Trap,
}

func main() {
	runtime.LockOSThread() // the filter needs no_new_privs, which is for one thread
	action, calls, other := strings.Cut(os.Args[1], ":")
	if !other {
		calls = "rseq"
	}
	var rules []seccomp.Rule
	for call := range strings.SplitSeq(calls, ",") {
		name, condition, conditional := strings.Cut(call, "/")
		rule := seccomp.Rule{Call: name}
		if conditional {
			value, err := strconv.ParseUint(condition[2:], 10, 64)
			if err != nil {
				panic(err)
			}
			rule.Condition = &seccomp.Condition{Argument: uint32(condition[0] - '0'), Below: condition[1] == '<', Value: value}
		}
		rules = append(rules, rule)
	}
	err := seccomp.Load(rules, actions[action], seccomp.Allow, unix.SECCOMP_FILTER_FLAG_TSYNC)
	if err == nil {
		var path string
		if path, err = exec.LookPath(os.Args[2]); err == nil {
			err = unix.Exec(path, os.Args[2:], os.Environ())
		}
	}
	fmt.Fprintln(os.Stderr, "filter:", err)
	os.Exit(3)
}
