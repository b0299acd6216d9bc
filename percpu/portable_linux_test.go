package percpu

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/processor"
	"github.com/rseq-go/rseq/internal/testutil"
)

// TestShares: where the CPU's number is cheap, each CPU has a share of its own, and CPUs
// that use none have none; where it is not, there are as many as may run at once. Nothing
// is lost when that changes.
func TestShares(t *testing.T) {
	report := processor.Again()
	cpus := testutil.AllowedCPUs(t)
	var s stripes[int64]
	where := map[*int64]int{}
	cheap := 0 // threads whose number is: those that have an area, or all
	for _, cpu := range cpus {
		testutil.OnThread(func() {
			testutil.Pin(t, cpu)
			if cheapCPU() >= 0 {
				cheap++
			}
			for range 100 {
				share := s.own()
				*share++
				if was, known := where[share]; known && was != cpu && cheapCPU() >= 0 {
					t.Errorf("CPU %d has the share of CPU %d", cpu, was)
				}
				where[share] = cpu
			}
			if got := cheapCPU(); got >= 0 && got != cpu {
				t.Errorf("pinned to CPU %d: %d", cpu, got)
			}
		})
	}
	t.Log(report, len(where))
	all, made, sum := s.all(), 0, int64(0)
	for i := range all.n() {
		if share := all.at(i); share != nil {
			made++
			sum += *share
		}
	}
	if sum != int64(100*len(cpus)) {
		t.Errorf("%d counted, want %d", sum, 100*len(cpus))
	}
	switch cheap {
	case len(cpus):
		if len(all.byCPU) != rseq.PossibleCPUs() || len(where) != len(cpus) || made != len(cpus)+len(all.some) {
			t.Errorf("%d shares for %d possible CPUs, %d made and %d used by %d", len(all.byCPU), rseq.PossibleCPUs(), made, len(where), len(cpus))
		}
	case 0:
		if len(all.byCPU) != 0 || len(all.some) != shareCount() {
			t.Errorf("%d shares by CPU and %d others, want %d others", len(all.byCPU), len(all.some), shareCount())
		}
	}
}

// TestSharesChange: shares of both kinds count, whichever came first.
func TestSharesChange(t *testing.T) {
	processor.Again()
	for _, some := range []bool{false, true} {
		c := new(Counter)
		if some {
			c.portable.p.Store(&shares[atomic.Int64]{some: make([]padded[atomic.Int64], shareCount())})
			c.portable.all().at(0).Add(5)
		}
		var wg sync.WaitGroup
		for range 4 * runtime.GOMAXPROCS(0) {
			wg.Go(func() {
				for range 1000 {
					c.Add(1)
				}
			})
		}
		wg.Wait()
		want := int64(4 * runtime.GOMAXPROCS(0) * 1000)
		if some {
			want += 5
		}
		if got := c.Value(); got != want {
			t.Errorf("%d, want %d", got, want)
		}
	}
}
