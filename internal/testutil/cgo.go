//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package testutil

// #define _GNU_SOURCE
// #include <sched.h>
// #include "sections_cgo.h"
// // Of glibc.h, which the build cache does not see from here.
// extern int rseqgo_v1_register_thread(void) __attribute__((visibility("hidden")));
import "C"

import "unsafe"

// SchedGetcpu asks the C library for the CPU number, through cgo.
func SchedGetcpu() int { return int(C.sched_getcpu()) }

// CRegisterThread is rseqgo_register_thread of glibc.h: what C code is told of the
// calling thread.
func CRegisterThread() int { return int(C.rseqgo_v1_register_thread()) }

// What CLoop does in each round.
const (
	CAddInline  = C.C_ADD_INLINE  // an add, the section inline
	CAddCall    = C.C_ADD_CALL    // an add, by a function call
	CListInline = C.C_LIST_INLINE // list pop and push, inline
	CListCall   = C.C_LIST_CALL   // list pop and push, by a function call
)

// CLoop runs n rounds of critical sections written in C, on this thread's area.
// cells is laid out as rseq.Cells, and it and nodes are not Go's memory.
func CLoop(what int, area, cells, nodes unsafe.Pointer, n int) {
	C.c_loop(C.int(what), (*C.char)(area), (*C.struct_c_cells)(cells), nodes, C.long(n))
}
