//go:build linux

package rseq_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/testutil"
)

// weather is what a storm does to its threads between an index that they read
// and the operation that relies on it: nothing, or at every n-th time one thing.
type weather struct {
	name  string
	every int
	do    func()
	heavy bool // a round takes some 50 µs
	// pestered: another thread sends them all signals and moves them to other
	// CPUs, at any time.
	pestered bool
}

func yield() { unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

func forecasts() []weather {
	list := []weather{{name: "calm"}, {name: "pestered", pestered: true}}
	for _, percent := range []int{25, 50, 100} {
		every := 100 / percent
		list = append(list,
			weather{fmt.Sprintf("yield %d%%", percent), every, yield, false, false},
			weather{fmt.Sprintf("signal %d%%", percent), every, func() {
				unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGURG)
			}, false, false},
			weather{fmt.Sprintf("sleep %d%%", percent), every, func() {
				unix.Nanosleep(&unix.Timespec{Nsec: 1000}, nil)
			}, true, false})
	}
	return list
}

// storm is one thread of a test: its index, and what comes in between.
type storm struct {
	*testing.T
	rseq.Index
	weather
	rounds int
	n      int
	raced  *atomic.Int64
}

// current reads the index and lets the weather pass.
func (s *storm) current() int {
	i, err := s.Current()
	if err != nil {
		s.Error(err)
		runtime.Goexit()
	}
	if s.every > 0 {
		if s.n++; s.n%s.every == 0 {
			s.do()
		}
	}
	return i
}

// done reports whether the operation took effect; a status that no storm may
// bring about is an error.
func (s *storm) done(status rseq.Status) bool {
	switch status {
	case rseq.Done:
		return true
	case rseq.Raced:
		s.raced.Add(1)
	case rseq.CompareFailed:
		yield() // somebody holds the lock, perhaps
	case rseq.NotRegistered: // a thread of ours that never asked
		if err := rseq.CriticalSections(s.Index); err == nil {
			break
		}
		fallthrough
	default:
		s.Error(status)
		runtime.Goexit()
	}
	return false
}

// storms runs test in every weather for each index: prepare makes the data and
// returns what each thread does and what must hold afterwards. Where the delay
// loops are compiled in, each of the sections' points is also slowed down.
func storms(t *testing.T, prepare func(t *testing.T, x rseq.Index, threads, rounds int) (work func(*storm), check func())) {
	delays := []int{0}
	inject := testutil.Inject()
	if inject != nil {
		delays = []int{1, 2, 3, 4, 5, 6}
	}
	for _, x := range []rseq.Index{rseq.ByCPU, rseq.ByConcurrencyID} {
		for _, w := range forecasts() {
			for _, point := range delays {
				name := fmt.Sprintf("%v/%s", x, w.name)
				if point > 0 {
					name += fmt.Sprintf("/delay at %d", point)
				}
				t.Run(name, func(t *testing.T) {
					needSections(t, x)
					if inject != nil {
						inject[point] = 20000 // loops, some microseconds
						defer func() { inject[point] = 0 }()
					}
					rounds := 1000
					if w.heavy {
						rounds = 50
					}
					if inject != nil || testing.Short() {
						rounds /= 10
					} else if testutil.Long() {
						rounds *= 4
					}
					rounds = testutil.Repeat(rounds)
					threads := 6 * runtime.NumCPU()
					work, check := prepare(t, x, threads, rounds)
					defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads + 2))
					var wg sync.WaitGroup
					var raced atomic.Int64
					var tids sync.Map
					for range threads {
						wg.Go(func() {
							runtime.LockOSThread() // and never unlocked: the thread ends here
							tids.Store(unix.Gettid(), true)
							defer tids.Delete(unix.Gettid())
							work(&storm{T: t, Index: x, weather: w, rounds: rounds, raced: &raced})
						})
					}
					if w.pestered || inject != nil {
						defer pester(t, &tids)()
					}
					wg.Wait()
					check()
					t.Logf("%d threads, %d rounds each, %d times raced", threads, rounds, raced.Load())
				})
			}
		}
	}
}

// pester sends signals to threads and moves them to other CPUs until the function
// that it returns is called.
func pester(t *testing.T, tids *sync.Map) (stop func()) {
	cpus := testutil.AllowedCPUs(t)
	var stopped atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; !stopped.Load(); n++ {
			tids.Range(func(tid, _ any) bool {
				var one unix.CPUSet
				one.Set(cpus[rand.IntN(len(cpus))])
				if n%2 == 0 {
					unix.SchedSetaffinity(tid.(int), &one)
				} else {
					unix.Tgkill(unix.Getpid(), tid.(int), unix.SIGURG)
				}
				return true
			})
			yield()
		}
	})
	return func() { stopped.Store(true); wg.Wait() }
}

func equal(t *testing.T, what string, got, want int64) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %d, want %d: %d lost", what, got, want, want-got)
	}
}

// TestStormCounter: load_add_store, and Add, which retries by itself.
func TestStormCounter(t *testing.T) {
	storms(t, func(t *testing.T, x rseq.Index, threads, rounds int) (func(*storm), func()) {
		data := newShares(t)
		cells := data.cells(1)
		work := func(s *storm) {
			for range s.rounds {
				for {
					i := s.current()
					if s.done(s.LoadAddStore(data.at(i, 0), 1, i)) {
						break
					}
				}
				for !s.done(add(s.Index, cells, 3)) {
				}
			}
		}
		return work, func() {
			equal(t, "load_add_store", data.sum(0), int64(threads*rounds))
			equal(t, "add", data.sum(1), int64(3*threads*rounds))
		}
	})
}

// TestStormSpinlock: a lock for each index by load_cbne_store protects a plain
// counter.
func TestStormSpinlock(t *testing.T) {
	storms(t, func(t *testing.T, x rseq.Index, threads, rounds int) (func(*storm), func()) {
		data := newShares(t)
		work := func(s *storm) {
			for round := range s.rounds {
				for {
					i := s.current()
					if s.done(s.LoadCBNEStore(data.at(i, 0), 0, 1, i)) {
						count := *data.at(i, 1)
						if round%16 == 0 {
							yield() // is somebody else let in?
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

// A node of the lists: its link, then its number. Its name is its distance from
// the first, plus one, so that zero is no node.
const nodeWords = 2

// TestStormList: threads take nodes from their lists, load_cbeq_store_add_load_store,
// and put them on lists, load_cbne_store. In the end each is on one list, once.
func TestStormList(t *testing.T) {
	storms(t, func(t *testing.T, x rseq.Index, threads, rounds int) (func(*storm), func()) {
		data := newShares(t)
		nodes := words(t, nodeWords*100)
		for n := range len(nodes) / nodeWords {
			head := data.at(n%rseq.PossibleCPUs(), 0)
			nodes[nodeWords*n] = *head
			*head = int64(8*nodeWords*n + 1)
		}
		base := uintptr(unsafe.Pointer(&nodes[0])) - 1
		link := func(name int64) *int64 { return &nodes[(name-1)/8] }
		work := func(s *storm) {
			for range s.rounds {
				var node int64
				for node == 0 {
					i := s.current()
					load, status := s.LoadCBEQStoreAddLoadStore(data.at(i, 0), 0, base, i)
					if s.done(status) {
						node = load
					}
				}
				if s.every > 0 {
					s.do()
				}
				for {
					i := s.current()
					head := atomic.LoadInt64(data.at(i, 0))
					atomic.StoreInt64(link(node), head)
					if s.done(s.LoadCBNEStore(data.at(i, 0), head, node, i)) {
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

// buffer is a stack for each index: word 0 of its share counts the items.
const bufferItems = 64

// drive pushes and pops numbers until each thread has done its rounds: what is
// in the buffers in the end plus what threads hold is what was there.
func driveBuffer(t *testing.T, threads int, data shares, begin func(i, n int, v int64),
	push func(s *storm, v int64) bool, pop func(s *storm) (int64, bool), at func(i, n int) int64) (func(*storm), func()) {
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
	work := func(s *storm) {
		for range s.rounds {
			v, ok := pop(s)
			if !ok {
				yield()
				continue
			}
			if s.every > 0 {
				s.do()
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
			storms(t, func(t *testing.T, x rseq.Index, threads, rounds int) (func(*storm), func()) {
				data := newShares(t)
				items := words(t, bufferItems*rseq.PossibleCPUs())
				item := func(i, n int) *int64 { return &items[bufferItems*i+n] }
				push := func(s *storm, v int64) bool {
					for {
						i := s.current()
						n := atomic.LoadInt64(data.at(i, 0))
						if n == bufferItems {
							return false
						}
						op := s.LoadCBNEStoreStore
						if release {
							op = s.LoadCBNEStoreStoreRelease
						}
						if s.done(op(data.at(i, 0), n, item(i, int(n)), v, n+1, i)) {
							return true
						}
					}
				}
				pop := func(s *storm) (int64, bool) {
					for {
						i := s.current()
						n := atomic.LoadInt64(data.at(i, 0))
						if n == 0 {
							return 0, false
						}
						top := item(i, int(n-1))
						v := atomic.LoadInt64(top)
						if s.done(s.LoadCBNELoadCBNEStore(data.at(i, 0), n, top, v, n-1, i)) {
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

// big is an item that no store can write at once; its length is no multiple of 8.
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
			storms(t, func(t *testing.T, x rseq.Index, threads, rounds int) (func(*storm), func()) {
				data := newShares(t)
				size := int(unsafe.Sizeof(big{})) / 8
				memory := words(t, size*bufferItems*rseq.PossibleCPUs())
				item := func(i, n int) *big { return (*big)(unsafe.Pointer(&memory[size*(bufferItems*i+n)])) }
				push := func(s *storm, v int64) bool {
					b := newBig(v)
					for {
						i := s.current()
						n := atomic.LoadInt64(data.at(i, 0))
						if n == bufferItems {
							return false
						}
						op := s.LoadCBNEMemcpyStore
						if release {
							op = s.LoadCBNEMemcpyStoreRelease
						}
						if s.done(op(data.at(i, 0), n, unsafe.Pointer(item(i, int(n))), unsafe.Pointer(&b), bigSize, n+1, i)) {
							return true
						}
					}
				}
				pop := func(s *storm) (int64, bool) {
					var b big
					for {
						i := s.current()
						n := atomic.LoadInt64(data.at(i, 0))
						if n == 0 {
							return 0, false
						}
						if s.done(s.LoadCBNEMemcpyStore(data.at(i, 0), n, unsafe.Pointer(&b), unsafe.Pointer(item(i, int(n-1))), bigSize, n-1, i)) {
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

const (
	membarrierRseq         = 1 << 7 // Linux 5.10
	membarrierRegisterRseq = 1 << 8
	membarrierFlagCPU      = 1
)

// fence restarts the sections of this process on the CPU, on all if negative.
func fence(cpu int) error {
	flags := uintptr(membarrierFlagCPU)
	if cpu < 0 {
		cpu, flags = 0, 0
	}
	_, _, e := unix.Syscall(unix.SYS_MEMBARRIER, membarrierRseq, flags, uintptr(cpu))
	if e != 0 && e != unix.ENXIO { // a CPU that is off
		return e
	}
	return nil
}

// TestStormMembarrier: threads add through the active one of two lists by
// load_add_load_load_add_store; who makes the other one active and fences a CPU
// sees that CPU's counter of the first stand still.
func TestStormMembarrier(t *testing.T) {
	if _, _, e := unix.Syscall(unix.SYS_MEMBARRIER, membarrierRegisterRseq, 0, 0); e != 0 {
		t.Skipf("membarrier for rseq, Linux 5.10: %v", e)
	}
	storms(t, func(t *testing.T, x rseq.Index, threads, rounds int) (func(*storm), func()) {
		// Each list is a share for each index: its word 0 has the address of
		// its word 1, the counter.
		lists := [2]shares{newShares(t), newShares(t)}
		for _, list := range lists {
			for i := range rseq.PossibleCPUs() {
				*list.at(i, 0) = int64(uintptr(unsafe.Pointer(list.at(i, 1))))
			}
		}
		// The word that says which one is active is not Go's, either.
		active := (*uintptr)(unsafe.Pointer(&words(t, 1)[0]))
		activate := func(n int) { atomic.StoreUintptr(active, uintptr(unsafe.Pointer(lists[n].at(0, 0)))) }
		activate(0)

		var stop atomic.Bool
		var manager sync.WaitGroup
		manager.Go(func() {
			for now := 0; !stop.Load(); now = 1 - now {
				cpu := rand.IntN(rseq.PossibleCPUs())
				activate(1 - now)
				fenced := cpu
				if x == rseq.ByConcurrencyID {
					fenced = -1 // the kernel knows CPUs only
				}
				if err := fence(fenced); err != nil {
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
		work := func(s *storm) {
			for range s.rounds {
				for {
					i := s.current()
					if s.done(s.LoadAddLoadLoadAddStore(active, uintptr(8*stride*i), 1, i)) {
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
