//go:build linux

package percpu

import (
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"math"
	"math/bits"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/testutil"
)

// What expvar publishes.
var _ = []expvar.Var{new(Counter), new(UintCounter), new(FloatCounter), new(Histogram)}

func TestCounter(t *testing.T) {
	for name, c := range map[string]*Counter{
		"sections": NewCounter(), "compact": NewCounter(Compact), "zero": new(Counter),
		"portable": &makeCounters(new(arena), 1, rseq.ByCPU, 0)[0],
	} {
		c.Add(5)
		c.Add(-7)
		if got := c.Value(); got != -2 || c.String() != "-2" {
			t.Errorf("%s: %d, %s, want -2", name, got, c)
		}
		c.Inc()
		if got := c.Value(); got != -1 {
			t.Errorf("%s: %d, want -1", name, got)
		}
		c.Dec()
		if got := c.Reset(); got != -2 || c.Value() != 0 {
			t.Errorf("%s: reset from %d to %d", name, got, c.Value())
		}
		c.Add(math.MaxInt64)
		c.Add(3)
		if got := c.Value(); got != math.MinInt64+2 {
			t.Errorf("%s: %d does not wrap around", name, got)
		}
		if c.Reset(); c.Value() != 0 {
			t.Errorf("%s: %d", name, c.Value())
		}
	}
}

func TestCounters(t *testing.T) {
	for _, n := range []int{0, 1, 7, 256, 257, 5000} {
		c := NewCounters(n)
		for range 2 {
			for i := range n {
				c.Add(i, int64(i+1))
			}
		}
		if c.Len() != n {
			t.Errorf("%d counters, want %d", c.Len(), n)
		}
		seen := 0
		for i, got := range c.All() {
			if got != int64(2*i+2) || i != seen {
				t.Fatalf("%d counters: number %d is %d: %d", n, seen, i, got)
			}
			seen++
		}
		for range c.All() {
			break
		}
		for _, dst := range [][]int64{nil, make([]int64, n/2), make([]int64, 2*n), make([]int64, 0, n+1)} {
			got := c.Values(dst)
			if seen != n || len(got) != n || cap(dst) >= n && n > 0 && &got[0] != &dst[:1][0] {
				t.Fatalf("%d counters: %d of them, %d values in %d", n, seen, len(got), cap(dst))
			}
			for i := range got {
				if got[i] != int64(2*i+2) {
					t.Fatalf("%d counters: %d is %d", n, i, got[i])
				}
			}
		}
		for i := range n {
			if c.At(i).Value() != int64(2*i+2) || c.At(i).Reset() != int64(2*i+2) || c.At(i).Value() != 0 {
				t.Fatalf("%d counters: %d is %d", n, i, c.At(i).Value())
			}
		}
		for _, bad := range []int{-1, n} {
			for _, f := range []func(){func() { c.Add(bad, 1) }, func() { c.At(bad) }} {
				if message := panicOf(f); !strings.Contains(message, "index out of range") {
					t.Errorf("%d of %d: %s", bad, n, message)
				}
			}
		}
	}
}

// TestReuse: words that a counter left behind serve the next, which begins at zero; those of
// one that is still used do not.
func TestReuse(t *testing.T) {
	index, cpus := indexes(nil)
	if cpus == 0 {
		t.Skip("no words: ", rseq.CriticalSections(index))
	}
	a := new(arena)
	used := &makeCounters(a, 3, index, cpus)[2]
	used.Add(5)
	was := map[*int64]bool{}
	reused := 0
	for range 200 {
		list := makeCounters(a, 3, index, cpus)
		if was[list[0].base] {
			reused++
		}
		was[list[0].base] = true
		for i := range list {
			if got := list[i].Value(); got != 0 {
				t.Fatalf("a new counter is %d", got)
			}
			list[i].Add(7)
			if got := list[i].Value(); got != 7 {
				t.Fatalf("it is %d, want 7", got)
			}
		}
		// The cleanups run in a goroutine of their own, some time after a collection.
		list = nil
		for left, begin := 0, time.Now(); left == 0 && time.Since(begin) < testutil.Patience(); {
			runtime.GC()
			runtime.Gosched()
			a.mu.Lock()
			left = len(a.free[4])
			a.mu.Unlock()
		}
	}
	if got := used.Value(); got != 5 {
		t.Errorf("a counter that is still used is %d, want 5", got)
	}
	t.Logf("%d of 200 times, %d places", reused, len(was))
	if reused < 199 { // all but the first
		t.Errorf("only %d of 200 counters use what others left", reused)
	}
}

// TestNoWords: counters whose words cannot be had, or would be more than there are
// addresses, count by atomics.
func TestNoWords(t *testing.T) {
	page := os.Getpagesize()
	for _, c := range []struct{ n, cpus int }{
		{1, math.MaxInt/page*2 + 3}, {300, math.MaxInt/page*2 + 3}, // some pages, if that overflows
		{1, math.MaxInt}, {300, math.MaxInt},
		{1, 1 << (bits.UintSize - 14)}, // no overflow, and no such memory where addresses have 64 bits
	} {
		list := makeCounters(new(arena), c.n, rseq.ByCPU, c.cpus)
		list[c.n-1].Add(5)
		words := list[0].made()
		if got := list[c.n-1].Value(); got != 5 || words && (bits.UintSize == 64 || c.cpus > math.MaxInt/page) {
			t.Errorf("%d counters, %d CPUs: %d, want 5; has words: %v", c.n, c.cpus, got, words)
		}
	}
	for _, n := range []int{math.MaxInt / 8, math.MaxInt} {
		for _, cpus := range []int{1, 2, 8192} {
			if s := new(arena).take(cpus, n); s.base != nil {
				t.Errorf("%d words for each of %d CPUs: at %p, %d bytes apart", n, cpus, s.base, s.stride)
			}
		}
	}
}

func TestUintCounter(t *testing.T) {
	var c UintCounter
	c.Add(math.MaxUint64)
	if got := c.Value(); got != math.MaxUint64 || c.String() != "18446744073709551615" {
		t.Errorf("%d, %s, want %d", got, &c, uint64(math.MaxUint64))
	}
	c.Inc()
	c.Add(3)
	if got := c.Reset(); got != 3 || c.Value() != 0 {
		t.Errorf("it does not wrap around: %d, and then %d", got, c.Value())
	}
}

// newFloatCounter makes a counter as if there were so many indexes.
func newFloatCounter(x rseq.Index, cpus int) *FloatCounter {
	c := new(FloatCounter)
	c.init(new(arena).get(x, cpus, 1), 0)
	return c
}

func TestFloatCounter(t *testing.T) {
	inf := math.Inf(1)
	for name, makeCounter := range map[string]func() *FloatCounter{
		"sections": func() *FloatCounter { return new(FloatCounter) },
		"compact":  func() *FloatCounter { return newFloatCounter(rseq.ByConcurrencyID, rseq.PossibleCPUs()) },
		"portable": func() *FloatCounter { return newFloatCounter(rseq.ByCPU, 0) },
	} {
		for _, c := range []struct {
			add  []float64
			want float64
			text string
		}{
			{nil, 0, "0"},
			{[]float64{0.1, 0.2}, 0.30000000000000004, "0.30000000000000004"},
			{[]float64{-1.5, 0.5}, -1, "-1"},
			{[]float64{math.MaxFloat64, math.MaxFloat64}, inf, `"+Inf"`},
			{[]float64{-inf, 1}, -inf, `"-Inf"`},
			{[]float64{inf, -inf, 1}, math.NaN(), `"NaN"`},
			{[]float64{1, math.NaN(), 1}, math.NaN(), `"NaN"`},
			{[]float64{5e-324, 5e-324}, 1e-323, "1e-323"},
		} {
			v := makeCounter()
			for _, add := range c.add {
				v.Add(add)
			}
			got := v.Value()
			if same := got == c.want || got != got && c.want != c.want; !same || v.String() != c.text || !json.Valid([]byte(v.String())) {
				t.Errorf("%s: %v is %v, %s, want %v, %s", name, c.add, got, v, c.want, c.text)
			}
		}
		v := makeCounter()
		v.Inc()
		if got := v.Value(); got != 1 {
			t.Errorf("%s: %v, want 1", name, got)
		}
	}
}

// TestZeroCounter: a counter takes the fast path after its first slow one, wherever it is: on
// the stack, in a struct, in a package-level variable. It keeps its words as long as it is there.
func TestZeroCounter(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	onOneCPU(t, func() {
		var onStack Counter
		inStruct := &struct {
			before [3]byte
			c      Counter
			after  FloatCounter
		}{}
		inSlice := make([]UintCounter, 3)
		fresh, later := uint64(5), uint64(0)
		if packageLevel.made() { // by an earlier run of this test
			fresh = 4
		}
		for n := range int64(100) {
			before := SlowPaths()
			onStack.Inc()
			inStruct.c.Inc()
			inStruct.after.Inc()
			inSlice[2].Inc()
			packageLevel.Inc()
			if slow := SlowPaths() - before; n == 0 && slow != fresh {
				t.Errorf("%d slow paths for the first Add of %d counters", slow, fresh)
			} else if n > 0 {
				later += slow
			}
			if n%10 == 0 {
				runtime.GC()
				growStack(100)
			}
			for i, got := range []int64{onStack.Value(), inStruct.c.Value(), int64(inStruct.after.Value()), int64(inSlice[2].Value()), packageLevel.Value()} {
				if got != n+1 {
					t.Fatalf("counter %d is %d, want %d", i, got, n+1)
				}
			}
		}
		if later > 10 {
			t.Errorf("%d slow paths later", later)
		}
		if shares := onStack.shares() + inStruct.c.shares(); shares > 4 {
			t.Errorf("%d of 200 counted without sections", shares)
		}
		packageLevel.Reset()
	})
}

var packageLevel Counter

//go:noinline
func growStack(depth int) byte {
	var some [1024]byte
	if depth > 0 {
		some[depth] = growStack(depth - 1)
	}
	return some[depth/2]
}

// TestZeroCounterReuse: the words of a zero counter that is gone serve another one.
func TestZeroCounterReuse(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	was := map[*int64]bool{}
	for begin := time.Now(); ; {
		c := new(struct{ Counter }) // in a struct
		c.Add(7)
		if got := c.Value(); got != 7 {
			t.Fatalf("a new counter is %d after 7", got)
		}
		if was[c.Counter.words.base] {
			return
		}
		was[c.Counter.words.base] = true
		runtime.GC()
		runtime.Gosched()
		if time.Since(begin) > testutil.Patience() {
			t.Fatalf("%d counters, and each has words that none had before", len(was))
		}
	}
}

// TestStormZeroCounters: nothing is lost while the words of counters are made: threads come to
// new counters all the time, some with sections and some without.
func TestStormZeroCounters(t *testing.T) {
	test := func(threads, rounds int) (work func(*testutil.Storm), check func()) {
		const each = 5
		ints, floats := make([]Counter, rounds/each+1), make([]FloatCounter, rounds/each+1)
		work = func(s *testutil.Storm) {
			for round := range s.Rounds {
				s.Pass()
				ints[round/each].Inc()
				floats[round/each].Inc()
			}
		}
		return work, func() {
			var sum, floatSum int64
			bases := map[*int64]bool{}
			for i := range ints {
				sum += ints[i].Value()
				floatSum += int64(floats[i].Value())
				for _, w := range []*words{&ints[i].words, &floats[i].words} {
					if w.made() && bases[w.base] {
						t.Error("two counters have the same words")
					}
					bases[w.base] = true
				}
			}
			if want := int64(threads * rounds); sum != want || floatSum != want {
				t.Errorf("%d and %d, want %d", sum, floatSum, want)
			}
		}
	}
	t.Run("sections", func(t *testing.T) {
		testutil.Storms(t, func(t *testing.T, x rseq.Index, threads, rounds int) (func(*testutil.Storm), func()) {
			return test(threads, rounds)
		})
	})
	t.Run("as it is", func(t *testing.T) { // with whatever there is here, sections or none
		threads, rounds := 4*runtime.NumCPU(), testutil.Repeat(2000)
		work, check := test(threads, rounds)
		var wg sync.WaitGroup
		for range threads {
			wg.Go(func() { work(&testutil.Storm{T: t, Rounds: rounds}) })
		}
		wg.Wait()
		check()
	})
}

// TestStormFloatCounter: every Add is added once.
func TestStormFloatCounter(t *testing.T) {
	storms(t, func(t *testing.T, x rseq.Index, cpus, threads, rounds int) (func(*testutil.Storm), func()) {
		c := newFloatCounter(x, cpus)
		work := func(s *testutil.Storm) {
			for range s.Rounds {
				s.Pass()
				c.Add(0.25)
				if v := c.Value(); v < 0 || v != math.Trunc(4*v)/4 {
					s.Errorf("%v is no sum of quarters", v)
				}
			}
		}
		return work, func() {
			if got, want := c.Value(), float64(threads*rounds)/4; got != want {
				t.Errorf("%v, want %v", got, want)
			}
		}
	})
}

// TestReset: each Add is in what one Reset returns, or left, while others reset too.
func TestReset(t *testing.T) {
	for name, c := range map[string]*Counter{"sections": new(Counter), "portable": &makeCounters(new(arena), 1, rseq.ByCPU, 0)[0]} {
		const threads = 4
		rounds := testutil.Repeat(30000)
		var sum atomic.Int64
		var wg sync.WaitGroup
		for range threads {
			wg.Go(func() {
				for range rounds {
					c.Inc()
					n := c.Reset()
					if n < 0 || n > threads {
						t.Errorf("%s: Reset returned %d", name, n)
						return
					}
					sum.Add(n)
				}
			})
		}
		wg.Wait()
		if got := sum.Load() + c.Value(); got != int64(threads*rounds) {
			t.Errorf("%s: %d, want %d", name, got, threads*rounds)
		}
	}
}

// TestValuesBesideReset: what is read while counters are reset was there at one moment.
func TestValuesBesideReset(t *testing.T) {
	for name, list := range map[string]*Counters{
		"sections": NewCounters(10), "portable": {list: makeCounters(new(arena), 10, rseq.ByCPU, 0)},
	} {
		// Each counter is 0 or 1, since one goroutine has it.
		rounds := testutil.Repeat(10000)
		var owners, reader sync.WaitGroup
		var stop atomic.Bool
		for i := range list.Len() {
			owners.Go(func() {
				for range rounds {
					list.Add(i, 1)
					if n := list.At(i).Reset(); n != 1 {
						t.Errorf("%s: Reset returned %d, want 1", name, n)
					}
				}
			})
		}
		reader.Go(func() {
			var dst []int64
			look := func(what string, i int, n int64) {
				if n < 0 || n > 1 {
					t.Errorf("%s: %s: counter %d is %d, want 0 or 1", name, what, i, n)
					stop.Store(true)
				}
			}
			for !stop.Load() {
				dst = list.Values(dst)
				for i, n := range dst {
					look("Values", i, n)
				}
				for i, n := range list.All() {
					look("All", i, n)
				}
				look("Value", 0, list.At(0).Value())
			}
		})
		owners.Wait()
		stop.Store(true)
		reader.Wait()
	}
}

// TestCopies: go vet reports copies of what must not be copied.
func TestCopies(t *testing.T) {
	testutil.NeedCompilers(t)
	const file = "testdata/copies/copies.go"
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command("go", "vet", "-copylocks", "./testdata/copies").CombinedOutput()
	for n, line := range strings.Split(string(source), "\n") {
		want := strings.HasSuffix(line, "// copied")
		if got := strings.Contains(string(out), fmt.Sprintf("copies.go:%d:", n+1)); got != want {
			t.Errorf("%s:%d: reported: %v, want %v\n%s", file, n+1, got, want, out)
		}
	}
}

// TestWordsOnce: a counter gets words once.
func TestWordsOnce(t *testing.T) {
	var w words
	if a, b := w.make(1), w.make(1); a != b {
		t.Error("words were made twice")
	}
}

// TestSlowPaths: Status says what CriticalSections says, and slow paths are counted only where
// sections run.
func TestSlowPaths(t *testing.T) {
	err := Status()
	t.Log(err)
	if errors.Is(err, rseq.ErrNotSupported) {
		var c Counter
		for range 100 {
			c.Inc()
		}
		if n := SlowPaths(); n != 0 {
			t.Errorf("%d operations left a fast path that there is none of", n)
		}
		return
	}
	testutil.NeedSections(t, rseq.ByCPU)
	if info, _ := rseq.Query(); info.Owner != rseq.OwnerLibc {
		t.Skipf("a thread of owner %v registers again", info.Owner)
	}
	testutil.OnThread(func() {
		testutil.Unregister(t)
		if Status() == nil {
			t.Error("sections run on a thread without an area")
		}
		var c Counter
		before := SlowPaths()
		for range 100 {
			c.Inc()
		}
		if n := SlowPaths() - before; n < 100 {
			t.Errorf("%d slow paths of 100 operations on a thread without an area", n)
		}
	})
}
