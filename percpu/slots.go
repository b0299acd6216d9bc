package percpu

import (
	"fmt"
	"iter"
	"reflect"
	"unsafe"

	"github.com/rseq-go/rseq"
)

// Slots is a value for each CPU, for those who shard values of their own: apart from each
// other by 128 bytes and more. Values are Go's and may be anything. Make one by
// [NewSlots]; the zero Slots has none.
type Slots[T any] struct {
	slots []padded[T]
	index rseq.Index
	fast  bool // the index costs no system call, mostly
}

// NewSlots returns zero values, as many as there are possible CPUs, or fewer where the
// CPU is not known without a system call. If they are larger than the package's limits
// allow it panics.
func NewSlots[T any](options ...Option) *Slots[T] {
	return newSlots[T](indexes(options))
}

func newSlots[T any](index rseq.Index, cpus int) *Slots[T] {
	n := cpus
	if n == 0 {
		n = shareCount()
	}
	if limit := sizeLimit(unsafe.Sizeof(padded[T]{})); n > limit {
		panic(fmt.Sprintf("percpu.NewSlots: %d values: expected at most %d of %v", n, limit, reflect.TypeFor[T]()))
	}
	return &Slots[T]{make([]padded[T], n), index, cpus > 0}
}

// Here returns the value of the CPU that the calling goroutine runs on, or, where sections
// do not run, one that the CPU or the goroutine mostly gets. It costs a function call, on a
// thread without an area beside others that have one perhaps a system call. It only spreads work: the
// goroutine may be elsewhere by now, and others may have the same value, so use it by
// atomics or under a lock of its own.
func (s *Slots[T]) Here() *T {
	if s.fast {
		if i, err := s.index.Current(); err == nil && i < len(s.slots) {
			return &s.slots[i].v
		}
	}
	return &s.slots[share(len(s.slots))].v
}

// All returns every value, with its index.
func (s *Slots[T]) All() iter.Seq2[int, *T] {
	return func(yield func(int, *T) bool) {
		for i := range s.slots {
			if !yield(i, &s.slots[i].v) {
				return
			}
		}
	}
}
