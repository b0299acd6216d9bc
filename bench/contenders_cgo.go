//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package main

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/section"
	"github.com/rseq-go/rseq/internal/testutil"
)

func init() { schedGetcpu, newC = testutil.SchedGetcpu, newInC }

// newInC has the loop in C too, so that no cgo call is counted. Its memory, which is not
// Go's, stays until the program ends.
func newInC(int) instance {
	stride := 128
	memory := kernel.Map(int(unsafe.Sizeof(rseq.Cells{})) + stride*(rseq.PossibleCPUs()+1))
	words := unsafe.Pointer(&memory[stride])
	cells := (*rseq.Cells)(unsafe.Pointer(&memory[0]))
	*cells = rseq.Cells{Base: (*int64)(words), N: rseq.PossibleCPUs(), Stride: uintptr(stride)}
	return instance{func(n int) error {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := rseq.CriticalSections(rseq.ByCPU); err != nil { // registers the thread, if need be
			return err
		}
		info, err := rseq.Query()
		if err != nil {
			return err
		}
		testutil.CLoop(testutil.CAddCall, unsafe.Add(section.ThreadPointer(), info.Offset), unsafe.Pointer(cells), nil, n)
		return nil
	}, func(ops int64) error {
		var sum int64
		for i := range cells.N {
			sum += atomic.LoadInt64((*int64)(unsafe.Add(words, i*stride)))
		}
		return mustBe(sum, ops)
	}}
}
