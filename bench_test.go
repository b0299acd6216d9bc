//go:build linux && cgo

package rseq_test

import (
	"runtime"
	"sync"
	"testing"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/testutil"
	"github.com/rseq-go/rseq/internal/tramp"
)

// bench runs loop(b.N) on one goroutine, then split over one for each CPU.
func bench(b *testing.B, loop func(b *testing.B, n int) (sum int)) {
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		sink = loop(b, b.N)
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		var wg sync.WaitGroup
		procs := runtime.GOMAXPROCS(0)
		for range procs {
			wg.Go(func() { loop(b, (b.N+procs-1)/procs) })
		}
		wg.Wait()
	})
}

var sink int

// BenchmarkEmptyCall is the yardstick: an empty Go assembly function with the
// result of the one behind rseq.CPU.
func BenchmarkEmptyCall(b *testing.B) {
	bench(b, func(b *testing.B, n int) (sum int) {
		for range n {
			sum += int(tramp.Empty())
		}
		return sum
	})
}

func BenchmarkCPU(b *testing.B) {
	bench(b, func(b *testing.B, n int) (sum int) {
		for range n {
			cpu, err := rseq.CPU()
			if err != nil {
				b.Error(err)
				return
			}
			sum += cpu
		}
		return sum
	})
}

func BenchmarkThreadCPU(b *testing.B) {
	bench(b, func(b *testing.B, n int) (sum int) {
		t, err := rseq.LockThread()
		if err != nil {
			b.Error(err)
			return
		}
		defer t.Unlock()
		for range n {
			cpu, err := t.CPU()
			if err != nil {
				b.Error(err)
				return
			}
			sum += cpu
		}
		return sum
	})
}

func BenchmarkCgoSchedGetcpu(b *testing.B) {
	bench(b, func(b *testing.B, n int) (sum int) {
		for range n {
			sum += testutil.SchedGetcpu()
		}
		return sum
	})
}

func BenchmarkSyscallGetcpu(b *testing.B) {
	bench(b, func(b *testing.B, n int) (sum int) {
		for range n {
			cpu, _, err := kernel.Getcpu()
			if err != nil {
				b.Error(err)
				return
			}
			sum += cpu
		}
		return sum
	})
}

// BenchmarkQuery is after the first call, which asked the kernel.
func BenchmarkQuery(b *testing.B) {
	bench(b, func(b *testing.B, n int) (sum int) {
		for range n {
			info, err := rseq.Query()
			if err != nil {
				b.Error(err)
				return
			}
			sum += info.Offset
		}
		return sum
	})
}
