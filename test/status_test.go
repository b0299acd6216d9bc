//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package test

import (
	"bytes"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/testutil"
)

// TestStatus: an operation that is not disturbed returns the right status.
func TestStatus(t *testing.T) {
	for _, x := range []rseq.Index{rseq.ByCPU, rseq.ByConcurrencyID} {
		t.Run(x.String(), func(t *testing.T) {
			testutil.NeedSections(t, x)
			for _, op := range ops() {
				for _, i := range []int{-1, -1 << 63, rseq.PossibleCPUs(), 1 << 32, 1<<63 - 1} {
					if s, changed := op.run(t, x, i); s != rseq.OutOfRange || changed != 0 {
						t.Errorf("%s, index %d: %v, changed by %d", op.name, i, s, changed)
					}
				}
				retry(t, x, rseq.Done, func(i int) rseq.Status {
					s, changed := op.run(t, x, i)
					if (s == rseq.Done) != (changed != 0) {
						t.Errorf("%s: %v, changed by %d", op.name, s, changed)
					}
					return s
				})
			}
			// With an index that is not the thread's.
			testutil.OnThread(func() {
				cpus := testutil.AllowedCPUs(t)
				testutil.Pin(t, cpus[0])
				if err := rseq.CriticalSections(x); err != nil {
					t.Error(err)
				}
				for other := range rseq.PossibleCPUs() {
					if other == cpus[0] || x != rseq.ByCPU {
						continue
					}
					for _, op := range ops() {
						if s, changed := op.run(t, x, other); s != rseq.Raced || changed != 0 {
							t.Errorf("%s, index %d on CPU %d: %v, changed by %d", op.name, other, cpus[0], s, changed)
						}
					}
				}
			})
			// With a comparison that fails.
			v, v2, dst, src := int64(5), int64(7), int64(1), int64(2)
			for name, f := range map[string]func(i int) rseq.Status{
				"cbne_store":         func(i int) rseq.Status { return x.LoadCBNEStore(&v, 4, 6, i) },
				"cbeq":               func(i int) rseq.Status { _, s := x.LoadCBEQStoreAddLoadStore(&v, 5, 0, i); return s },
				"cbne_cbne, first":   func(i int) rseq.Status { return x.LoadCBNELoadCBNEStore(&v, 4, &v2, 7, 6, i) },
				"cbne_cbne, second":  func(i int) rseq.Status { return x.LoadCBNELoadCBNEStore(&v, 5, &v2, 8, 6, i) },
				"store_store":        func(i int) rseq.Status { return x.LoadCBNEStoreStore(&v, 4, &dst, 9, 6, i) },
				"store_store, rel":   func(i int) rseq.Status { return x.LoadCBNEStoreStoreRelease(&v, 4, &dst, 9, 6, i) },
				"memcpy_store":       func(i int) rseq.Status { return memcpy(x.LoadCBNEMemcpyStore, &v, 4, &dst, &src, i) },
				"memcpy_store, rel.": func(i int) rseq.Status { return memcpy(x.LoadCBNEMemcpyStoreRelease, &v, 4, &dst, &src, i) },
			} {
				retry(t, x, rseq.CompareFailed, f)
				if v != 5 || v2 != 7 || dst != 1 {
					t.Fatalf("%s changed something: %d %d %d", name, v, v2, dst)
				}
			}
			// Copies of every small length write no byte after the end.
			for n := range 40 {
				from, to := make([]byte, 48), make([]byte, 48)
				for i := range from {
					from[i] = byte(i + 1)
				}
				retry(t, x, rseq.Done, func(i int) rseq.Status {
					v = 5
					return x.LoadCBNEMemcpyStore(&v, 5, unsafe.Pointer(&to[0]), unsafe.Pointer(&from[0]), uintptr(n), 6, i)
				})
				if !bytes.Equal(from[:n], to[:n]) || !bytes.Equal(to[n:], make([]byte, 48-n)) {
					t.Errorf("%d bytes copied: %v", n, to)
				}
			}
		})
	}
}

// TestUnregistered: on an unregistered thread no operation takes effect, whatever the memory of its
// area has: mm_cid is 0 there, which is the id of a running thread too. What operations leave in
// that memory does not disturb a later registration.
func TestUnregistered(t *testing.T) {
	for _, x := range []rseq.Index{rseq.ByCPU, rseq.ByConcurrencyID} {
		t.Run(x.String(), func(t *testing.T) {
			testutil.NeedSections(t, x)
			if info, _ := rseq.Query(); info.Owner != rseq.OwnerLibc {
				t.Skipf("a thread of owner %v registers again", info.Owner)
			}
			// Every second thread is registered.
			const threads, rounds = 8, 20000
			data := newShares(t)
			cells := data.cells(0)
			adds := func(want rseq.Status) {
				for range rounds {
					s := add(x, cells, 1)
					for s == rseq.Raced {
						s = add(x, cells, 1)
					}
					if s != want {
						t.Errorf("add: %v, want %v", s, want)
						return
					}
				}
			}
			var wg sync.WaitGroup
			for n := range threads {
				wg.Go(func() {
					runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
					if n%2 == 0 {
						testutil.Unregister(t)
						for _, i := range []int{0, rseq.PossibleCPUs() - 1} {
							for _, op := range ops() {
								if s, changed := op.run(t, x, i); s != rseq.NotRegistered || changed != 0 {
									t.Errorf("%s, index %d: %v, changed by %d", op.name, i, s, changed)
								}
							}
						}
						adds(rseq.NotRegistered)
						// The thread's cpu_id is -1, that is 0xffffffff, which is no index either.
						tooMany := rseq.Cells{Base: cells.Base, N: 1 << 40}
						if s := add(x, &tooMany, 1); s != rseq.NotRegistered {
							t.Errorf("add to %d cells: %v", tooMany.N, s)
						}
						testutil.RegisterAgain(t)
					}
					adds(rseq.Done)
				})
			}
			wg.Wait()
			equal(t, "the cells", data.sum(0), threads*rounds)
		})
	}
}

func memcpy(op func(v *int64, expect int64, dst, src unsafe.Pointer, n uintptr, newv int64, i int) rseq.Status,
	v *int64, expect int64, dst, src *int64, i int) rseq.Status {
	return op(v, expect, unsafe.Pointer(dst), unsafe.Pointer(src), 8, 6, i)
}

// retry runs f with the thread's index until the status is not Raced.
func retry(t *testing.T, x rseq.Index, want rseq.Status, f func(i int) rseq.Status) {
	t.Helper()
	for {
		i, err := x.Current()
		if err != nil {
			t.Fatal(err)
		}
		if s := f(i); s == want {
			return
		} else if s != rseq.Raced {
			t.Fatalf("%v, want %v", s, want)
		}
	}
}

// TestBadPointer: a pointer to unmapped memory makes the caller panic, at its own line.
func TestBadPointer(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	i, _ := rseq.CPU()
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(page)
	forbidden := (*int64)(unsafe.Pointer(unsafe.SliceData(page)))
	var v, v2 int64
	for name, f := range map[string]func(bad *int64){
		"add":     func(bad *int64) { (*rseq.Cells)(unsafe.Pointer(bad)).Add(1) },
		"base":    func(bad *int64) { (&rseq.Cells{Base: bad, N: 1 << 20}).Add(1) },
		"store":   func(bad *int64) { rseq.ByCPU.LoadCBNEStore(bad, 0, 1, i) },
		"count":   func(bad *int64) { rseq.ByCPU.LoadAddStore(bad, 1, i) },
		"pop":     func(bad *int64) { rseq.ByCPU.LoadCBEQStoreAddLoadStore(bad, 1, 0, i) },
		"indir":   func(bad *int64) { rseq.ByCPU.LoadAddLoadLoadAddStore((*uintptr)(unsafe.Pointer(bad)), 0, 1, i) },
		"second":  func(bad *int64) { rseq.ByCPU.LoadCBNELoadCBNEStore(&v, 0, bad, 0, 1, i) },
		"store 2": func(bad *int64) { rseq.ByCPU.LoadCBNEStoreStore(&v, 0, bad, 0, 1, i) },
		"memcpy":  func(bad *int64) { memcpy(rseq.ByCPU.LoadCBNEMemcpyStore, &v, 0, bad, &v2, i) },
	} {
		for _, bad := range []*int64{nil, forbidden} {
			message, stack := panicOf(func() {
				for range 100 { // a call may return Raced first
					i, _ = rseq.CPU()
					f(bad)
				}
			})
			if !strings.Contains(message, "invalid memory address") || !strings.Contains(stack, "TestBadPointer") {
				t.Errorf("%s %p: panic %q\n%s", name, bad, message, stack)
			}
		}
		if v != 0 || v2 != 0 {
			t.Errorf("%s: something was stored: %d, %d", name, v, v2)
		}
	}
}

func panicOf(f func()) (message, stack string) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { message, stack = fmt.Sprint(recover()), string(debug.Stack()) }()
	f()
	return
}
