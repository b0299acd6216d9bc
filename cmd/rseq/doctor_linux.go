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

const report = "report it, with the output of `rseq show --json`"

// checks runs every check. A check that others rely on comes before them.
func checks(stress bool, p *progress) []check {
	info, err := rseq.Query()
	list := []check{checkArea(info, err)}
	if err == nil {
		list = append(list, checkConfirmed(info), checkThreads(info), checkConcurrencyID(info))
		list = append(list, checkSections(stress, p)...)
		list = append(list, checkFence(), checkSlice(info), checkLength(info), checkAllocator(info))
	}
	without := check{"CPU and node without an area", ok, processor.Again().String(), ""}
	return append(list, checkCPUs(), without, checkEmulator(err))
}

func checkArea(info rseq.Info, err error) check {
	const name = "an area is registered"
	if err != nil {
		advice := "allow rseq(2), or use Linux 4.18 or later; until then CPU and node come from elsewhere"
		if info.Libc == "" {
			advice = "build it with cgo; `rseq inspect` and `rseq run` need no cgo to look at other programs"
		}
		return check{name, fail, strings.TrimPrefix(err.Error(), "rseq: "), advice}
	}
	return check{name, ok, fmt.Sprintf("by %s, at %+d from the thread pointer, %d bytes of fields: %s",
		info.Owner, info.Offset, info.Size, info.Features), ""}
}

func checkConfirmed(info rseq.Info) check {
	const name = "the kernel confirms it"
	switch {
	case info.Confirmed == rseq.CouldNotAsk:
		return check{name, skip, info.Reason, "allow rseq in the seccomp profile"}
	case info.Confirmed == rseq.Refuted && info.Owner == rseq.OwnerForeign:
		return check{name, warn, info.Reason, leftOut}
	case info.Confirmed == rseq.Elsewhere:
		return check{name, warn, info.Reason, elsewhere}
	case info.Confirmed != rseq.Confirmed:
		return check{name, fail, info.Reason, report}
	case info.Signature == 0: // checkSections reports every other reason
		return check{name, fail, info.Reason, "another library registers with its own signature: find it with `rseq inspect`"}
	}
	return check{name, ok, fmt.Sprintf("length %d, mode %v", info.RegisteredLen, info.Mode), ""}
}

// leftOut is the advice if another library owns the areas.
const leftOut = "nothing; the library that owns the areas registers a thread at its first use of that library, and until then " +
	"the thread uses the portable way"

// elsewhere is the advice if some threads have an area that is not the owner's.
const elsewhere = "nothing, or find the other library with `rseq inspect`: the threads that it registered use the portable way"

// checkThreads makes threads and asks the kernel to confirm their areas.
func checkThreads(info rseq.Info) check {
	const name, threads = "every thread is registered", 16
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		said  = map[rseq.Confirmation]int{}
		last  string
		ready sync.WaitGroup
	)
	ready.Add(threads)
	for range threads {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			ready.Done()
			ready.Wait() // each goroutine has a thread now
			t, err := rseq.LockThread()
			if err != nil {
				mu.Lock()
				last = err.Error()
				mu.Unlock()
				return
			}
			defer t.Unlock()
			c := t.Confirm()
			mu.Lock()
			defer mu.Unlock()
			if said[c]++; c != rseq.Confirmed {
				last = fmt.Sprintf("thread %d: %v", unix.Gettid(), c)
			}
		})
	}
	wg.Wait()
	found := fmt.Sprintf("%d of %d new ones", said[rseq.Confirmed], threads)
	switch {
	case said[rseq.Confirmed] == threads:
		return check{name, ok, found, ""}
	case info.Owner == rseq.OwnerForeign:
		return check{name, warn, found, leftOut}
	case said[rseq.Confirmed]+said[rseq.Elsewhere] == threads:
		return check{name, warn, found + "; " + last, elsewhere}
	case said[rseq.Confirmed]+said[rseq.CouldNotAsk] == threads:
		return check{name, skip, found + "; " + last, "allow rseq in the seccomp profile"}
	}
	return check{name, fail, found + "; " + last, report}
}

// checkCPUs compares CPU and node with the CPU that the thread is bound to.
func checkCPUs() check {
	const name = "CPU and node are right"
	var problem string
	var asked int
	err := kernel.OnThread(func() error {
		allowed, err := kernel.AllowedCPUs()
		if err != nil {
			return fmt.Errorf("sched_getaffinity: %w", err)
		}
		for _, cpu := range allowed {
			if kernel.Bind(0, cpu) != nil {
				continue // the CPU went offline, or left the cpuset
			}
			before, node, _ := kernel.Getcpu()
			got, err := rseq.CPU()
			gotNode, nodeErr := rseq.NodeID()
			if after, _, _ := kernel.Getcpu(); before != cpu || after != cpu {
				continue // another process moved this thread
			}
			asked++
			if err := errors.Join(err, nodeErr); err != nil {
				problem = err.Error()
			} else if got != cpu || gotNode != node {
				problem = fmt.Sprintf("bound to CPU %d of node %d, read CPU %d, node %d", cpu, node, got, gotNode)
			}
		}
		return nil
	})
	switch {
	case problem != "":
		return check{name, fail, problem, report}
	case err != nil:
		return check{name, skip, "inconclusive: " + err.Error(), "allow sched_getaffinity and sched_setaffinity in the seccomp profile"}
	case asked == 0:
		return check{name, skip, "inconclusive: this thread could be bound to no CPU", "allow sched_setaffinity in the seccomp profile"}
	}
	return check{name, ok, fmt.Sprintf("on each of %d allowed CPUs", asked), ""}
}

// checkConcurrencyID checks that the id is below the possible CPUs.
func checkConcurrencyID(info rseq.Info) check {
	const name = "the concurrency id is right"
	if !info.Features.Has(rseq.FeatureMMCID) {
		return check{name, skip, fmt.Sprintf("not provided: it needs Linux 6.3, this area has %d bytes of fields", info.Size), ""}
	}
	possible := rseq.PossibleCPUs()
	id, err := rseq.ConcurrencyID()
	switch {
	case err != nil && info.Owner == rseq.OwnerForeign:
		return check{name, skip, strings.TrimPrefix(err.Error(), "rseq: "), leftOut}
	case err != nil:
		return check{name, fail, strings.TrimPrefix(err.Error(), "rseq: "), report}
	case id >= possible:
		return check{name, fail, fmt.Sprintf("%d, with %d possible CPUs", id, possible), report}
	}
	return check{name, ok, fmt.Sprintf("%d, below the %d possible CPUs", id, possible), ""}
}
