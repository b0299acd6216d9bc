//go:build linux

package percpu

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/testutil"
)

// histogramOf makes a histogram as if there were so many indexes; without any it has no words.
func histogramOf(bounds []float64, x rseq.Index, cpus int) *Histogram {
	h := NewHistogram(bounds)
	if h.init(new(arena).get(x, cpus, bucketWords*(len(bounds)+1)), 0); h.made() {
		h.state.Store(open)
	}
	return h
}

func histograms(bounds []float64) map[string]*Histogram {
	return map[string]*Histogram{"sections": NewHistogram(bounds), "portable": histogramOf(bounds, rseq.ByCPU, 0),
		"compact": histogramOf(bounds, rseq.ByConcurrencyID, rseq.PossibleCPUs())}
}

func TestHistogram(t *testing.T) {
	many := make([]float64, 100)
	for i := range many {
		many[i] = float64(2 * i)
	}
	for _, c := range []struct {
		bounds, values []float64
		want           map[int]uint64 // what is not zero
	}{
		{nil, []float64{-5, 0, 5}, map[int]uint64{0: 3}},
		{[]float64{1, 2.5, 10}, []float64{-1e300, 1, 1.5, 2.5, 2.5000001, 10, 11, math.MaxFloat64, 0}, map[int]uint64{0: 3, 1: 2, 2: 2, 3: 2}},
		{[]float64{-math.MaxFloat64, 0, math.MaxFloat64}, []float64{-math.MaxFloat64, 5e-324, math.MaxFloat64}, map[int]uint64{0: 1, 2: 2}},
		{many, []float64{0, 1, 2, 99, 198, 199}, map[int]uint64{0: 1, 1: 2, 50: 1, 99: 1, 100: 1}},
	} {
		for name, h := range histograms(c.bounds) {
			sum := 0.0
			for round := range 3 { // the first one makes the words
				for _, v := range c.values {
					h.Observe(v)
					sum += v
				}
				s := h.Snapshot()
				n := 0
				for i, got := range s.Counts {
					n += int(got)
					if want := uint64(round+1) * c.want[i]; got != want {
						t.Errorf("%s: bounds %v: %d in bucket %d, want %d", name, c.bounds, got, i, want)
					}
				}
				if len(s.Counts) != len(c.bounds)+1 || !slices.Equal(s.Bounds, c.bounds) || int(s.Count) != n || n != (round+1)*len(c.values) {
					t.Errorf("%s: bounds %v: %+v", name, c.bounds, s)
				}
				if math.Abs(s.Sum-sum) > 1e-9*math.Abs(sum) {
					t.Errorf("%s: bounds %v: sum %v, want %v", name, c.bounds, s.Sum, sum)
				}
			}
		}
	}
	var zero Histogram
	zero.Observe(3)
	zero.Observe(-1)
	if s := zero.Snapshot(); s.Count != 2 || s.Sum != 2 || len(s.Counts) != 1 || s.Counts[0] != 2 {
		t.Errorf("%+v", s)
	}
}

// TestHistogramString: it is JSON, as expvar wants.
func TestHistogramString(t *testing.T) {
	h := NewHistogram([]float64{0.5, 2, 1e21})
	for _, v := range []float64{0.25, 1, 2, 3} {
		h.Observe(v)
	}
	if got, want := h.String(), `{"count":4,"sum":6.25,"buckets":{"0.5":1,"2":2,"1e+21":1,"+Inf":0}}`; got != want || !json.Valid([]byte(got)) {
		t.Errorf("%s, want %s", got, want)
	}
	h.Observe(math.MaxFloat64)
	h.Observe(math.MaxFloat64)
	if got := h.String(); !strings.Contains(got, `"sum":"+Inf"`) || !json.Valid([]byte(got)) {
		t.Error(got)
	}
}

// TestHistogramBadInput: it panics and says what was expected, and nothing has changed.
func TestHistogramBadInput(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for want, bounds := range map[string][]float64{
		"bound 1 is 1, and the one before is 2: expected each above the one before":  {2, 1},
		"bound 2 is 3, and the one before is 3: expected each above the one before":  {1, 3, 3},
		"bound 1 is 0, and the one before is -0: expected each above the one before": {math.Copysign(0, -1), 0},
		"bound 0 is NaN: expected a finite number":                                   {nan},
		"bound 1 is NaN: expected a finite number":                                   {1, nan, 2},
		"bound 1 is +Inf: expected a finite number":                                  {1, inf},
		"bound 0 is -Inf: expected a finite number":                                  {-inf, 1},
	} {
		if got := panicOf(func() { NewHistogram(bounds) }); !strings.HasPrefix(got, "percpu.NewHistogram: "+want) {
			t.Errorf("%v: %s", bounds, got)
		}
	}
	for name, h := range histograms([]float64{1}) {
		h.Observe(0.5)
		before := h.Snapshot()
		for _, v := range []float64{nan, inf, -inf} {
			if got := panicOf(func() { h.Observe(v) }); !strings.HasPrefix(got, "percpu.Histogram: Observe(") || !strings.HasSuffix(got, "): expected a finite number") {
				t.Errorf("%s: Observe(%v): %s", name, v, got)
			}
		}
		after := h.Snapshot()
		if after.Count != before.Count || after.Sum != before.Sum || !slices.Equal(after.Counts, before.Counts) {
			t.Errorf("%s: %+v before, %+v after", name, before, after)
		}
	}
	bounds := []float64{1, 2}
	h := NewHistogram(bounds)
	bounds[0] = 5
	h.Observe(3)
	if s := h.Snapshot(); s.Counts[2] != 1 || s.Bounds[0] != 1 {
		t.Errorf("the caller's slice is used: %+v", s)
	}
}

// history is what threads did to a histogram, for a check whether its snapshots are
// linearizable: whether there is one order of all that was done in which each snapshot has
// what was observed before it, and in which nothing comes before what ended before it began.
//
// A thread observes in two buckets in turn, a low one and a high one that are its own, and each
// time another value. So the count of a bucket says which observations a snapshot has, and what
// they add up to.
type history struct {
	clock     atomic.Int64
	observed  [][]interval // in each of the buckets, one after the other
	mu        sync.Mutex
	snapshots []taken
}

// interval is from when to when something was done, by the clock.
type interval struct{ begin, end int64 }

type taken struct {
	interval
	HistogramSnapshot
}

// historyStride is how many buckets of the histogram there are for one of the history: a
// snapshot takes a while.
const historyStride = 8

// historyValue is the value of observation number n in bucket k.
func historyValue(k, n int) float64 { return float64(historyStride*k) - float64(n%64)/128 }

func newHistory(threads, rounds int) *history {
	hs := &history{observed: make([][]interval, 2*threads)}
	for k := range hs.observed {
		hs.observed[k] = make([]interval, 0, (rounds+1)/2)
	}
	return hs
}

// bounds are those of the histogram.
func (hs *history) bounds() []float64 {
	list := make([]float64, historyStride*len(hs.observed))
	for i := range list {
		list[i] = float64(i)
	}
	return list
}

// observe has a thread observe, and enters that.
func (hs *history) observe(h *Histogram, thread, round int) {
	k := thread
	if round%2 == 1 {
		k = len(hs.observed) - 1 - thread
	}
	v := historyValue(k, len(hs.observed[k]))
	begin := hs.clock.Add(1)
	h.Observe(v)
	hs.observed[k] = append(hs.observed[k], interval{begin, hs.clock.Add(1)})
}

// snapshot takes a snapshot, and enters that.
func (hs *history) snapshot(h *Histogram) {
	begin := hs.clock.Add(1)
	s := h.Snapshot()
	end := hs.clock.Add(1)
	hs.mu.Lock()
	defer hs.mu.Unlock()
	hs.snapshots = append(hs.snapshots, taken{interval{begin, end}, s})
}

// check reports a snapshot that no order allows.
func (hs *history) check(fail func(format string, args ...any)) {
	for _, s := range hs.snapshots {
		count := uint64(0)
		sum := 0.0
		last, first := int64(math.MinInt64), int64(math.MaxInt64)
		for k, list := range hs.observed {
			n := int(s.Counts[historyStride*k])
			if n > len(list) {
				fail("%d observations in bucket %d, of %d", n, k, len(list))
				return
			}
			count += uint64(n)
			for i := range n {
				sum += historyValue(k, i)
			}
			if n > 0 {
				last = max(last, list[n-1].begin)
			}
			if n < len(list) {
				first = min(first, list[n].end)
			}
		}
		if s.Count != count {
			fail("count %d, and %d in the buckets %v", s.Count, count, s.Counts)
		}
		if s.Sum != sum {
			fail("the sum of %v is %v, want %v", s.Counts, s.Sum, sum)
		}
		switch {
		case last > s.end:
			fail("the snapshot of %v has what began at %d", s.interval, last)
		case first < s.begin:
			fail("the snapshot of %v lacks what ended at %d", s.interval, first)
		case first < last:
			fail("the snapshot of %v lacks what ended at %d, and has what began at %d", s.interval, first, last)
		}
	}
	// Each snapshot has what another one has, or the other way round, and a later one no less.
	slices.SortFunc(hs.snapshots, func(a, b taken) int {
		return cmp.Or(cmp.Compare(a.Count, b.Count), cmp.Compare(a.begin, b.begin))
	})
	latest := int64(math.MinInt64) // begin of those with a smaller count
	for i := 1; i < len(hs.snapshots); i++ {
		a, b := hs.snapshots[i-1], hs.snapshots[i]
		for k := range a.Counts {
			if a.Counts[k] > b.Counts[k] {
				fail("snapshots %v and %v: neither is before the other", a.Counts, b.Counts)
				return
			}
		}
		if a.Count < b.Count {
			latest = max(latest, a.begin)
		}
		if b.end < latest {
			fail("the snapshot of %v has more than a later one", b.interval)
		}
	}
}

// TestHistory: the check finds what it is to find.
func TestHistory(t *testing.T) {
	snapshot := func(begin, end int64, counts ...uint64) taken {
		s := taken{interval{begin, end}, HistogramSnapshot{Counts: make([]uint64, historyStride*len(counts))}}
		for k, n := range counts {
			s.Counts[historyStride*k] = n
			s.Count += n
			for i := range int(n) {
				s.Sum += historyValue(k, i)
			}
		}
		return s
	}
	half := snapshot(1, 9, 1, 1)
	half.Sum -= historyValue(1, 0)
	for name, c := range map[string]struct {
		observed  [][]interval
		snapshots []taken
		want      string
	}{
		"right":           {[][]interval{{{1, 4}}, {{2, 6}}}, []taken{snapshot(3, 5, 1, 0), snapshot(7, 8, 1, 1)}, ""},
		"early":           {[][]interval{{{1, 2}}, nil}, []taken{snapshot(3, 4, 0, 0)}, "lacks what ended at 2"},
		"late":            {[][]interval{{{5, 6}}, nil}, []taken{snapshot(3, 4, 1, 0)}, "has what began at 5"},
		"half":            {[][]interval{{{2, 3}}, {{4, 5}}}, []taken{half}, "the sum of"},
		"the second one":  {[][]interval{{{2, 3}}, {{4, 5}}}, []taken{snapshot(1, 6, 0, 1)}, "lacks what ended at 3, and has what began at 4"},
		"neither":         {[][]interval{{{1, 9}}, {{2, 8}}}, []taken{snapshot(3, 7, 1, 0), snapshot(4, 6, 0, 1)}, "neither is before the other"},
		"the other order": {[][]interval{{{1, 9}}, nil}, []taken{snapshot(2, 3, 1, 0), snapshot(4, 5, 0, 0)}, "has more than a later one"},
		"too many":        {[][]interval{{{1, 9}}, nil}, []taken{snapshot(2, 3, 2, 0)}, "2 observations in bucket 0"},
	} {
		got := ""
		hs := &history{observed: c.observed, snapshots: c.snapshots}
		hs.check(func(format string, args ...any) { got += fmt.Sprintf(format, args...) })
		if got != c.want && (c.want == "" || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestStormHistogram: no observation is lost or half, and snapshots are linearizable.
func TestStormHistogram(t *testing.T) {
	storms(t, func(t *testing.T, x rseq.Index, cpus, threads, rounds int) (func(*testutil.Storm), func()) {
		rounds = min(rounds, 300) // the check is quadratic
		hs := newHistory(threads, rounds)
		h := histogramOf(hs.bounds(), x, cpus)
		var next atomic.Int64
		work := func(s *testutil.Storm) {
			k := int(next.Add(1) - 1)
			for round := range min(s.Rounds, rounds) {
				s.Pass()
				hs.observe(h, k, round)
				if round%32 == k%32 {
					hs.snapshot(h)
				}
			}
		}
		return work, func() {
			hs.snapshot(h)
			if n := h.Snapshot().Count; n != uint64(threads*rounds) {
				t.Errorf("%d observations, want %d", n, threads*rounds)
			}
			hs.check(t.Errorf)
			if len(hs.snapshots) < threads/32 {
				t.Errorf("%d snapshots", len(hs.snapshots))
			}
		}
	})
}

// TestLateStores: of two observations that become visible while the words are read, the snapshot
// has neither, the first, or both.
func TestLateStores(t *testing.T) {
	bounds := make([]float64, 1000)
	for i := range bounds {
		bounds[i] = float64(i)
	}
	h := histogramOf(bounds, rseq.ByCPU, 1)
	h.use(1)
	first, second := h.word(0, 0), h.word(0, bucketWords*len(bounds))
	for round := range testutil.Repeat(20_000) {
		var begun atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() { // as a processor whose stores waited
			for !begun.Load() {
				runtime.Gosched()
			}
			for i := round % 5000; i > 0; i-- {
			}
			atomic.AddInt64(first, 1)
			atomic.AddInt64(second, 1)
		})
		begun.Store(true)
		s := h.Snapshot()
		wg.Wait()
		if a, b := s.Counts[0], s.Counts[len(bounds)]; a < b {
			t.Fatalf("round %d: %d of the first and %d of the second", round, a, b)
		}
	}
}

// TestBucket: what is read of a bucket that changes belongs together.
func TestBucket(t *testing.T) {
	reads := testutil.Repeat(30_000_000)
	if testing.Short() || racing {
		reads /= 30
	}
	for _, procs := range []int{1, 2} { // one: the reader is interrupted anywhere, now and then
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
		var b bucket
		var stop atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			for n := uint64(1); !stop.Load(); n++ { // as a section does
				atomic.StoreUint64(&b.sums[n%2], math.Float64bits(float64(n)))
				atomic.StoreUint64(&b.count, n)
				for i := n % 64; i > 0 && !stop.Load(); i-- {
				}
			}
		})
		for range reads {
			if n, sum := b.read(); sum != float64(n) {
				t.Errorf("count %d and the sum of %v", n, sum)
				break
			}
		}
		stop.Store(true)
		wg.Wait()
	}
}

// TestSnapshotBegun: while a snapshot goes on observations lock shares, and no words are made.
func TestSnapshotBegun(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	onOneCPU(t, func() {
		for name, h := range map[string]*Histogram{
			"no words yet": NewHistogram(nil), "words": histogramOf(nil, rseq.ByCPU, rseq.PossibleCPUs()),
		} {
			had := h.made()
			if had {
				h.Observe(1)
				h.Observe(1)
			}
			// Shares that nobody observes in. A snapshot waits for the second one.
			n := rseq.PossibleCPUs()
			all := &shares[observations]{byCPU: make([]atomic.Pointer[padded[observations]], n+2)}
			first, second := new(padded[observations]), new(padded[observations])
			all.byCPU[n].Store(first)
			all.byCPU[n+1].Store(second)
			h.portable.p.Store(all)
			second.v.mu.Lock()
			begun := make(chan HistogramSnapshot)
			go func() { begun <- h.Snapshot() }()
			for first.v.mu.TryLock() {
				first.v.mu.Unlock()
				runtime.Gosched()
			}
			before := h.sum(0)
			h.Observe(1)
			if h.made() != had {
				t.Errorf("%s: made during a snapshot", name)
			}
			if after := h.sum(0); before != after {
				t.Errorf("%s: %d in the words, and %d after an observation during a snapshot", name, before, after)
			}
			second.v.mu.Unlock()
			s := <-begun
			h.Observe(1)
			if got := h.Snapshot().Count; s.Count > got || got-s.Count > 2 || !h.made() {
				t.Errorf("%s: %d in the snapshot, then %d", name, s.Count, got)
			}
		}
	})
}

// TestLockShares: a share that is made while others are locked is locked too.
func TestLockShares(t *testing.T) {
	h := NewHistogram(nil)
	all := &shares[observations]{byCPU: make([]atomic.Pointer[padded[observations]], 2)}
	first, second := new(padded[observations]), new(padded[observations])
	all.byCPU[1].Store(second)
	h.portable.p.Store(all)
	second.v.mu.Lock() // an observer has it
	locked := make(chan map[*observations]bool)
	go func() { locked <- h.lockShares() }()
	time.Sleep(5 * time.Millisecond) // it waits for the share by now; if not, that tells nothing
	all.byCPU[0].Store(first)
	second.v.mu.Unlock()
	if got := <-locked; len(got) != 2 || !got[&first.v] || !got[&second.v] || first.v.mu.TryLock() || second.v.mu.TryLock() {
		t.Errorf("%d of 2 shares are locked", len(got))
	}
}

// TestHistogramFast: observations are fast after the first one, and again after a snapshot.
func TestHistogramFast(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	onOneCPU(t, func() {
		h := NewHistogram([]float64{1})
		for range 10 {
			for range 100 {
				h.Observe(1)
			}
			h.Snapshot()
		}
		shares := uint64(0)
		for share := range h.portable.made() {
			for _, n := range share.counts {
				shares += n
			}
		}
		if shares > 10 {
			t.Errorf("%d of 1000 observations locked a share", shares)
		}
	})
}

// beside has threads observe while another one takes snapshots all the time, and checks.
func (hs *history) beside(t *testing.T, h *Histogram, threads, rounds int) {
	var ready, observers, snapshots sync.WaitGroup
	var stop atomic.Bool
	ready.Add(threads + 1)
	for k := range threads {
		observers.Go(func() {
			ready.Done()
			ready.Wait()
			for round := range rounds {
				hs.observe(h, k, round)
			}
		})
	}
	snapshots.Go(func() {
		ready.Done()
		for !stop.Load() {
			hs.snapshot(h)
			runtime.Gosched()
		}
	})
	observers.Wait()
	stop.Store(true)
	snapshots.Wait()
	hs.snapshot(h)
	if n := h.Snapshot().Count; n != uint64(threads*rounds) {
		t.Fatalf("%d observations, want %d", n, threads*rounds)
	}
	hs.check(t.Errorf)
}

// TestHistogramFirst: snapshots while the words are made.
func TestHistogramFirst(t *testing.T) {
	const threads, rounds = 3, 6
	for range testutil.Repeat(500) {
		hs := newHistory(threads, rounds)
		if hs.beside(t, NewHistogram(hs.bounds()), threads, rounds); t.Failed() {
			return
		}
	}
}

// TestHistogramSnapshots: they are linearizable while threads observe as fast as they can.
func TestHistogramSnapshots(t *testing.T) {
	const threads, rounds = 3, 2000
	for name, cpus := range map[string]int{"sections": rseq.PossibleCPUs(), "portable": 0} {
		t.Run(name, func(t *testing.T) {
			for range testutil.Repeat(30) {
				hs := newHistory(threads, rounds)
				if hs.beside(t, histogramOf(hs.bounds(), rseq.ByCPU, cpus), threads, rounds); t.Failed() {
					return
				}
			}
		})
	}
}

// TestHistogramMixed: threads with and without areas observe together, while the number of
// threads that may run changes.
func TestHistogramMixed(t *testing.T) {
	eachOption(t, func(t *testing.T, x rseq.Index, _ ...Option) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
		const threads, rounds = 8, 300
		hs := newHistory(threads, rounds)
		h := histogramOf(hs.bounds(), x, rseq.PossibleCPUs())
		var wg sync.WaitGroup
		for k := range threads {
			wg.Go(func() {
				runtime.LockOSThread() // and never unlocked
				if k%2 == 0 {
					testutil.Unregister(t)
				}
				for round := range rounds {
					hs.observe(h, k, round)
					if round%32 == 0 {
						hs.snapshot(h)
						runtime.GOMAXPROCS(1 + (k+round/32)%threads)
					}
				}
			})
		}
		wg.Wait()
		hs.snapshot(h)
		if n := h.Snapshot().Count; n != threads*rounds {
			t.Errorf("%d observations, want %d", n, threads*rounds)
		}
		shares := uint64(0)
		for share := range h.portable.made() {
			for _, n := range share.counts {
				shares += n
			}
		}
		if shares < threads/2*rounds {
			t.Errorf("%d observed without sections, want at least %d", shares, threads/2*rounds)
		}
		hs.check(t.Errorf)
	})
}
