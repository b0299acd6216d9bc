package percpu

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

// stripes is data for threads without critical sections: some shares, made when
// first used, of which a goroutine mostly uses the same one.
type stripes[T any] struct{ p atomic.Pointer[[]padded[T]] }

// padded keeps values out of each other's cache lines, of which processors fetch two
// at a time.
type padded[T any] struct {
	v T
	_ [128]byte
}

// all returns the shares that there are.
func (s *stripes[T]) all() []padded[T] {
	if p := s.p.Load(); p != nil {
		return *p
	}
	return nil
}

// own returns the calling goroutine's share, which others may use too.
func (s *stripes[T]) own() *T {
	p := s.p.Load()
	if p == nil {
		shares := make([]padded[T], shareCount())
		s.p.CompareAndSwap(nil, &shares)
		p = s.p.Load()
	}
	return &(*p)[share(len(*p))].v
}

// shareCount returns how many shares serve all that run at one moment.
func shareCount() int { return min(runtime.GOMAXPROCS(0), 64) }

// share returns one of n by where the goroutine's stack is.
func share(n int) int {
	var here byte
	// Stacks are at least 2 KiB. Multiplied, the upper bits depend on all.
	hash := uint64(uintptr(unsafe.Pointer(&here))>>11) * 0x9E3779B97F4A7C15 // 2^64 / golden ratio
	return int(hash >> 32 * uint64(n) >> 32)
}
