// Program lifetime makes and ends threads in the ways that could hurt a
// registration. Its argument says which; it prints what it counted and exits
// with 0 if all was right. It needs glibc.h, see testdata/cuser.
package main

// #cgo LDFLAGS: -lpthread
// #include "lifetime.h"
import "C"

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
)

func main() {
	n := 1
	if len(os.Args) > 2 {
		n, _ = strconv.Atoi(os.Args[2])
	}
	info, err := rseq.Query()
	fmt.Println("owner", info.Owner, err)
	switch os.Args[1] {
	case "churn":
		churn(n/10 + 1)
		before := rss()
		churn(n)
		fmt.Println(n, "threads; kB resident before and after:", before, rss())
		if rss() > before+8<<10 {
			fatal("memory grows with threads that ended")
		}
	case "cthreads":
		if bad := C.run_c_threads(C.int(n)); bad != 0 {
			fatal(bad, "of", n, "C threads went wrong")
		}
	case "fork":
		for range n {
			if status := C.fork_and_read(); status != 0 {
				fatal("the child's status is", status)
			}
		}
	case "alarm":
		C.start_alarms()
		churn(n)
		if bad := C.run_c_threads(C.int(n)); bad != 0 {
			fatal(bad, "of", n, "C threads went wrong")
		}
		fmt.Println(C.stop_alarms(), "alarms")
	case "sigurg":
		var stop atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			for !stop.Load() {
				syscall.Kill(os.Getpid(), unix.SIGURG)
			}
		})
		churn(n)
		stop.Store(true)
		wg.Wait()
	}
}

// churn runs n threads, a few at a time; each asks and ends.
func churn(n int) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for range n {
		slots <- struct{}{}
		wg.Go(func() {
			runtime.LockOSThread() // and never unlocked: the thread ends here
			if cpu, err := rseq.CPU(); cpu < 0 || err != nil {
				fatal(cpu, err)
			}
			<-slots
		})
	}
	wg.Wait()
}

func rss() int {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fatal(err)
	}
	_, rest, _ := bytes.Cut(data, []byte("VmRSS:"))
	n, err := strconv.Atoi(string(bytes.Fields(rest)[0]))
	if err != nil {
		fatal(err)
	}
	return n
}

func fatal(what ...any) {
	fmt.Fprintln(os.Stderr, what...)
	os.Exit(1)
}
