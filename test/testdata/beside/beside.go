// Program beside uses this package and a library like librseq, which registers a thread when the
// program calls it, and aborts if that fails. Each of four threads calls one of them and then
// the other. Both must be right, and then a critical section must work. A fifth thread is
// never registered. The argument names the one that is called first: "rseq" or "librseq".
package main

// #cgo LDFLAGS: -ldl
// #define _GNU_SOURCE
// #include <dlfcn.h>
// extern int rseq_register_current_thread(void) __attribute__((weak));
// static int register_thread(void)
// {
//	int (*f)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "rseq_register_current_thread");
//	if (!f) // linked statically
//		f = rseq_register_current_thread;
//	return f ? f() : -2;
// }
import "C"

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
)

func main() {
	cpus, err := kernel.AllowedCPUs()
	if err != nil {
		fatal(err)
	}
	for n := range 5 {
		done := make(chan struct{})
		go func() {
			runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
			var one unix.CPUSet
			cpu := cpus[n%len(cpus)]
			one.Set(cpu)
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				fatal(err)
			}
			thread(cpu, n == 4, os.Args[1] == "librseq")
			close(done)
		}()
		<-done
	}
	fmt.Println("right")
}

func thread(cpu int, never, first bool) {
	register := func() {
		if r := C.register_thread(); r != 0 {
			fatal("registering:", r)
		}
	}
	if first && !never {
		register()
	}
	info, err := rseq.Query()
	if err != nil || info.Owner != rseq.OwnerForeign || info.Via != "symbol" {
		fatal(info, err)
	}
	if c, err := rseq.CPU(); c != cpu || err != nil {
		fatal("CPU", c, err, "on", cpu)
	}
	words := make([]int64, rseq.PossibleCPUs())
	cells := rseq.Cells{Base: &words[0], N: len(words), Stride: 8}
	if !first || never {
		if err := rseq.CriticalSections(rseq.ByCPU); err == nil {
			fatal("critical sections are said to run on a thread that is not registered")
		}
		if s := cells.Add(1); s != rseq.NotRegistered {
			fatal(s)
		}
	}
	if never {
		return
	}
	if !first {
		register()
	}
	if info, err = rseq.Query(); err != nil || info.Confirmed != rseq.Confirmed || info.Signature == 0 || !info.CriticalSections {
		fatal(info, err)
	}
	if c, err := rseq.CPU(); c != cpu || err != nil {
		fatal("CPU", c, err, "on", cpu)
	}
	if err := rseq.CriticalSections(rseq.ByCPU); err != nil {
		fatal(err)
	}
	if s := cells.Add(1); s != rseq.Done || words[cpu] != 1 {
		fatal(s, words)
	}
}

func fatal(what ...any) {
	fmt.Fprintln(os.Stderr, what...)
	os.Exit(1)
}
