// Program cuser is Go and C that look at the same area, the C through glibc.h.
// The header lies in another package's folder, which cgo is told by
//
//	CGO_CFLAGS="-I$(go list -f '{{.Dir}}' github.com/rseq-go/rseq)"
package main

// #ifdef ABI_HEADER // another version's than the newest
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
	// C asks first, so that Go meets a thread that is registered already.
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
			continue // moved meanwhile
		}
		goNode, _ := rseq.NodeID()
		goMMCID, _ := rseq.ConcurrencyID()
		fmt.Println("cpu", before, cpu)
		fmt.Println("node", goNode, node)
		fmt.Println("mm_cid", goMMCID, mmCID)
		return
	}
}
