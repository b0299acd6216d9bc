// Program threads has 32 locked threads. It prints what Query returns; then for each thread its id
// and the address and length of its area, as this package knows them, zeros if it has none;
// then "ready". Then it waits for the end of its input. Each thread is pinned to a CPU and must
// read that one, with and without an area. With the argument "main" the main thread calls this
// package first. With "live" the program makes the live checks and prints their results.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/section"
)

// The main goroutine stays on the main thread, so that no other goroutine runs there.
func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) > 1 && os.Args[1] == "live" {
		live()
		return
	}
	// The thread that calls first finds the owner.
	if len(os.Args) > 1 && os.Args[1] == "main" {
		rseq.Query()
	} else {
		done := make(chan struct{})
		go func() { runtime.LockOSThread(); rseq.Query(); close(done) }()
		<-done
	}
	info, _ := rseq.Query()
	data, err := json.Marshal(info)
	if err != nil {
		fatal(err)
	}
	fmt.Println(string(data))

	cpus, err := kernel.AllowedCPUs()
	if err != nil {
		fatal(err)
	}
	var ready sync.WaitGroup
	for i := range 32 {
		ready.Go(func() { thread(cpus[i%len(cpus)]) })
	}
	ready.Wait()
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}

// thread starts a thread that stays.
func thread(cpu int) {
	started := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		if err := kernel.Bind(0, cpu); err != nil {
			fatal(err)
		}
		t, err := rseq.LockThread()
		if err != nil {
			fatal(err)
		}
		for range 100 {
			a, errA := rseq.CPU()
			b, errB := t.CPU()
			if a != cpu || b != cpu || errA != nil || errB != nil {
				fatal(fmt.Errorf("pinned to %d, read %d (%v) and %d (%v)", cpu, a, errA, b, errB))
			}
			if _, err := rseq.NodeID(); err != nil {
				fatal(err)
			}
			rseq.ConcurrencyID()
		}
		area, length, work := uintptr(0), uint32(0), false
		if t.Confirm() == rseq.Confirmed {
			info, _ := rseq.Query()
			area = uintptr(section.ThreadPointer()) + uintptr(info.Offset)
			length, work = info.RegisteredLen, info.CriticalSections
		}
		sections(work)
		fmt.Println(unix.Gettid(), area, length)
		close(started)
		select {}
	}()
	<-started
}

// live makes a live check for each disturbance, and prints how often the section was aborted, how
// often it ran on, and the error.
func live() {
	rseq.Query()
	for _, how := range section.Disturbances {
		aborted, survived, err := section.LiveCheck(how, 5, false)
		fmt.Println(aborted, survived, err)
	}
}

// sections runs a critical section on this thread. It must work, or be refused if work is false.
func sections(work bool) {
	err := rseq.CriticalSections(rseq.ByCPU)
	words := make([]int64, rseq.PossibleCPUs())
	s := (&rseq.Cells{Base: &words[0], N: len(words), Stride: 8}).Add(1)
	want, sum := rseq.NotRegistered, int64(0)
	if work {
		want, sum = rseq.Done, 1
	}
	for _, n := range words {
		sum -= n
	}
	if (err == nil) != work || s != want || sum != 0 {
		fatal(fmt.Errorf("critical sections: %v; add: %v, want %v", err, s, want))
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
