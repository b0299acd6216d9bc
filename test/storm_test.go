//go:build linux

package test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/testutil"
)

func equal(t *testing.T, what string, got, want int64) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %d, want %d: %d lost", what, got, want, want-got)
	}
}

// TestStormCounter: threads add by load_add_store, and by Add, which retries by itself.
func TestStormCounter(t *testing.T) {
	testutil.Storms(t, func(t *testing.T, x rseq.Index, threads, rounds int) (func(*testutil.Storm), func()) {
		data := newShares(t)
		cells := data.cells(1)
		work := func(s *testutil.Storm) {
			for range s.Rounds {
				for {
					i := s.Here()
					if s.Took(s.LoadAddStore(data.at(i, 0), 1, i)) {
						break
					}
				}
				for !s.Took(add(s.Index, cells, 3)) {
				}
			}
		}
		return work, func() {
			equal(t, "load_add_store", data.sum(0), int64(threads*rounds))
			equal(t, "add", data.sum(1), int64(3*threads*rounds))
		}
	})
}

// TestStormSpinlock: a lock for each index, taken by load_cbne_store, guards a plain counter.
func TestStormSpinlock(t *testing.T) {
	testutil.Storms(t, func(t *testing.T, x rseq.Index, threads, rounds int) (func(*testutil.Storm), func()) {
		data := newShares(t)
		work := func(s *testutil.Storm) {
			for round := range s.Rounds {
				for {
					i := s.Here()
					if s.Took(s.LoadCBNEStore(data.at(i, 0), 0, 1, i)) {
						count := *data.at(i, 1)
						if round%16 == 0 {
							testutil.Yield() // another thread must not enter now
						}
						*data.at(i, 1) = count + 1
						atomic.StoreInt64(data.at(i, 0), 0)
						break
					}
				}
			}
		}
		return work, func() { equal(t, "count", data.sum(1), int64(threads*rounds)) }
	})
}

// A node of the lists has a link and a number. A node is named by its distance from the first,
// plus one, so that zero names no node.
const nodeWords = 2

// TestStormList: threads take nodes from their lists by load_cbeq_store_add_load_store and put them
// on lists by load_cbne_store. At the end each node is on one list, once.
func TestStormList(t *testing.T) {
	testutil.Storms(t, func(t *testing.T, x rseq.Index, threads, rounds int) (func(*testutil.Storm), func()) {
		data := newShares(t)
		nodes := words(t, nodeWords*100)
		for n := range len(nodes) / nodeWords {
			head := data.at(n%rseq.PossibleCPUs(), 0)
			nodes[nodeWords*n] = *head
			*head = int64(8*nodeWords*n + 1)
		}
		base := uintptr(unsafe.Pointer(&nodes[0])) - 1
		link := func(name int64) *int64 { return &nodes[(name-1)/8] }
		work := func(s *testutil.Storm) {
			for range s.Rounds {
				var node int64
				for node == 0 {
					i := s.Here()
					load, status := s.LoadCBEQStoreAddLoadStore(data.at(i, 0), 0, base, i)
					if s.Took(status) {
						node = load
					}
				}
				if s.Every > 0 {
					s.Do()
				}
				for {
					i := s.Here()
					head := atomic.LoadInt64(data.at(i, 0))
					atomic.StoreInt64(link(node), head)
					if s.Took(s.LoadCBNEStore(data.at(i, 0), head, node, i)) {
						break
					}
				}
			}
		}
		return work, func() {
			seen := map[int64]bool{}
			for i := range rseq.PossibleCPUs() {
				for node := *data.at(i, 0); node != 0; node = *link(node) {
					if seen[node] {
						t.Fatalf("node %d is there twice", node)
					}
					seen[node] = true
				}
			}
			equal(t, "nodes", int64(len(seen)), int64(len(nodes)/nodeWords))
		}
	})
}

// A buffer is a stack for each index: word 0 of its share counts the items.
const bufferItems = 64

// driveBuffer pops and pushes numbers until each thread has done its rounds. The sum of what is in
// the buffers and what threads hold does not change.
func driveBuffer(t *testing.T, threads int, data shares, begin func(i, n int, v int64),
	push func(s *testutil.Storm, v int64) bool, pop func(s *testutil.Storm) (int64, bool), at func(i, n int) int64) (func(*testutil.Storm), func()) {
	want := int64(0)
	for i := range rseq.PossibleCPUs() {
		for n := range bufferItems / 2 {
			v := int64(i*bufferItems + n + 1)
			begin(i, n, v)
			want += v
		}
		*data.at(i, 0) = bufferItems / 2
	}
	var held atomic.Int64
	work := func(s *testutil.Storm) {
		for range s.Rounds {
			v, ok := pop(s)
			if !ok {
				testutil.Yield()
				continue
			}
			if s.Every > 0 {
				s.Do()
			}
			if !push(s, v) {
				held.Add(v)
			}
		}
	}
	return work, func() {
		sum := held.Load()
		for i := range rseq.PossibleCPUs() {
			for n := range int(*data.at(i, 0)) {
				sum += at(i, n)
			}
		}
		equal(t, "sum", sum, want)
	}
}

// TestStormBuffer: load_cbne_store_store pushes, load_cbne_load_cbne_store pops.
func TestStormBuffer(t *testing.T) {
	for _, release := range []bool{false, true} {
		t.Run(fmt.Sprintf("release %v", release), func(t *testing.T) {
			testutil.Storms(t, func(t *testing.T, x rseq.Index, threads, rounds int) (func(*testutil.Storm), func()) {
				data := newShares(t)
				items := words(t, bufferItems*rseq.PossibleCPUs())
				item := func(i, n int) *int64 { return &items[bufferItems*i+n] }
				push := func(s *testutil.Storm, v int64) bool {
					for {
						i := s.Here()
						n := atomic.LoadInt64(data.at(i, 0))
						if n == bufferItems {
							return false
						}
						op := s.LoadCBNEStoreStore
						if release {
							op = s.LoadCBNEStoreStoreRelease
						}
						if s.Took(op(data.at(i, 0), n, item(i, int(n)), v, n+1, i)) {
							return true
						}
					}
				}
				pop := func(s *testutil.Storm) (int64, bool) {
					for {
						i := s.Here()
						n := atomic.LoadInt64(data.at(i, 0))
						if n == 0 {
							return 0, false
						}
						top := item(i, int(n-1))
						v := atomic.LoadInt64(top)
						if s.Took(s.LoadCBNELoadCBNEStore(data.at(i, 0), n, top, v, n-1, i)) {
							return v, true
						}
					}
				}
				return driveBuffer(t, threads, data, func(i, n int, v int64) { *item(i, n) = v },
					push, pop, func(i, n int) int64 { return *item(i, n) })
			})
		})
	}
}

// big is an item that one store cannot write. Its length is no multiple of 8.
type big struct {
	v    int64
	copy [5]int32
	tail [3]byte
}

const bigSize = unsafe.Offsetof(big{}.tail) + unsafe.Sizeof(big{}.tail)

func newBig(v int64) (b big) {
	b.v = v
	for i := range b.copy {
		b.copy[i] = int32(v)
	}
	b.tail = [3]byte{byte(v), byte(v), byte(v)}
	return b
}

// TestStormMemcpy: load_cbne_memcpy_store pushes and pops items of 31 bytes.
func TestStormMemcpy(t *testing.T) {
	for _, release := range []bool{false, true} {
		t.Run(fmt.Sprintf("release %v", release), func(t *testing.T) {
			testutil.Storms(t, func(t *testing.T, x rseq.Index, threads, rounds int) (func(*testutil.Storm), func()) {
				data := newShares(t)
				size := int(unsafe.Sizeof(big{})) / 8
				memory := words(t, size*bufferItems*rseq.PossibleCPUs())
				item := func(i, n int) *big { return (*big)(unsafe.Pointer(&memory[size*(bufferItems*i+n)])) }
				push := func(s *testutil.Storm, v int64) bool {
					b := newBig(v)
					for {
						i := s.Here()
						n := atomic.LoadInt64(data.at(i, 0))
						if n == bufferItems {
							return false
						}
						op := s.LoadCBNEMemcpyStore
						if release {
							op = s.LoadCBNEMemcpyStoreRelease
						}
						if s.Took(op(data.at(i, 0), n, unsafe.Pointer(item(i, int(n))), unsafe.Pointer(&b), bigSize, n+1, i)) {
							return true
						}
					}
				}
				pop := func(s *testutil.Storm) (int64, bool) {
					var b big
					for {
						i := s.Here()
						n := atomic.LoadInt64(data.at(i, 0))
						if n == 0 {
							return 0, false
						}
						if s.Took(s.LoadCBNEMemcpyStore(data.at(i, 0), n, unsafe.Pointer(&b), unsafe.Pointer(item(i, int(n-1))), bigSize, n-1, i)) {
							if b != newBig(b.v) {
								s.Errorf("torn: %+v", b)
							}
							return b.v, true
						}
					}
				}
				return driveBuffer(t, threads, data, func(i, n int, v int64) { *item(i, n) = newBig(v) },
					push, pop, func(i, n int) int64 { return item(i, n).v })
			})
		})
	}
}

// TestStormFence: threads add through the active one of two lists by load_add_load_load_add_store.
// After another thread made the other list active and fenced an index, the counter of that
// index in the first list does not change.
func TestStormFence(t *testing.T) {
	t.Run("membarrier", func(t *testing.T) {
		if err := kernel.Membarrier(-1); errors.Is(err, unix.EINVAL) {
			t.Skipf("membarrier for critical sections, Linux 5.10 (on riscv64 6.9): %v", err)
		}
		stormFence(t, kernel.Membarrier)
	})
	t.Run("visit", func(t *testing.T) { stormFence(t, kernel.Visit) })
	t.Run("Fence", func(t *testing.T) { stormFence(t, nil) })
}

func stormFence(t *testing.T, fence func(cpu int) error) {
	testutil.Storms(t, func(t *testing.T, x rseq.Index, threads, rounds int) (func(*testutil.Storm), func()) {
		// A list has a share for each index, whose word 0 has the address of word 1, the
		// counter.
		lists := [2]shares{newShares(t), newShares(t)}
		for _, list := range lists {
			for i := range rseq.PossibleCPUs() {
				*list.at(i, 0) = int64(uintptr(unsafe.Pointer(list.at(i, 1))))
			}
		}
		// The word with the address of the active list is outside of Go's heap too.
		active := (*uintptr)(unsafe.Pointer(&words(t, 1)[0]))
		activate := func(n int) { atomic.StoreUintptr(active, uintptr(unsafe.Pointer(lists[n].at(0, 0)))) }
		activate(0)

		var stop atomic.Bool
		var manager sync.WaitGroup
		manager.Go(func() {
			for now := 0; !stop.Load(); now = 1 - now {
				cpu := rand.IntN(rseq.PossibleCPUs())
				activate(1 - now)
				var err error
				switch {
				case fence == nil:
					err = x.Fence(cpu)
				case x == rseq.ByConcurrencyID:
					err = fence(-1) // the kernel knows CPUs only
				default:
					err = fence(cpu)
				}
				if err != nil {
					t.Error(err)
					return
				}
				counter := lists[now].at(cpu, 1)
				before := atomic.LoadInt64(counter)
				time.Sleep(100 * time.Microsecond)
				if after := atomic.LoadInt64(counter); before != after {
					t.Errorf("the counter moved from %d to %d after the fence", before, after)
				}
			}
		})
		work := func(s *testutil.Storm) {
			for range s.Rounds {
				for {
					i := s.Here()
					if s.Took(s.LoadAddLoadLoadAddStore(active, uintptr(8*stride*i), 1, i)) {
						break
					}
				}
			}
		}
		return work, func() {
			stop.Store(true)
			manager.Wait()
			equal(t, "count", lists[0].sum(1)+lists[1].sum(1), int64(threads*rounds))
		}
	})
}
