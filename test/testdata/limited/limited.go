// Program limited makes the first call at a bad moment: "meanwhile", while a C thread looks for the
// owner; "processes", when no process can be made, under a seccomp filter that the caller has
// installed. It needs glibc.h: see testdata/cuser.
package main

// #cgo LDFLAGS: -lpthread
// #include <pthread.h>
// #include "glibc.h"
// static void *ask(void *unused) { rseqgo_register_thread(); return unused; }
// static int start(void)
// {
//	pthread_t thread;
//	int e = pthread_create(&thread, NULL, ask, NULL);
//	return e ? e : pthread_detach(thread);
// }
import "C"

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
)

func main() {
	switch os.Args[1] {
	case "meanwhile":
		if e := C.start(); e != 0 {
			fatal(syscall.Errno(e))
		}
		for range 3 {
			if info, err := rseq.Query(); err != nil || info.Owner != rseq.OwnerSelf {
				fatal(info, err)
			}
		}
	case "processes":
		processes()
	}
}

func processes() {
	// Make threads now, so that the runtime needs to make none later.
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() { unix.Nanosleep(&unix.Timespec{Nsec: 5e7}, nil) })
	}
	wg.Wait()
	runtime.LockOSThread()
	if unix.Getuid() == 0 { // limits do not hold for root
		if err := errors.Join(syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
			fatal(err)
		}
	}
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &before); err != nil {
		fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: 0, Max: before.Max}); err != nil {
		fatal(err)
	}
	_, first := rseq.Query()
	sections := rseq.CriticalSections(rseq.ByCPU)
	if err := unix.Setrlimit(unix.RLIMIT_NPROC, &before); err != nil {
		fatal(err)
	}
	for _, err := range []error{first, sections} {
		if !errors.Is(err, unix.EAGAIN) || errors.Is(err, rseq.ErrNotSupported) {
			fatal("under the limit:", err)
		}
	}
	// After a while it is tried again.
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if sections = rseq.CriticalSections(rseq.ByCPU); sections == nil {
			break
		} else if time.Since(start) > time.Minute {
			fatal("after the limit:", sections)
		}
	}
	if info, err := rseq.Query(); err != nil || info.Owner != rseq.OwnerSelf || !info.CriticalSections {
		fatal(info, err)
	}
}

func fatal(what ...any) {
	fmt.Fprintln(os.Stderr, what...)
	os.Exit(1)
}
