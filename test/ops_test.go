//go:build linux

package test

import (
	"runtime"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/testutil"
)

// words returns n zeros outside of Go's heap, for critical sections. The race detector does not
// watch that memory, and does not see the sections.
func words(t testing.TB, n int) []int64 {
	t.Helper()
	data, err := unix.Mmap(-1, 0, 8*n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(data) })
	return unsafe.Slice((*int64)(unsafe.Pointer(&data[0])), n)
}

const stride = 16 // words from the cells of one index to those of the next

// shares are cells for each index.
type shares []int64

func newShares(t testing.TB) shares { return words(t, stride*rseq.PossibleCPUs()) }

func (s shares) at(i, word int) *int64 { return &s[stride*i+word] }

func (s shares) cells(word int) *rseq.Cells {
	return &rseq.Cells{Base: s.at(0, word), N: rseq.PossibleCPUs(), Stride: 8 * stride}
}

func (s shares) sum(word int) (sum int64) {
	for i := range rseq.PossibleCPUs() {
		sum += atomic.LoadInt64(s.at(i, word))
	}
	return sum
}

func add(x rseq.Index, c *rseq.Cells, delta int64) rseq.Status {
	if x == rseq.ByConcurrencyID {
		return c.AddByConcurrencyID(delta)
	}
	return c.Add(delta)
}

// op is an operation on words of its own.
type op struct {
	name string
	// run runs the operation and returns its status and how much it changed its words.
	run func(t *testing.T, x rseq.Index, i int) (s rseq.Status, changed int64)
}

func ops() []op {
	return []op{
		{"load_cbne_store", func(t *testing.T, x rseq.Index, i int) (rseq.Status, int64) {
			v := int64(5)
			s := x.LoadCBNEStore(&v, 5, 6, i)
			return s, v - 5
		}},
		{"load_add_store", func(t *testing.T, x rseq.Index, i int) (rseq.Status, int64) {
			v := int64(5)
			s := x.LoadAddStore(&v, 1, i)
			return s, v - 5
		}},
		{"load_cbeq_store_add_load_store", func(t *testing.T, x rseq.Index, i int) (rseq.Status, int64) {
			var nodes [2]int64 = [...]int64{0, 6}
			v := int64(8)
			_, s := x.LoadCBEQStoreAddLoadStore(&v, 0, uintptr(unsafe.Pointer(&nodes)), i)
			runtime.KeepAlive(&nodes)
			return s, 8 - v
		}},
		{"load_add_load_load_add_store", func(t *testing.T, x rseq.Index, i int) (rseq.Status, int64) {
			memory := words(t, 3)
			memory[1] = int64(uintptr(unsafe.Pointer(&memory[2])))
			ptr := uintptr(unsafe.Pointer(&memory[0]))
			s := x.LoadAddLoadLoadAddStore(&ptr, 8, 1, i)
			return s, memory[2]
		}},
		{"load_cbne_load_cbne_store", func(t *testing.T, x rseq.Index, i int) (rseq.Status, int64) {
			v, v2 := int64(5), int64(7)
			s := x.LoadCBNELoadCBNEStore(&v, 5, &v2, 7, 6, i)
			return s, v - 5
		}},
		{"load_cbne_store_store", func(t *testing.T, x rseq.Index, i int) (rseq.Status, int64) {
			v, v2 := int64(5), int64(7)
			s := x.LoadCBNEStoreStore(&v, 5, &v2, 8, 6, i)
			return s, v - 5
		}},
		{"load_cbne_store_store_release", func(t *testing.T, x rseq.Index, i int) (rseq.Status, int64) {
			v, v2 := int64(5), int64(7)
			s := x.LoadCBNEStoreStoreRelease(&v, 5, &v2, 8, 6, i)
			return s, v - 5
		}},
		{"load_cbne_memcpy_store", func(t *testing.T, x rseq.Index, i int) (rseq.Status, int64) {
			v, src, dst := int64(5), newBig(3), big{}
			s := x.LoadCBNEMemcpyStore(&v, 5, unsafe.Pointer(&dst), unsafe.Pointer(&src), bigSize, 6, i)
			return s, v - 5
		}},
		{"load_cbne_memcpy_store_release", func(t *testing.T, x rseq.Index, i int) (rseq.Status, int64) {
			v, src, dst := int64(5), newBig(3), big{}
			s := x.LoadCBNEMemcpyStoreRelease(&v, 5, unsafe.Pointer(&dst), unsafe.Pointer(&src), bigSize, 6, i)
			return s, v - 5
		}},
	}
}

// TestNoAllocations: the caller's variables stay on the stack if an operation uses them.
func TestNoAllocations(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	data := newShares(t)
	cells := data.cells(0)
	if n := testing.AllocsPerRun(1000, func() {
		var v, v2 int64
		i, _ := rseq.CPU()
		cells.Add(1)
		rseq.ByCPU.LoadAddStore(&v, 1, i)
		rseq.ByCPU.LoadCBNEStore(&v, 1, 0, i)
		rseq.ByCPU.LoadCBEQStoreAddLoadStore(&v, 0, uintptr(unsafe.Pointer(&v2))-1, i) // v is 0 or 1
		rseq.ByCPU.LoadCBNELoadCBNEStore(&v, 0, &v2, 0, 0, i)
		rseq.ByCPU.LoadCBNEStoreStore(&v, 0, &v2, 0, 0, i)
		rseq.ByCPU.LoadCBNEMemcpyStore(&v, 0, unsafe.Pointer(&v2), unsafe.Pointer(data.at(0, 1)), 8, 0, i)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
