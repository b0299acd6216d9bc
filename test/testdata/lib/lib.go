// Program lib is this package in a library for a C program, or in a Go plugin.
package main

// #include <stdlib.h>
import "C"

import (
	"encoding/json"
	"fmt"
	"unsafe"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/percpu"
)

// RseqJSON returns the JSON of Query's Info. The caller frees it.
//
//export RseqJSON
func RseqJSON() *C.char { return C.CString(JSON()) }

// RseqCPU returns the CPU, or -1 after an error.
//
//export RseqCPU
func RseqCPU() C.int {
	cpu, err := rseq.CPU()
	if err != nil {
		return -1
	}
	return C.int(cpu)
}

// JSON is RseqJSON for a plugin. It also checks that package percpu works.
func JSON() string {
	counter, list := percpu.NewCounter(), percpu.NewFreeList(4)
	counter.Add(3)
	list.Push(7)
	drained, err := list.DrainAll()
	if sum := counter.Value(); sum != 3 || len(drained) != 1 || err != nil {
		return fmt.Sprint("percpu: ", sum, drained, err)
	}
	info, _ := rseq.Query()
	data, err := json.Marshal(info)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// Work works n times on the data of the plugin's host, by the plugin's copy of the critical
// sections: it adds to a counter and to cells, and takes a handle from a list and puts it back.
func Work(counter *percpu.Counter, cells *rseq.Cells, list *percpu.FreeList, n int) error {
	for range n {
		counter.Add(1)
		for cells.Add(1) != rseq.Done {
			if err := rseq.CriticalSections(rseq.ByCPU); err != nil {
				return err
			}
		}
		for {
			cpu, err := rseq.CPU()
			if err != nil {
				return err
			}
			word := (*int64)(unsafe.Add(unsafe.Pointer(cells.Base), uintptr(cpu)*cells.Stride+8))
			s := rseq.ByCPU.LoadAddStore(word, 1, cpu)
			if s == rseq.Done {
				break
			}
			if s == rseq.NotRegistered {
				if err := rseq.CriticalSections(rseq.ByCPU); err != nil {
					return err
				}
			}
		}
		if handle, ok := list.Pop(); ok && !list.Push(handle) {
			return fmt.Errorf("no room for handle %d", handle)
		}
	}
	return nil
}

func main() {}
