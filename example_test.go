package rseq_test

import (
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/rseq-go/rseq"
)

// Which CPU is a hint where to look first: the goroutine may be elsewhere by now.
func ExampleCPU() {
	cpu, err := rseq.CPU()
	if err != nil { // outside Linux, or a filter forbids getcpu(2)
		cpu = 0
	}
	queues := make([][]string, rseq.PossibleCPUs())
	fmt.Println(len(queues[cpu]))
	// Output: 0
}

// Whether critical sections may run is asked once, where a program starts; and why not.
func ExampleCriticalSections() {
	way := "critical sections"
	if err := rseq.CriticalSections(rseq.ByCPU); errors.Is(err, rseq.ErrNotSupported) {
		way = "atomics, from now on: " + err.Error()
	} else if err != nil {
		way = "atomics, as long as this thread cannot: " + err.Error()
	}
	fmt.Println(way != "")
	// Output: true
}

// What there is as one of a program's variables, at /debug/vars: an Info is encoded as
// JSON, with null for what is not known, and logged with names.
func ExampleInfo() {
	expvar.Publish("rseq", expvar.Func(func() any {
		info, _ := rseq.Query()
		return info
	}))
	var info rseq.Info
	err := json.Unmarshal([]byte(expvar.Get("rseq").String()), &info)
	fmt.Println(err, strings.Contains(expvar.Get("rseq").String(), `"owner":"`+info.Owner.String()+`"`))
	// Output: <nil> true
}

// What there is, and where the goroutine runs.
func ExampleQuery() {
	info, err := rseq.Query()
	if errors.Is(err, rseq.ErrNotSupported) {
		fmt.Println("no area:", err) // the calls below need none
	}
	fmt.Println(info.Owner, info.Libc, info.Confirmed, info.Features)
	if cpu, err := rseq.CPU(); err == nil {
		fmt.Println("was just on CPU", cpu)
	}
	if node, err := rseq.NodeID(); err == nil {
		fmt.Println("of NUMA node", node)
	}
	if id, err := rseq.ConcurrencyID(); err == nil {
		fmt.Println("by a thread with concurrency id", id)
	}
}

// A goroutine that stays on its thread reads its area by one load.
func ExampleLockThread() {
	t, err := rseq.LockThread()
	if err != nil {
		return
	}
	defer t.Unlock()
	before, _ := t.CPU()
	moved := 0
	for range 1000 {
		if cpu, _ := t.CPU(); cpu != before {
			before = cpu
			moved++
		}
	}
	fmt.Println(moved < 1000)
	// Output: true
}

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

// Each CPU adds to one of two words of its own: active has its address. Global
// variables stay where they are, as what an address in a word leads to must.
var (
	halves [2]int64
	active uintptr
)

// A count is taken away whole while others add: the next go to the other half, and once
// the fence returns nobody adds to this one.
func ExampleIndex_Fence() {
	if err := rseq.CriticalSections(rseq.ByCPU); err != nil {
		fmt.Println("5") // not here: use an atomic
		return
	}
	active = uintptr(unsafe.Pointer(&halves[0]))
	add := func(n int64) (cpu int) {
		for {
			cpu, _ = rseq.CPU()
			first := uintptr(unsafe.Pointer(&active)) // a program has one for each CPU
			if rseq.ByCPU.LoadAddLoadLoadAddStore(&first, 0, n, cpu) == rseq.Done {
				return cpu
			}
		}
	}
	cpu := add(5)

	atomic.StoreUintptr(&active, uintptr(unsafe.Pointer(&halves[1])))
	if err := rseq.ByCPU.Fence(cpu); err != nil {
		fmt.Println(err)
	}
	fmt.Println(halves[0])
	// Output: 5
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
