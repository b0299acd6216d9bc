// Program pluginhost loads the plugin that its argument names, prints what Query returns there,
// and works on the same data as the plugin at the same time. The plugin has its own copy of
// the critical sections.
package main

import (
	"fmt"
	"os"
	"plugin"
	"slices"
	"sync"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/percpu"
)

const (
	goroutines = 8
	rounds     = 20000
	handles    = 64
)

type work = func(counter *percpu.Counter, cells *rseq.Cells, list *percpu.FreeList, n int) error

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(path string) error {
	p, err := plugin.Open(path)
	if err != nil {
		return err
	}
	json, err := p.Lookup("JSON")
	if err != nil {
		return err
	}
	fmt.Println(json.(func() string)())
	symbol, err := p.Lookup("Work")
	if err != nil {
		return err
	}
	if rseq.CriticalSections(rseq.ByCPU) != nil {
		return nil
	}
	const stride = 128
	words := make([]int64, rseq.PossibleCPUs()*stride/8)
	counter, list := percpu.NewCounter(), percpu.NewFreeList(2*handles)
	cells := &rseq.Cells{Base: &words[0], N: rseq.PossibleCPUs(), Stride: stride}
	for h := range uint64(handles) {
		list.Push(h)
	}
	// At first the plugin's gate is closed.
	errs := make([]error, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			if g%2 == 0 {
				errs[g] = symbol.(work)(counter, cells, list, rounds)
			} else {
				errs[g] = here(counter, cells, list, rounds)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	var added, explicit int64
	for i := range rseq.PossibleCPUs() {
		added += words[i*stride/8]
		explicit += words[i*stride/8+1]
	}
	left, err := list.DrainAll()
	if err != nil {
		return err
	}
	slices.Sort(left)
	if sum, want := counter.Value(), int64(goroutines*rounds); sum != want || added != want || explicit != want/2 {
		return fmt.Errorf("counter %d, cells %d, want %d; explicit operations of the plugin %d, want %d", sum, added, want, explicit, want/2)
	}
	if len(left) != handles || len(slices.Compact(left)) != handles {
		return fmt.Errorf("handles %v, want %d of them, each once", left, handles)
	}
	return nil
}

// here is Work of program lib, in the host.
func here(counter *percpu.Counter, cells *rseq.Cells, list *percpu.FreeList, n int) error {
	for range n {
		counter.Add(1)
		for cells.Add(1) != rseq.Done {
			if err := rseq.CriticalSections(rseq.ByCPU); err != nil {
				return err
			}
		}
		if handle, ok := list.Pop(); ok && !list.Push(handle) {
			return fmt.Errorf("no room for handle %d", handle)
		}
	}
	return nil
}
