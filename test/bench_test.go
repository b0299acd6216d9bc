//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package test

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/section"
	"github.com/rseq-go/rseq/internal/testutil"
)

// bench runs loop(b.N) on one goroutine, and then divided among a goroutine for each CPU.
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

// empty is a function call that does nothing.
//
//go:noinline
func empty(c *rseq.Cells, delta int64) rseq.Status { return rseq.Done }

// BenchmarkEmptyCall is what the others are compared with.
func BenchmarkEmptyCall(b *testing.B) {
	bench(b, func(b *testing.B, n int) (sum int) {
		for range n {
			sum += int(empty(nil, 1))
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

// BenchmarkQuery measures calls after the first one, which asked the kernel.
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

// list is a free list for each index, as in TestStormList. Its nodes are as far apart as its
// heads, so that CPUs do not share cache lines.
type list struct {
	heads, nodes shares
	base         uintptr
}

func newList(t testing.TB) *list {
	l := &list{heads: newShares(t), nodes: words(t, stride*8*rseq.PossibleCPUs())}
	for n := range len(l.nodes) / stride {
		head := l.heads.at(n%rseq.PossibleCPUs(), 0)
		*l.nodes.at(n, 0) = *head
		*head = int64(8*stride*n + 1)
	}
	l.base = uintptr(unsafe.Pointer(&l.nodes[0])) - 1
	return l
}

// popPush takes a node and puts it back. It returns false after a failure.
func (l *list) popPush() bool {
	i, _ := rseq.CPU()
	node, s := rseq.ByCPU.LoadCBEQStoreAddLoadStore(l.heads.at(i, 0), 0, l.base, i)
	for s == rseq.Raced {
		i, _ = rseq.CPU()
		node, s = rseq.ByCPU.LoadCBEQStoreAddLoadStore(l.heads.at(i, 0), 0, l.base, i)
	}
	if s != rseq.Done {
		return s == rseq.CompareFailed // other threads hold all nodes
	}
	for {
		v := l.heads.at(i, 0)
		head := atomic.LoadInt64(v)
		l.nodes[(node-1)/8] = head // the node is on no list yet
		if s = rseq.ByCPU.LoadCBNEStore(v, head, node, i); s == rseq.Done {
			return true
		}
		i, _ = rseq.CPU()
	}
}

// rivals are ways to add, and to take from a list and give back, and what they are compared
// with. Each runs n rounds, eight in each turn of its loop.
type rival struct {
	name string
	run  func(n int)
}

func rivals(t testing.TB) []rival {
	data := newShares(t)
	cells := data.cells(0)
	own := words(t, 3) // cells for C, outside of Go's heap
	*(*rseq.Cells)(unsafe.Pointer(&own[0])) = *cells
	l := newList(t)
	c := func(what int, cells, nodes unsafe.Pointer) func(n int) {
		return func(n int) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			info, _ := rseq.Query()
			testutil.CLoop(what, unsafe.Add(section.ThreadPointer(), info.Offset), cells, nodes, n)
		}
	}
	heads := words(t, 3)
	*(*rseq.Cells)(unsafe.Pointer(&heads[0])) = rseq.Cells{Base: l.heads.at(0, 0), N: rseq.PossibleCPUs(), Stride: 8 * stride}
	nodes := unsafe.Add(unsafe.Pointer(&l.nodes[0]), -1) // l.base
	var count atomic.Int64
	var mu sync.Mutex
	var plain int64
	bad := func() { panic("an operation failed") }
	return []rival{
		{"EmptyCall", func(n int) {
			for range n / 8 {
				empty(cells, 1)
				empty(cells, 1)
				empty(cells, 1)
				empty(cells, 1)
				empty(cells, 1)
				empty(cells, 1)
				empty(cells, 1)
				empty(cells, 1)
			}
		}},
		{"Add", func(n int) {
			for range n / 8 {
				if cells.Add(1) != rseq.Done {
					bad()
				}
				if cells.Add(1) != rseq.Done {
					bad()
				}
				if cells.Add(1) != rseq.Done {
					bad()
				}
				if cells.Add(1) != rseq.Done {
					bad()
				}
				if cells.Add(1) != rseq.Done {
					bad()
				}
				if cells.Add(1) != rseq.Done {
					bad()
				}
				if cells.Add(1) != rseq.Done {
					bad()
				}
				if cells.Add(1) != rseq.Done {
					bad()
				}
			}
		}},
		{"AddByConcurrencyID", func(n int) {
			for range n / 8 {
				if cells.AddByConcurrencyID(1) != rseq.Done {
					bad()
				}
				if cells.AddByConcurrencyID(1) != rseq.Done {
					bad()
				}
				if cells.AddByConcurrencyID(1) != rseq.Done {
					bad()
				}
				if cells.AddByConcurrencyID(1) != rseq.Done {
					bad()
				}
				if cells.AddByConcurrencyID(1) != rseq.Done {
					bad()
				}
				if cells.AddByConcurrencyID(1) != rseq.Done {
					bad()
				}
				if cells.AddByConcurrencyID(1) != rseq.Done {
					bad()
				}
				if cells.AddByConcurrencyID(1) != rseq.Done {
					bad()
				}
			}
		}},
		{"C add, inline", c(testutil.CAddInline, unsafe.Pointer(&own[0]), nil)},
		{"C add, function", c(testutil.CAddCall, unsafe.Pointer(&own[0]), nil)},
		{"atomic add", func(n int) {
			for range n / 8 {
				count.Add(1)
				count.Add(1)
				count.Add(1)
				count.Add(1)
				count.Add(1)
				count.Add(1)
				count.Add(1)
				count.Add(1)
			}
		}},
		{"mutex add", func(n int) {
			for range n {
				mu.Lock()
				plain++
				mu.Unlock()
			}
		}},
		{"cgo call", func(n int) {
			for range n {
				testutil.SchedGetcpu()
			}
		}},
		{"list pop and push", func(n int) {
			for range n {
				if !l.popPush() {
					bad()
				}
			}
		}},
		{"C list, inline", c(testutil.CListInline, unsafe.Pointer(&heads[0]), nodes)},
		{"C list, function", c(testutil.CListCall, unsafe.Pointer(&heads[0]), nodes)},
	}
}

// BenchmarkSections times the rivals in turn, in many short rounds, so that a slow moment of the
// machine affects all of them. It prints the medians in nanoseconds and as ratios to an empty
// call, on 1, 2 and 64 goroutines.
func BenchmarkSections(b *testing.B) {
	testutil.NeedSections(b, rseq.ByConcurrencyID)
	for _, goroutines := range []int{1, 2, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			list := append(rivals(b), opRivals(b)...)
			took := make([][]float64, len(list))
			n := 40000 // rounds in a turn
			if goroutines > 1 {
				n = 400000 / goroutines &^ 7 // many, so that starting goroutines does not count
			}
			for range b.N {
				for i, r := range list {
					var wg sync.WaitGroup
					begin := time.Now()
					for range goroutines - 1 {
						wg.Go(func() { r.run(n) })
					}
					r.run(n)
					wg.Wait()
					took[i] = append(took[i], float64(time.Since(begin).Nanoseconds())/float64(n*goroutines))
				}
			}
			for i := range list {
				slices.Sort(took[i])
			}
			if b.N == 1 {
				return // the first run, by which the testing package finds b.N
			}
			at := func(i, quarter int) float64 { return took[i][len(took[i])*quarter/4] }
			fmt.Printf("\n%-32s median   least   in multiples of EmptyCall, and of Add\n", b.Name())
			for i, r := range list {
				fmt.Printf("%-32s %6.2f  %6.2f ns  %5.2f %5.2f   %5.2f %5.2f\n", r.name, at(i, 2), at(i, 0),
					at(i, 2)/at(0, 2), at(i, 0)/at(0, 0), at(i, 2)/at(1, 2), at(i, 0)/at(1, 0))
			}
		})
	}
}

// opRivals are the other operations, in cases where they take effect.
func opRivals(t testing.TB) (list []rival) {
	data := newShares(t)
	src := words(t, 4)
	for i := range rseq.PossibleCPUs() {
		*data.at(i, 1) = int64(uintptr(unsafe.Pointer(data.at(i, 2))))
	}
	first := (*uintptr)(unsafe.Pointer(&words(t, 1)[0]))
	*first = uintptr(unsafe.Pointer(data.at(0, 0)))
	x := rseq.ByCPU
	for name, op := range map[string]func(v *int64, i int) rseq.Status{
		"load_cbne_store": func(v *int64, i int) rseq.Status { return x.LoadCBNEStore(v, 0, 0, i) },
		"load_add_store":  func(v *int64, i int) rseq.Status { return x.LoadAddStore(v, 0, i) },
		"load_add_load_load_add_store": func(v *int64, i int) rseq.Status {
			return x.LoadAddLoadLoadAddStore(first, uintptr(8*stride*i+8), 1, i)
		},
		"load_cbne_load_cbne_store":     func(v *int64, i int) rseq.Status { return x.LoadCBNELoadCBNEStore(v, 0, data.at(i, 3), 0, 0, i) },
		"load_cbne_store_store":         func(v *int64, i int) rseq.Status { return x.LoadCBNEStoreStore(v, 0, data.at(i, 3), 0, 0, i) },
		"load_cbne_store_store_release": func(v *int64, i int) rseq.Status { return x.LoadCBNEStoreStoreRelease(v, 0, data.at(i, 3), 0, 0, i) },
		"load_cbne_memcpy_store 32": func(v *int64, i int) rseq.Status {
			return x.LoadCBNEMemcpyStore(v, 0, unsafe.Pointer(data.at(i, 3)), unsafe.Pointer(&src[0]), 32, 0, i)
		},
		"load_cbne_memcpy_store_release": func(v *int64, i int) rseq.Status {
			return x.LoadCBNEMemcpyStoreRelease(v, 0, unsafe.Pointer(data.at(i, 3)), unsafe.Pointer(&src[0]), 32, 0, i)
		},
	} {
		list = append(list, rival{name, func(n int) {
			for range n {
				i, _ := rseq.CPU()
				for op(data.at(i, 0), i) != rseq.Done {
					i, _ = rseq.CPU()
				}
			}
		}})
	}
	slices.SortFunc(list, func(a, b rival) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return list
}
