package percpu_test

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/rseq-go/rseq/percpu"
)

// Requests are counted on whatever CPU serves them; a report takes what was counted
// since the one before.
func ExampleCounter() {
	requests := percpu.NewCounter()
	var servers sync.WaitGroup
	for range 8 {
		servers.Go(func() {
			for range 1000 {
				requests.Add(1)
			}
		})
	}
	servers.Wait()
	fmt.Println(requests.Value(), requests.Reset(), requests.Value())
	// Output: 8000 8000 0
}

// A histogram: one counter for each power of two.
func ExampleCounters() {
	sizes := percpu.NewCounters(8)
	for _, size := range []int{1, 3, 5, 6, 100} {
		bucket := 0
		for 1<<bucket < size {
			bucket++
		}
		sizes.Add(bucket, 1)
	}
	for i := range sizes.Len() {
		fmt.Print(sizes.At(i).Value(), " ")
	}
	// Output: 1 0 1 2 0 0 0 1
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

// Handles name blocks of one big buffer. Who finds no block on its CPU's list calls in
// what is on all.
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

// For threads that are few and roam over many CPUs: words by concurrency id.
func ExampleCompact() {
	jobs := percpu.NewCounter(percpu.Compact)
	jobs.Add(2)
	fmt.Println(jobs.Value())
	// Output: 2
}

// Buffers stay, with the memory that they grew to, when the garbage collector runs.
func ExamplePool() {
	buffers := percpu.NewPool[bytes.Buffer](1000, nil)
	b := buffers.Get()
	b.Reset()
	fmt.Fprintf(b, "hello")
	fmt.Println(b)
	buffers.Put(b)
	// Output: hello
}

// A cache for each CPU, under a lock that others on other CPUs do not wait for.
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
