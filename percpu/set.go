package percpu

import (
	"sync/atomic"
	"unsafe"
)

// set is a hash table of a pool's values by address. It keeps them from the collector. One
// goroutine changes it at a time, under the pool's mu, while others look into it.
type set struct {
	slots []unsafe.Pointer // *header, or nil; as many as a power of two
	shift uint8            // how many bits of a hash are not used
	n     int              // how many values; under mu

	list *FreeList // where a section may push a member, if there are sections
}

// newSet returns an empty set that has room for n values.
func newSet(n int, list *FreeList) *set {
	s := &set{shift: 64 - 4, list: list}
	for 1<<(64-s.shift) < 2*n {
		s.shift--
	}
	s.slots = make([]unsafe.Pointer, 1<<(64-s.shift))
	return s
}

// hash returns where a value at this address stands, if no other does; then it stands in the
// next slot that is free.
func (s *set) hash(at uintptr) uint64 {
	return uint64(at) * golden >> (s.shift & 63)
}

func (s *set) slot(i uint64) *unsafe.Pointer { return &s.slots[i&uint64(len(s.slots)-1)] }

// find returns the value at an address, or nil. Without mu it may miss one, while others
// are added or removed.
func (s *set) find(at uintptr) *header {
	if s == nil {
		return nil
	}
	for i := s.hash(at); ; i++ {
		p := atomic.LoadPointer(s.slot(i))
		if p == nil || uintptr(p) == at {
			return (*header)(p)
		}
	}
}

// all returns the values.
func (s *set) all() (values []*header) {
	for _, p := range s.slots {
		if p != nil {
			values = append(values, (*header)(p))
		}
	}
	return values
}

// copy returns a set of the same values that has room for n.
func (s *set) copy(n int, list *FreeList) *set {
	c := newSet(n, list)
	for _, h := range s.all() {
		c.add(h)
	}
	return c
}

// with adds a value that is not in the set and returns the set, or a copy with more room.
func (s *set) with(h *header, list *FreeList) *set {
	if s == nil {
		s = newSet(0, list)
	} else if 2*s.n >= len(s.slots) {
		s = s.copy(len(s.slots), list)
	}
	s.add(h)
	return s
}

func (s *set) add(h *header) {
	i := s.hash(uintptr(unsafe.Pointer(h)))
	for *s.slot(i) != nil {
		i++
	}
	atomic.StorePointer(s.slot(i), unsafe.Pointer(h))
	s.n++
}

// remove removes a value, if it is in the set.
func (s *set) remove(h *header) {
	i := s.hash(uintptr(unsafe.Pointer(h)))
	for ; *s.slot(i) != unsafe.Pointer(h); i++ {
		if *s.slot(i) == nil {
			return
		}
	}
	atomic.StorePointer(s.slot(i), nil)
	s.n--
	// Those behind it may have found its slot taken.
	for i++; *s.slot(i) != nil; i++ {
		h := (*header)(*s.slot(i))
		atomic.StorePointer(s.slot(i), nil)
		s.n--
		s.add(h)
	}
}
