// Program shared adds to the same words from Go and from C at the same time, by each operation of
// rseqgo.h that can count. It prints for each the sum of the words and how often it was done. C
// goes on until each of its operations was interrupted. See cuser.go for how cgo finds the
// header.
package main

// #include "shared.h"
// #include <stdlib.h>
// static struct share *malloc_shares(size_t n)
// {
// 	struct share *s = aligned_alloc(128, n * sizeof(*s));
//
// 	for (size_t i = 0; s && i < n; i++) {
// 		s[i] = (struct share){ .same = 5 };
// 		s[i].holder[1] = (uintptr_t)&s[i].words[THROUGH];
// 		s[i].at = (uintptr_t)s[i].holder;
// 	}
// 	return s;
// }
// static int early(void)
// {
// 	int64_t word = 0;
// 	int status = rseqgo_load_add_store(RSEQGO_BY_CPU, &word, 1, 0);
//
// 	return word ? -1 : status;
// }
import "C"

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/rseq-go/rseq"
)

const (
	workers = 4 // the number of goroutines and of C threads
	rounds  = 20000
)

var names = [C.OPS]string{"cells", "add", "cbne", "store", "store_release", "copy", "copy_release", "through", "two"}

type work struct {
	x           rseq.Index
	shares      []C.struct_share
	done, raced [C.OPS]C.int64_t
	failed      rseq.Status
}

// once does an operation of package rseq on the words that once in C works on.
func (w *work) once(op, i int) rseq.Status {
	x, s := w.x, &w.shares[i]
	v := (*int64)(&s.words[op])
	old := atomic.LoadInt64(v)
	three := [3]int64{old, old + 1, old + 2}
	aside, copied := (*int64)(&s.aside[op]), unsafe.Pointer(&s.copy[op])
	switch op {
	case C.ADD:
		return x.LoadAddStore(v, 1, i)
	case C.CBNE:
		return x.LoadCBNEStore(v, old, old+1, i)
	case C.STORE:
		return x.LoadCBNEStoreStore(v, old, aside, old, old+1, i)
	case C.STORE_RELEASE:
		return x.LoadCBNEStoreStoreRelease(v, old, aside, old, old+1, i)
	case C.COPY:
		return x.LoadCBNEMemcpyStore(v, old, copied, unsafe.Pointer(&three), unsafe.Sizeof(three), old+1, i)
	case C.COPY_RELEASE:
		return x.LoadCBNEMemcpyStoreRelease(v, old, copied, unsafe.Pointer(&three), unsafe.Sizeof(three), old+1, i)
	case C.THROUGH:
		return x.LoadAddLoadLoadAddStore((*uintptr)(unsafe.Pointer(&s.at)), unsafe.Sizeof(uintptr(0)), 1, i)
	default:
		return x.LoadCBNELoadCBNEStore(v, old, (*int64)(&s.same), 5, old+1, i)
	}
}

// do does an operation once, and repeats it while it is interrupted.
func (w *work) do(op int) bool {
	x := w.x
	cells := &rseq.Cells{Base: (*int64)(&w.shares[0].words[C.CELLS]), N: len(w.shares), Stride: unsafe.Sizeof(w.shares[0])}
	for late := false; ; {
		var status rseq.Status
		switch i, err := x.Current(); {
		case op == C.CELLS && x == rseq.ByCPU:
			status = cells.Add(1)
		case op == C.CELLS:
			status = cells.AddByConcurrencyID(1)
		case err != nil:
			status = rseq.NotRegistered
		case i >= len(w.shares):
			status = rseq.OutOfRange
		default:
			status = w.once(op, i)
		}
		switch {
		case status == rseq.Done:
			w.done[op]++
			return true
		case status == rseq.Raced || status == rseq.CompareFailed:
			w.raced[op]++
		case status == rseq.NotRegistered && !late && rseq.CriticalSections(x) == nil:
			late = true
		default:
			w.failed = status
			return false
		}
	}
}

// run counts by a kind of index.
func run(x rseq.Index) error {
	n := rseq.PossibleCPUs()
	memory := C.malloc_shares(C.size_t(n))
	if memory == nil {
		return syscall.ENOMEM
	}
	defer C.free(unsafe.Pointer(memory))
	shares := unsafe.Slice(memory, n)
	// The work of C threads is in C's memory, since it holds pointers.
	inC := unsafe.Slice((*C.struct_work)(C.calloc(workers, C.size_t(unsafe.Sizeof(C.struct_work{})))), workers)
	defer C.free(unsafe.Pointer(&inC[0]))
	inGo := make([]work, workers)
	for i := range workers {
		w := C.struct_work{by: uint32(x), shares: memory, n: C.int64_t(n), rounds: rounds}
		inC[i], inGo[i] = w, work{x: x, shares: shares}
	}

	var errno C.int
	var over atomic.Bool
	var goroutines, threads sync.WaitGroup
	threads.Go(func() {
		errno = C.work_in_threads(&inC[0], workers)
		over.Store(true)
	})
	for i := range inGo {
		goroutines.Go(func() {
			for round := 0; round < rounds || !over.Load(); round++ {
				for op := range C.OPS {
					if !inGo[i].do(op) {
						return
					}
				}
			}
		})
	}
	threads.Wait()
	goroutines.Wait()
	if errno != 0 {
		return syscall.Errno(errno)
	}
	for op := range C.OPS {
		var sum, ofGo, ofC, raced C.int64_t
		for i := range shares {
			sum += shares[i].words[op]
		}
		for i := range workers {
			if failed := max(rseq.Status(inC[i].failed), inGo[i].failed); failed != 0 {
				return fmt.Errorf("%v: an operation ended with %q", x, failed)
			}
			ofGo, ofC, raced = ofGo+inGo[i].done[op], ofC+inC[i].done[op], raced+inC[i].raced[op]
		}
		fmt.Println(x, names[op], "sum", sum, "Go", ofGo, "C", ofC, "raced", raced)
	}
	return nil
}

func main() {
	// Sections in C are refused until Go has called CriticalSections.
	if status := C.early(); status != C.RSEQGO_NOT_REGISTERED {
		fmt.Println("early:", status)
		os.Exit(1)
	}
	runtime.LockOSThread()
	for _, x := range []rseq.Index{rseq.ByCPU, rseq.ByConcurrencyID} {
		if err := rseq.CriticalSections(x); err != nil {
			fmt.Println(x, "none", err)
			continue
		}
		if err := run(x); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}
