// Program lib is this package inside a C program's library or a Go plugin.
package main

// #include <stdlib.h>
import "C"

import (
	"encoding/json"
	"fmt"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/percpu"
)

// RseqJSON returns what Query says; the caller frees it.
//
//export RseqJSON
func RseqJSON() *C.char { return C.CString(JSON()) }

// RseqCPU returns the CPU number that the area holds, -1 for an error.
//
//export RseqCPU
func RseqCPU() C.int {
	cpu, err := rseq.CPU()
	if err != nil {
		return -1
	}
	return C.int(cpu)
}

// JSON is RseqJSON for a plugin. Package percpu has to work, too.
func JSON() string {
	counter, list := percpu.NewCounter(), percpu.NewFreeList(4)
	counter.Add(3)
	list.Push(7)
	drained, err := list.DrainAll()
	if sum := counter.Load(); sum != 3 || len(drained) != 1 || err != nil {
		return fmt.Sprint("percpu: ", sum, drained, err)
	}
	info, _ := rseq.Query()
	data, err := json.Marshal(info)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// Sections says whether critical sections may run.
func Sections() error { return rseq.CriticalSections(rseq.ByCPU) }

func main() {}
