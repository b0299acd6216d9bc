// Program cuser reads the same area in Go and in C, which uses glibc.h. cgo finds the header in
// the folder of the other package by
//
//	CGO_CFLAGS="-I$(go list -f '{{.Dir}}' github.com/rseq-go/rseq)"
package main

// #ifdef ABI_HEADER // the header of an older version
// #include ABI_HEADER
// #endif
// #include "glibc.h"
// static int c_register(void) { return rseqgo_register_thread() >= 0; }
// static int c_cpu(void) { return rseqgo_cpu_id(rseqgo_discover()); }
// static int c_node(void) { return rseqgo_node_id(rseqgo_discover()); }
// static int c_mm_cid(void) { return rseqgo_mm_cid(rseqgo_discover()); }
// static long c_offset(void) { return rseqgo_discover()->offset; }
import "C"

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/rseq-go/rseq"
)

func main() {
	runtime.LockOSThread()
	// C registers the thread, so that Go finds a registered one.
	registered, sections := C.c_register(), 1
	if err := rseq.CriticalSections(rseq.ByCPU); err != nil && !errors.Is(err, rseq.ErrNotSupported) {
		sections = 0
	}
	fmt.Println("sections", registered, sections)
	info, err := rseq.Query()
	fmt.Println("offset", info.Offset, C.c_offset(), err)
	for range 100 {
		before, _ := rseq.CPU()
		cpu, node, mmCID := C.c_cpu(), C.c_node(), C.c_mm_cid()
		after, _ := rseq.CPU()
		if before != after {
			continue // the thread moved in between
		}
		goNode, _ := rseq.NodeID()
		goMMCID, _ := rseq.ConcurrencyID()
		fmt.Println("cpu", before, cpu)
		fmt.Println("node", goNode, node)
		fmt.Println("mm_cid", goMMCID, mmCID)
		return
	}
}
