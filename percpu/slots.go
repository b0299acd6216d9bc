package percpu

import (
	"fmt"
	"iter"
	"reflect"
	"unsafe"

	"github.com/rseq-go/rseq"
)

// Slots is a value of type T for each CPU, for programs that shard data of their own. The
// values are at least 128 bytes apart. T may be any type. Make one by [NewSlots]; the zero
// Slots has no values.
type Slots[T any] struct {
	slots []padded[T]
	index rseq.Index
	fast  bool // reading the index mostly takes no system call
}

// NewSlots returns zero values: one for each possible CPU, or fewer where reading the CPU's
// number takes a system call. It panics if they are larger than the package's limits allow.
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

// Here returns the value of the CPU that the calling goroutine runs on or, where sections do
// not run, the value that this CPU or goroutine gets most of the time. It takes a function
// call, or a system call on a thread that has no area where other threads have one. It only
// spreads work: the goroutine may be on another CPU already, and another goroutine may have
// the same value. So use a value by atomics, or under a lock in it.
func (s *Slots[T]) Here() *T {
	if s.fast {
		if i, err := s.index.Current(); err == nil && i < len(s.slots) {
			return &s.slots[i].v
		}
	}
	return &s.slots[share(len(s.slots))].v
}

// All iterates over the values, with their indexes.
func (s *Slots[T]) All() iter.Seq2[int, *T] {
	return func(yield func(int, *T) bool) {
		for i := range s.slots {
			if !yield(i, &s.slots[i].v) {
				return
			}
		}
	}
}
