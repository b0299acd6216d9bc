package percpu_test

import (
	"bytes"
	"encoding/json"
	"expvar"
	"fmt"
	"io"
	"log"
	"sync"

	"github.com/rseq-go/rseq/percpu"
)

// Requests are counted on whatever CPU serves them. A report takes what was counted since the
// one before.
func ExampleCounter() {
	var requests percpu.Counter
	var servers sync.WaitGroup
	for range 8 {
		servers.Go(func() {
			for range 1000 {
				requests.Inc()
			}
		})
	}
	servers.Wait()
	fmt.Println(requests.Value(), requests.Reset(), requests.Value())
	// Output: 8000 8000 0
}

// A struct of counters, which are ready to use.
func ExampleUintCounter() {
	var traffic struct{ packets, bytes percpu.UintCounter }
	for _, size := range []int{64, 1500, 1500} {
		traffic.packets.Inc()
		traffic.bytes.Add(uint64(size))
	}
	fmt.Println(&traffic.packets, &traffic.bytes)
	// Output: 3 3064
}

// Time that was spent, in seconds.
func ExampleFloatCounter() {
	var busy percpu.FloatCounter
	busy.Add(0.25)
	busy.Add(1.5)
	fmt.Println(busy.Value())
	// Output: 1.75
}

// Counters with a label.
func ExampleCounters() {
	codes := []string{"ok", "not found", "failed"}
	byCode := percpu.NewCounters(len(codes))
	for _, code := range []int{0, 0, 1, 0} {
		byCode.Add(code, 1)
	}
	byCode.At(2).Inc()
	for i, n := range byCode.All() {
		fmt.Printf("%s: %d\n", codes[i], n)
	}
	// Output:
	// ok: 3
	// not found: 1
	// failed: 1
}

// Durations in seconds.
func ExampleHistogram() {
	durations := percpu.NewHistogram([]float64{0.01, 0.1, 1})
	for _, d := range []float64{0.003, 0.25, 0.5, 0.01, 7} {
		durations.Observe(d)
	}
	s := durations.Snapshot()
	for i, bound := range s.Bounds {
		fmt.Printf("at most %v: %d\n", bound, s.Counts[i])
	}
	fmt.Printf("more: %d\n%d in all, %.4g seconds\n", s.Counts[len(s.Bounds)], s.Count, s.Sum)
	// Output:
	// at most 0.01: 2
	// at most 0.1: 0
	// at most 1: 2
	// more: 1
	// 5 in all, 7.763 seconds
}

// A line in a program's log, and two variables for expvar.
func ExampleStatus() {
	if err := percpu.Status(); err != nil {
		log.Print("counters work without critical sections: ", err)
	}
	requests := new(percpu.Counter)
	expvar.Publish("requests", requests)
	expvar.Publish("slow paths", expvar.Func(func() any { return percpu.SlowPaths() }))
	requests.Inc()
	fmt.Println(expvar.Get("requests"))
	// Output: 1
}

// A table that is read all the time and changed now and then.
func ExampleRWMutex() {
	var routes struct {
		percpu.RWMutex
		to map[string]string
	}
	routes.Lock()
	routes.to = map[string]string{"/": "home"}
	routes.Unlock()

	var servers sync.WaitGroup
	for range 8 {
		servers.Go(func() {
			for range 1000 {
				routes.RLock()
				_ = routes.to["/"]
				routes.RUnlock()
			}
		})
	}
	servers.Wait()
	routes.RLock()
	defer routes.RUnlock()
	fmt.Println(routes.to["/"])
	// Output: home
}

// Handles name blocks of one big buffer. A goroutine that finds no block on its CPU's list
// collects those on all lists.
func ExampleFreeList() {
	const blocks, size = 64, 4096
	memory := make([]byte, blocks*size)
	free := percpu.NewFreeList(blocks)
	for handle := range uint64(blocks) {
		free.Push(handle) // there is room for all on any one list
	}

	take := func() (handle uint64, ok bool) {
		if handle, ok = free.Pop(); ok {
			return handle, true
		}
		all, err := free.DrainAll()
		if err != nil || len(all) == 0 {
			return 0, false
		}
		free.PushBatch(all[1:]) // and so here
		return all[0], true
	}
	handle, ok := take()
	block := memory[handle*size:][:size]
	fmt.Println(ok, len(block))
	free.Push(handle)
	// Output: true 4096
}

// A counter for threads that are few and roam over many CPUs.
func ExampleCompact() {
	jobs := percpu.NewCounter(percpu.Compact)
	jobs.Add(2)
	fmt.Println(jobs.Value())
	// Output: 2
}

// Buffers stay, with the memory that they grew to, when the garbage collector runs; but one
// huge message does not keep its memory for ever.
func ExamplePool() {
	buffers := percpu.Pool[bytes.Buffer]{
		Keep: func(b *bytes.Buffer) bool {
			b.Reset()
			return b.Cap() <= 64<<10
		},
	}
	b := buffers.Get()
	fmt.Fprintf(b, "hello")
	fmt.Println(b)
	buffers.Put(b)
	// Output: hello
}

// As many encoders may wait as there are workers: more would never be used.
func ExampleNewPool() {
	const workers = 8
	encoders := percpu.NewPool(workers, func(e *json.Encoder) { *e = *json.NewEncoder(io.Discard) })
	e := encoders.Get()
	defer encoders.Put(e)
	fmt.Println(e.Encode("hello"))
	// Output: <nil>
}

// A cache for each CPU, under a lock for which goroutines on other CPUs do not wait.
func ExampleSlots() {
	type cache struct {
		sync.Mutex
		names map[int]string
	}
	caches := percpu.NewSlots[cache]()
	c := caches.Here()
	c.Lock()
	if c.names == nil {
		c.names = map[int]string{}
	}
	c.names[7] = "seven"
	c.Unlock()

	found := 0
	for _, c := range caches.All() {
		c.Lock()
		found += len(c.names)
		c.Unlock()
	}
	fmt.Println(found)
	// Output: 1
}
