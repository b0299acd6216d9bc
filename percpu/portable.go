package percpu

import (
	"iter"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/processor"
	"github.com/rseq-go/rseq/internal/section"
)

// stripes is the data of operations that do without critical sections, spread over shares.
// Several threads may use a share at the same time, so it is used by atomics or under a lock.
type stripes[T any] struct{ p atomic.Pointer[shares[T]] }

// shares is a set of shares. It is only replaced by a larger set that contains it, so a share
// stays where it is.
type shares[T any] struct {
	// byCPU has a share for each CPU, made when that CPU first uses it. It is for threads that
	// read the CPU's number quickly.
	byCPU []atomic.Pointer[padded[T]]
	// some are for the other threads. A goroutine uses the same one most of the time.
	some []padded[T]
}

// padded keeps values on different cache lines, of which processors fetch two at a time.
type padded[T any] struct {
	v T
	_ [128]byte
}

// all returns the present set.
func (s *stripes[T]) all() *shares[T] {
	if p := s.p.Load(); p != nil {
		return p
	}
	return &shares[T]{}
}

// made iterates over the shares that were made.
func (s *stripes[T]) made() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		all := s.all()
		for i := range all.n() {
			if share := all.at(i); share != nil && !yield(share) {
				return
			}
		}
	}
}

// n returns the number of shares, those that were not made included.
func (s *shares[T]) n() int { return len(s.byCPU) + len(s.some) }

// at returns share i, or nil if it was not made.
func (s *shares[T]) at(i int) *T {
	if i >= len(s.byCPU) {
		return &s.some[i-len(s.byCPU)].v
	}
	if share := s.byCPU[i].Load(); share != nil {
		return &share.v
	}
	return nil
}

// own returns the number of the calling goroutine's share, or -1 if it has none yet.
func (s *shares[T]) own() int {
	cpu := cheapCPU()
	switch {
	case cpu >= 0 && cpu < len(s.byCPU):
		return cpu
	case cpu >= 0 && s.byCPU == nil || len(s.some) == 0:
		return -1
	}
	return len(s.byCPU) + hash(len(s.some))
}

// own returns the calling goroutine's share, and makes it if need be. Other goroutines may
// have the same one.
func (s *stripes[T]) own() *T {
	if p := s.p.Load(); p != nil {
		if cpu := cheapCPU(); cpu < 0 && len(p.some) > 0 {
			return &p.some[hash(len(p.some))].v
		} else if uint(cpu) < uint(len(p.byCPU)) {
			if share := p.byCPU[cpu].Load(); share != nil {
				return &share.v
			}
		}
	}
	return s.grow()
}

// grow makes the share that own returns, and the set that it is in.
func (s *stripes[T]) grow() *T {
	for {
		old := s.p.Load()
		with := shares[T]{}
		if old != nil {
			with = *old
		}
		i := with.own()
		if i >= 0 && old != nil {
			if i < len(with.byCPU) {
				with.byCPU[i].CompareAndSwap(nil, new(padded[T]))
			}
			return with.at(i)
		}
		if with.byCPU == nil && cheapCPU() >= 0 {
			with.byCPU = make([]atomic.Pointer[padded[T]], rseq.PossibleCPUs())
		} else if with.some == nil {
			with.some = make([]padded[T], shareCount())
		}
		s.p.CompareAndSwap(old, &with)
	}
}

// shareCount returns the number of shares for the goroutines that run at one moment.
func shareCount() int { return min(runtime.GOMAXPROCS(0), 64) }

// cheapCPU returns the CPU that the goroutine runs on, or -1 if reading its number takes longer
// than a hash and a contended atomic.
func cheapCPU() int {
	if !section.Enabled {
		return int(fastCPU(nil))
	}
	return int(section.CPUID(fastCPU))
}

func fastCPU(*section.Gate) int32 {
	cpu := processor.FastCPU()
	if cpu < 0 {
		processor.Ask()
	}
	return cpu
}

// share returns a number below n, by the CPU or by the address of the goroutine's stack.
func share(n int) int {
	if cpu := cheapCPU(); cpu >= 0 {
		return cpu % n
	}
	return hash(n)
}

// golden is 2^64 divided by the golden ratio, odd: a product with it spreads its bits.
const golden = 0x9E3779B97F4A7C15

// hash returns a number below n by the address of the goroutine's stack.
func hash(n int) int {
	var here byte
	// Stacks are at least 2 KiB. The upper bits of the product depend on all bits.
	hash := uint64(uintptr(unsafe.Pointer(&here))>>11) * golden
	return int(hash >> 32 * uint64(n) >> 32)
}
