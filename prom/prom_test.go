package prom

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
)

// exposed returns what a collector exposes, but for the moment at which a metric was made.
func exposed(t *testing.T, c prometheus.Collector) string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, family := range families {
		for _, m := range family.Metric {
			switch {
			case m.Counter.GetCreatedTimestamp() != nil:
				m.Counter.CreatedTimestamp = nil
			case m.Histogram.GetCreatedTimestamp() != nil:
				m.Histogram.CreatedTimestamp = nil
			default:
				t.Errorf("%v does not say when it was made", m)
			}
		}
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			t.Fatal(err)
		}
	}
	return text.String()
}

// same fails unless both collectors expose the same.
func same(t *testing.T, ours, theirs prometheus.Collector) {
	t.Helper()
	if got, want := exposed(t, ours), exposed(t, theirs); got != want {
		t.Errorf("ours:\n%stheirs:\n%s", got, want)
	}
}

func panicOf(f func()) (message string) {
	defer func() {
		if p := recover(); p != nil {
			message = fmt.Sprint(p)
		}
	}()
	f()
	return ""
}

var opts = prometheus.CounterOpts{
	Namespace: "prom", Subsystem: "test", Name: "things_total", Help: "Things.",
	ConstLabels: prometheus.Labels{"colour": "blue"},
}

func TestCounter(t *testing.T) {
	ours, theirs := NewCounter(opts), prometheus.NewCounter(opts)
	var _ prometheus.Counter = ours
	both := func(f func(prometheus.Counter)) { f(ours); f(theirs); same(t, ours, theirs) }
	both(func(prometheus.Counter) {})
	both(func(c prometheus.Counter) { c.Inc() })
	for _, v := range []float64{0, 5, 0.5, 1e15, 1e17, 1 << 62, 1 << 63, 1e300, math.Inf(1), math.NaN()} {
		both(func(c prometheus.Counter) { c.Add(v) })
	}
	ours, theirs = NewCounter(opts), prometheus.NewCounter(opts)
	both(func(c prometheus.Counter) {
		if message := panicOf(func() { c.Add(-1) }); message != "counter cannot decrease in value" {
			t.Error(message)
		}
	})
	if ours.Desc().String() != theirs.Desc().String() {
		t.Errorf("%v, want %v", ours.Desc(), theirs.Desc())
	}
	if problems, err := testutil.CollectAndLint(ours); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

// TestMany: what many goroutines count is in the metrics once.
func TestMany(t *testing.T) {
	const goroutines, rounds = 8, 10000
	c := NewCounter(opts)
	vec := NewCounterVec(opts, []string{"code", "method"})
	h := NewHistogramVec(prometheus.HistogramOpts{Name: "seconds", Buckets: []float64{1, 2}}, []string{"code"})
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range rounds {
				c.Inc()
				c.Add(0.5)
				vec.WithLabelValues(fmt.Sprint(i%3), "get").Inc()
				h.WithLabelValues("200").Observe(float64(i % 3))
				if g == 0 && i%1000 == 0 {
					vec.DeleteLabelValues("2", "get")
				}
			}
		})
	}
	wg.Wait()
	if got := testutil.ToFloat64(c); got != goroutines*rounds*1.5 {
		t.Errorf("%v, want %v", got, goroutines*rounds*1.5)
	}
	for i, want := range []float64{rounds/3 + 1, rounds / 3} {
		if got := testutil.ToFloat64(vec.WithLabelValues(fmt.Sprint(i), "get")); got != goroutines*want {
			t.Errorf("%d: %v, want %v", i, got, goroutines*want)
		}
	}
	text := exposed(t, h)
	for _, line := range []string{
		`seconds_bucket{code="200",le="1"} 53336`, `seconds_bucket{code="200",le="2"} 80000`,
		`seconds_bucket{code="200",le="+Inf"} 80000`, `seconds_sum{code="200"} 79992`, `seconds_count{code="200"} 80000`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("%s is not in\n%s", line, text)
		}
	}
}

// counters is what both kinds of vectors are, curried or not.
type counters interface {
	prometheus.Collector
	DeleteLabelValues(...string) bool
	Delete(prometheus.Labels) bool
	DeletePartialMatch(prometheus.Labels) int
	Reset()
}

// adapter tells apart what the vectors return.
type adapter struct {
	counters
	values func(...string) (prometheus.Counter, error)
	with   func(prometheus.Labels) (prometheus.Counter, error)
	must   func(...string)
	mustL  func(prometheus.Labels)
	curry  func(prometheus.Labels) (adapter, error)
}

func adaptOurs(v *CounterVec) adapter {
	return adapter{v,
		func(values ...string) (prometheus.Counter, error) {
			return orNil(v.GetMetricWithLabelValues(values...))
		},
		func(labels prometheus.Labels) (prometheus.Counter, error) { return orNil(v.GetMetricWith(labels)) },
		func(values ...string) { v.WithLabelValues(values...).Inc() },
		func(labels prometheus.Labels) { v.With(labels).Inc() },
		func(labels prometheus.Labels) (adapter, error) {
			with, err := v.CurryWith(labels)
			if err != nil {
				return adapter{}, err
			}
			return adaptOurs(with), nil
		},
	}
}

func orNil(c *Counter, err error) (prometheus.Counter, error) {
	if c == nil {
		return nil, err
	}
	return c, err
}

func adaptTheirs(v *prometheus.CounterVec) adapter {
	return adapter{v, v.GetMetricWithLabelValues, v.GetMetricWith,
		func(values ...string) { v.WithLabelValues(values...).Inc() },
		func(labels prometheus.Labels) { v.With(labels).Inc() },
		func(labels prometheus.Labels) (adapter, error) {
			with, err := v.CurryWith(labels)
			if err != nil {
				return adapter{}, err
			}
			return adaptTheirs(with), nil
		},
	}
}

// TestVec: a vector does what client_golang's does, with the same errors and panics, each thing
// twice, since the second time the metric is known.
func TestVec(t *testing.T) {
	labels := []string{"code", "method"}
	ours, theirs := adaptOurs(NewCounterVec(opts, labels)), adaptTheirs(prometheus.NewCounterVec(opts, labels))
	curryOurs, err := ours.curry(prometheus.Labels{"method": "get"})
	curryTheirs, err2 := theirs.curry(prometheus.Labels{"method": "get"})
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	allOurs, err := curryOurs.curry(prometheus.Labels{"code": "200"})
	allTheirs, err2 := curryTheirs.curry(prometheus.Labels{"code": "200"})
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	for name, f := range map[string]func(v, curried, all adapter) any{
		"values": func(v, _, _ adapter) any {
			v.must("200", "get")
			v.must("404", "get")
			v.must("200", "put")
			return nil
		},
		"labels": func(v, _, _ adapter) any { v.mustL(prometheus.Labels{"method": "get", "code": "200"}); return nil },
		"alike": func(v, _, _ adapter) any {
			v.must("20", "0get")
			v.must("2", "00get")
			v.must("200get", "")
			return nil
		},
		"two curried": func(v, c, _ adapter) any {
			put, err := v.curry(prometheus.Labels{"method": "put"})
			c.must("200")
			put.must("200")
			put.must("500")
			return err
		},
		"a value like two": func(v, _, _ adapter) any { c, err := v.values("200\xffget"); return fmt.Sprint(c, err) },
		"empty":            func(v, _, _ adapter) any { v.must("", ""); return nil },
		"like a key":       func(v, _, _ adapter) any { v.must("method", "get"); v.must("code", "200"); return nil },
		"curried": func(_, c, _ adapter) any {
			c.must("200")
			c.must("500")
			c.mustL(prometheus.Labels{"code": "404"})
			return nil
		},
		"all curried":       func(_, _, all adapter) any { all.must(); all.mustL(nil); return nil },
		"curried again":     func(_, c, _ adapter) any { _, err := c.curry(prometheus.Labels{"method": "put"}); return err },
		"curried by others": func(v, _, _ adapter) any { _, err := v.curry(prometheus.Labels{"no": "put"}); return err },
		"none":              func(v, _, _ adapter) any { return panicOf(func() { v.must() }) },
		"too few":           func(v, _, _ adapter) any { return panicOf(func() { v.must("200") }) },
		"too many":          func(v, _, _ adapter) any { return panicOf(func() { v.must("200", "get", "x") }) },
		"too many, curried": func(_, c, _ adapter) any { return panicOf(func() { c.must("200", "get") }) },
		"too few, an error": func(v, _, _ adapter) any { c, err := v.values("200"); return fmt.Sprint(c, err) },
		"not UTF-8":         func(v, _, _ adapter) any { return panicOf(func() { v.must("200\xffget", "") }) },
		"not UTF-8 either":  func(v, _, _ adapter) any { c, err := v.values("200\xff", "get"); return fmt.Sprint(c, err) },
		"other labels": func(v, _, _ adapter) any {
			return panicOf(func() { v.mustL(prometheus.Labels{"code": "200", "colour": "red"}) })
		},
		"more labels": func(v, _, _ adapter) any {
			c, err := v.with(prometheus.Labels{"code": "200", "method": "get", "x": "y"})
			return err != nil && c == nil
		},
		"fewer labels": func(v, _, _ adapter) any {
			c, err := v.with(prometheus.Labels{"code": "200"})
			return fmt.Sprint(c, err)
		},
		"deleted": func(v, c, _ adapter) any {
			v.must("200", "get")
			return fmt.Sprint(v.DeleteLabelValues("200", "get"), v.DeleteLabelValues("200", "get"), c.DeleteLabelValues("404"))
		},
		"deleted by labels": func(v, _, _ adapter) any { return v.Delete(prometheus.Labels{"code": "200", "method": "put"}) },
		"deleted by one label": func(v, _, _ adapter) any {
			v.must("x", "put")
			v.must("y", "put")
			return v.DeletePartialMatch(prometheus.Labels{"method": "put"})
		},
		"reset": func(v, _, _ adapter) any { v.Reset(); return nil },
	} {
		ours.Reset()
		theirs.Reset()
		for _, v := range []adapter{ours, theirs} { // so that all is there
			v.must("200", "get")
			v.must("404", "get")
			v.must("200", "put")
		}
		for range 2 {
			got, want := f(ours, curryOurs, allOurs), f(theirs, curryTheirs, allTheirs)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
			same(t, ours, theirs)
		}
	}
}

// TestVecMany: goroutines that ask for the same values get the same metric, also while others delete.
func TestVecMany(t *testing.T) {
	v := NewCounterVec(opts, []string{"code"})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 2000 {
				v.WithLabelValues(fmt.Sprint(i % 10)).Inc()
				if i%100 == 0 {
					v.Reset()
				}
			}
		})
	}
	wg.Wait()
	for i := range 10 {
		v.WithLabelValues(fmt.Sprint(i)).Inc()
	}
	for i := range 10 { // the vector exposes the one that counts
		before := v.WithLabelValues(fmt.Sprint(i))
		found, err := v.all.GetMetricWithLabelValues(fmt.Sprint(i))
		if err != nil || found != prometheus.Metric(before) {
			t.Errorf("%d: it counts in %p and exposes %p, %v", i, before, found, err)
		}
	}
}

func TestHistogram(t *testing.T) {
	for name, buckets := range map[string][]float64{
		"default": nil, "one": {1}, "infinite": {1, 2, math.Inf(1)}, "only infinite": {math.Inf(1)}, "negative": {-2, -1, 0, 3},
	} {
		o := prometheus.HistogramOpts{Name: "seconds", Help: "Seconds.", Buckets: buckets, ConstLabels: opts.ConstLabels}
		ours, theirs := NewHistogram(o), prometheus.NewHistogram(o)
		var _ prometheus.Histogram = ours
		same(t, ours, theirs)
		// Numbers whose sums are exact: the sum of what different CPUs add has another order.
		for _, v := range []float64{-5, -1, 0, 0.25, 1, 1.5, 2, 2.5, 1000, 1e300, math.Inf(-1), math.Inf(1), math.NaN()} {
			ours.Observe(v)
			theirs.Observe(v)
			if got, want := exposed(t, ours), exposed(t, theirs); got != want {
				t.Errorf("%s, after %v: ours:\n%stheirs:\n%s", name, v, got, want)
			}
		}
	}
}

func TestHistogramOptions(t *testing.T) {
	for want, o := range map[string]prometheus.HistogramOpts{
		"bound 1 is 1, and the one before is 2": {Name: "x", Buckets: []float64{2, 1}},
		"bound 1 is 2, and the one before is 2": {Name: "x", Buckets: []float64{2, 2}},
		"bound 0 is NaN":                        {Name: "x", Buckets: []float64{math.NaN()}},
		"there are no native histograms":        {Name: "x", NativeHistogramBucketFactor: 1.1},
		`a histogram with the label "le"`:       {Name: "x", ConstLabels: prometheus.Labels{"le": "1"}},
	} {
		if message := panicOf(func() { NewHistogram(o) }); !strings.Contains(message, want) {
			t.Errorf("%q, want %q", message, want)
		}
		if message := panicOf(func() { NewHistogramVec(o, []string{"code"}) }); !strings.Contains(message, want) {
			t.Errorf("a vector: %q, want %q", message, want)
		}
	}
	if message := panicOf(func() { NewHistogramVec(prometheus.HistogramOpts{Name: "x"}, []string{"le"}) }); !strings.Contains(message, `label "le"`) {
		t.Error(message)
	}
	// The caller's bounds stay the caller's.
	bounds := []float64{1, 2}
	v := NewHistogramVec(prometheus.HistogramOpts{Name: "x", Buckets: bounds}, nil)
	bounds[0] = 5
	if text := exposed(t, v); strings.Contains(text, `le="5"`) {
		t.Error(text)
	}
	// A name that cannot be is an error when it is registered, as with client_golang.
	if err := prometheus.NewRegistry().Register(NewCounter(prometheus.CounterOpts{Name: ""})); err == nil {
		t.Error("a counter without a name was registered")
	}
}

func TestNoAllocations(t *testing.T) {
	c := NewCounter(opts)
	v := NewCounterVec(opts, []string{"one", "two", "three"})
	h := NewHistogramVec(prometheus.HistogramOpts{Name: "seconds"}, []string{"one"})
	labels := prometheus.Labels{"one": "eins", "two": "zwei", "three": "drei"}
	run := func() {
		c.Inc()
		c.Add(0.5)
		v.WithLabelValues("eins", "zwei", "drei").Inc()
		v.With(labels).Inc()
		h.WithLabelValues("eins").Observe(3)
	}
	for range 1000 { // until each CPU has words
		run()
	}
	if n := testing.AllocsPerRun(1000, run); n > 0.1 {
		t.Errorf("%v allocations", n)
	}
}
