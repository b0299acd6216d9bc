package rseq_test

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/rseq-go/rseq"
)

// A counter that goroutines on different CPUs do not contend for, and that counts
// right wherever it runs.
func ExampleCells_Add() {
	words := make([]int64, 16*rseq.PossibleCPUs()) // 128 bytes for each CPU
	cells := rseq.Cells{Base: &words[0], N: rseq.PossibleCPUs(), Stride: 128}
	var others atomic.Int64 // the portable way has a word of its own

	add := func(n int64) {
		if cells.Add(n) == rseq.Done {
			return
		}
		// The first add of the process, a new thread, or no critical sections here.
		if rseq.CriticalSections(rseq.ByCPU) == nil && cells.Add(n) == rseq.Done {
			return
		}
		others.Add(n)
	}
	for range 1000 {
		add(2)
	}
	sum := others.Load()
	for i := range cells.N {
		sum += atomic.LoadInt64(&words[16*i])
	}
	fmt.Println(sum)
	// Output: 2000
}

// A lock for each CPU: only threads on the same CPU wait for each other.
func ExampleIndex_LoadCBNEStore() {
	if err := rseq.CriticalSections(rseq.ByCPU); err != nil {
		fmt.Println("locked, counted, unlocked") // not here: use a sync.Mutex
		return
	}
	type share struct {
		lock, count int64
		_           [112]byte
	}
	shares := make([]share, rseq.PossibleCPUs())
	for {
		cpu, err := rseq.CPU()
		if err != nil {
			return
		}
		mine := &shares[cpu]
		if rseq.ByCPU.LoadCBNEStore(&mine.lock, 0, 1, cpu) != rseq.Done {
			continue // held, or this thread is on another CPU by now
		}
		mine.count++ // though it may move to another CPU, the lock is held
		atomic.StoreInt64(&mine.lock, 0)
		break
	}
	fmt.Println("locked, counted, unlocked")
	// Output: locked, counted, unlocked
}

// A thread that others wait for asks the kernel not to be preempted in that moment.
func ExampleThread_RequestSlice() {
	t, err := rseq.LockThread()
	if err != nil {
		return
	}
	defer t.Unlock()
	if err := t.EnableSliceExtension(); err != nil && !errors.Is(err, rseq.ErrNotSupported) {
		fmt.Println(err) // where it is not supported the rest does nothing
	}
	var lock atomic.Bool
	t.RequestSlice()
	for !lock.CompareAndSwap(false, true) {
	}
	// a few microseconds of work
	lock.Store(false)
	t.YieldSlice()
}
