//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package testutil

// #define _GNU_SOURCE
// #include <sched.h>
// #include "sections_cgo.h"
// // Declared in glibc.h, whose changes the build cache does not see from here.
// extern int rseqgo_v1_register_thread(void) __attribute__((visibility("hidden")));
import "C"

import "unsafe"

// SchedGetcpu asks the C library for the CPU number, through cgo.
func SchedGetcpu() int { return int(C.sched_getcpu()) }

// CRegisterThread calls rseqgo_register_thread of glibc.h, as C code does.
func CRegisterThread() int { return int(C.rseqgo_v1_register_thread()) }

// The operations of CLoop.
const (
	CAddInline  = C.C_ADD_INLINE  // an add, inline
	CAddCall    = C.C_ADD_CALL    // an add, by a function call
	CListInline = C.C_LIST_INLINE // list pop and push, inline
	CListCall   = C.C_LIST_CALL   // list pop and push, by function calls
)

// CLoop runs n rounds of critical sections written in C, on this thread's area. cells has the
// layout of rseq.Cells. cells and nodes are not in Go's heap.
func CLoop(what int, area, cells, nodes unsafe.Pointer, n int) {
	C.c_loop(C.int(what), (*C.char)(area), (*C.struct_c_cells)(cells), nodes, C.long(n))
}
