// Program firstcall makes the first call in the process, the first call on another thread, and a
// later one. Each is on a locked thread, between two calls of getppid(2), which mark it in a
// trace. It prints how long they take as ratios to getcpu(2); the last two are medians.
package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
)

func timed(f func()) time.Duration {
	syscall.Getppid()
	start := time.Now()
	f()
	d := time.Since(start)
	syscall.Getppid()
	return d
}

func ask() {
	if _, err := rseq.CPU(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func onThread(f func()) time.Duration {
	done := make(chan time.Duration)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		done <- timed(f)
	}()
	return <-done
}

func main() {
	first := onThread(ask)
	n := 200
	if len(os.Args) > 1 {
		n = 1 // a trace is being made
	}
	var further, getcpu []time.Duration
	for range n {
		further = append(further, onThread(ask))
		getcpu = append(getcpu, onThread(func() { kernel.Getcpu() }))
	}
	slices.Sort(further)
	slices.Sort(getcpu)
	base := float64(getcpu[n/2])
	info, _ := rseq.Query()
	fmt.Printf("owner %v: first call of the process %.1f x getcpu(2), of a further thread %.2f x\n",
		info.Owner, float64(first)/base, float64(further[n/2])/base)
}
