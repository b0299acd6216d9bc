// Program lifetime makes and ends threads in ways that could damage a registration. Its argument
// names the way. It prints what it counted, and exits with 0 if all was right. It needs
// glibc.h: see testdata/cuser.
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
	"time"

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
	what := os.Args[1]
	switch what {
	case "churn":
		churn(n/10 + 1)
		before := rss()
		fmt.Println(churn(n), "threads; kB resident before and after:", before, rss())
		if rss() > before+8<<10 {
			fatal("memory grows with threads that ended")
		}
	case "cthreads":
		fmt.Println(cThreads(n), "C threads")
	case "fork":
		fmt.Println(repeat(n, func() {
			if status := C.fork_and_read(); status != 0 {
				fatal("the child's status is", status)
			}
		}), "processes")
	case "alarm", "slow alarm":
		handler := 0
		if what == "slow alarm" { // as on emulated processors, or a busy machine
			handler = 100_000
		}
		C.start_alarms(C.long(handler))
		threads := churn(n) + cThreads(n)
		alarms := int(C.stop_alarms())
		fmt.Println(alarms, "alarms,", threads, "threads")
		if alarms == 0 || alarms > 40*threads { // see send_alarms
			fatal("that is not some for each thread")
		}
	case "sigurg":
		var stop atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			for !stop.Load() {
				syscall.Kill(os.Getpid(), unix.SIGURG)
			}
		})
		fmt.Println(churn(n), "threads")
		stop.Store(true)
		wg.Wait()
	default:
		fatal("unknown:", what)
	}
}

// enough is how long a slow machine repeats something.
const enough = 10 * time.Second

// repeat calls f n times, or on a slow machine a tenth of that and then until enough time has
// passed. It returns how often it called f.
func repeat(n int, f func()) int {
	began := time.Now()
	for i := range n {
		if i > n/10 && time.Since(began) > enough {
			return i
		}
		f()
	}
	return n
}

// churn runs n threads, a few at a time. Each reads its area and ends.
func churn(n int) int {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, 8)
	return repeat(n, func() {
		slots <- struct{}{}
		wg.Go(func() {
			runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
			C.send_alarms()
			if cpu, err := rseq.CPU(); cpu < 0 || err != nil {
				fatal(cpu, err)
			}
			<-slots
		})
	})
}

// cThreads runs n C threads.
func cThreads(n int) int {
	C.start_c_threads()
	const batch = 10
	return batch * repeat((n+batch-1)/batch, func() {
		if bad := C.run_c_threads(batch); bad != 0 {
			fatal(bad, "of", batch, "C threads went wrong")
		}
	})
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
