// Program filtered reads the area on a thread whose seccomp filter kills the process for every
// system call but the few that Go's scheduler makes. It calls the readers before the first
// Query, and Query after a Query without the filter. With an argument, "kill" or "EPERM", the
// filter does that for rseq(2) alone, and the first Query is made under it.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/test/testdata/seccomp"
)

// watched is true if a live check is made before sections may run. That makes threads, whose
// registration the filter does not allow.
const watched = runtime.GOARCH == "arm64"

func main() {
	if len(os.Args) > 1 {
		action := map[string]uint32{"kill": seccomp.Kill, "EPERM": seccomp.Errno(unix.EPERM)}[os.Args[1]]
		onFilteredThread([]seccomp.Rule{{Call: "rseq"}}, action, seccomp.Allow, func() error {
			for range 3 {
				info, err := rseq.Query()
				if err != nil || info.Confirmed != rseq.CouldNotAsk || info.Reason == "" || info.CriticalSections == watched {
					return fmt.Errorf("%+v, %w", info, err)
				}
				t, err := rseq.LockThread()
				if err != nil {
					return err
				}
				if c := t.Confirm(); c != rseq.CouldNotAsk {
					return fmt.Errorf("the thread is %v", c)
				}
				t.Unlock()
			}
			var word int64
			cells := rseq.Cells{Base: &word, N: 1 << 20}
			if s := cells.Add(1); (s == rseq.Done) == watched {
				return fmt.Errorf("critical sections: %v", s)
			}
			if err := rseq.CriticalSections(rseq.ByCPU); (err == nil) == watched || errors.Is(err, rseq.ErrNotSupported) {
				return fmt.Errorf("critical sections: %w", err)
			}
			return nil
		})
		fmt.Println("the kernel could not be asked")
		return
	}
	var few []seccomp.Rule
	for _, name := range []string{
		"futex", "nanosleep", "clock_nanosleep", "sched_yield", "rt_sigreturn", "rt_sigprocmask", "sigaltstack",
		"tgkill", "getpid", "gettid", "mmap", "munmap", "madvise", "mprotect", "epoll_pwait",
		"clone", "clone3", "exit", "set_robust_list", "write", "exit_group",
	} {
		few = append(few, seccomp.Rule{Call: name})
	}
	onFilteredThread(few, seccomp.Allow, seccomp.Kill, func() error {
		t, err := rseq.LockThread()
		if err != nil {
			return err
		}
		for range 100000 {
			for _, ask := range []func() (int, error){rseq.CPU, rseq.NodeID, t.CPU, t.NodeID} {
				if n, err := ask(); n < 0 || err != nil {
					return fmt.Errorf("%d, %w", n, err)
				}
			}
			rseq.ConcurrencyID()
			t.ConcurrencyID()
		}
		return nil
	})
	if info, err := rseq.Query(); err != nil || info.Confirmed != rseq.Confirmed {
		fatal(fmt.Errorf("%+v, %w", info, err))
	}
	onFilteredThread(few, seccomp.Allow, seccomp.Kill, func() error {
		for range 100000 {
			if info, err := rseq.Query(); err != nil || info.Confirmed != rseq.Confirmed {
				return fmt.Errorf("%+v, %w", info, err)
			}
		}
		return nil
	})
	fmt.Println("no system call was made")
}

// onFilteredThread calls f on a thread with a filter: see seccomp.Load.
func onFilteredThread(rules []seccomp.Rule, matched, other uint32, f func() error) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread and its filter end with the goroutine
		err := seccomp.Load(rules, matched, other, 0)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		fatal(err)
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
