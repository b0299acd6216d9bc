package main

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/processor"
)

// checks runs every check, the ones that the others build on first.
func checks() []check {
	info, err := rseq.Query()
	list := []check{checkArea(info, err)}
	if err == nil {
		list = append(list, checkConfirmed(info), checkThreads(info), checkConcurrencyID(info))
		list = append(list, checkSections()...)
	}
	return append(list, checkCPUs(), newCheck("CPU and node without an area", processor.Again().String(), "", ""))
}

func checkArea(info rseq.Info, err error) check {
	const name = "an area is registered"
	if err != nil {
		return newCheck(name, "", strings.TrimPrefix(err.Error(), "rseq: "), "allow rseq(2), or use Linux 4.18 or later; until then CPU and node come from getcpu(2)")
	}
	return newCheck(name, fmt.Sprintf("by %s, at %+d from the thread pointer, %d bytes of fields: %s",
		info.Owner, info.Offset, info.Size, info.Features), "", "")
}

func checkConfirmed(info rseq.Info) check {
	const name = "the kernel confirms it"
	switch info.Confirmed {
	case rseq.Confirmed:
		problem := ""
		if info.Signature == 0 { // any other reason is checkSections'
			problem = info.Reason
		}
		return newCheck(name, fmt.Sprintf("length %d, mode %v", info.RegisteredLen, info.Mode), problem,
			"another library registers with its own signature: find it with `rseq inspect`")
	case rseq.CouldNotAsk:
		return newCheck(name, "", info.Reason, "allow rseq in the seccomp profile")
	}
	return newCheck(name, "", info.Reason, "report it, with the output of `rseq show --json`")
}

// checkThreads has the kernel confirm the area of threads made for the purpose.
func checkThreads(info rseq.Info) check {
	const name, threads = "every thread is registered", 16
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		problem string
		start   = make(chan struct{})
	)
	for range threads {
		wg.Go(func() {
			runtime.LockOSThread() // and never unlocked: the thread ends here
			<-start                // so that no two goroutines share a thread
			var said string
			if t, err := rseq.LockThread(); err != nil {
				said = err.Error()
			} else if c := t.Confirm(); c == rseq.Confirmed {
				return
			} else {
				said = c.String()
			}
			mu.Lock()
			defer mu.Unlock()
			problem = fmt.Sprintf("the kernel does not confirm the area of thread %d: %s", unix.Gettid(), said)
		})
	}
	close(start)
	wg.Wait()
	return newCheck(name, fmt.Sprintf("%d of %d new ones", threads, threads), problem,
		"report it, with the output of `rseq show --json`")
}

// checkCPUs compares the answers with where the thread is pinned.
func checkCPUs() check {
	const name = "CPU and node are right"
	var problem string
	var asked int
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: its affinity dies with it
		allowed, err := kernel.AllowedCPUs()
		if err != nil {
			problem = "sched_getaffinity: " + err.Error()
			return
		}
		for _, cpu := range allowed {
			var one unix.CPUSet
			one.Set(cpu)
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				continue // taken offline, or out of the cpuset, meanwhile
			}
			asked++
			got, err := rseq.CPU()
			gotNode, nodeErr := rseq.NodeID()
			_, node, _ := kernel.Getcpu()
			if err := errors.Join(err, nodeErr); err != nil {
				problem = err.Error()
			} else if got != cpu || gotNode != node {
				problem = fmt.Sprintf("pinned to CPU %d of node %d, read CPU %d, node %d", cpu, node, got, gotNode)
			}
		}
	}()
	<-done
	if problem == "" && asked == 0 {
		problem = "this thread could be pinned to no CPU"
	}
	return newCheck(name, fmt.Sprintf("on each of %d allowed CPUs", asked), problem,
		"report it, with the output of `rseq show --json`")
}

// checkConcurrencyID looks whether the id is in its range.
func checkConcurrencyID(info rseq.Info) check {
	const name = "the concurrency id is right"
	if !info.Features.Has(rseq.FeatureMMCID) {
		return newCheck(name, "not provided: Linux before 6.3", "", "")
	}
	possible := rseq.PossibleCPUs()
	id, err := rseq.ConcurrencyID()
	problem := ""
	if err != nil {
		problem = err.Error()
	} else if id >= possible {
		problem = fmt.Sprintf("%d, with %d possible CPUs", id, possible)
	}
	return newCheck(name, fmt.Sprintf("%d, below the %d possible CPUs", id, possible), problem,
		"report it, with the output of `rseq show --json`")
}
