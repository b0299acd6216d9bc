package prom

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rseq-go/rseq/percpu"
)

// Vec is a vector of metrics that are told apart by the values of labels, as
// prometheus.CounterVec and HistogramVec are: see [CounterVec] and [HistogramVec].
type Vec[M prometheus.Metric] struct {
	all    *prometheus.MetricVec
	labels []string // those that are not curried
	curry  string   // begins the keys of this vector
	known  *known[M]
}

// known has the metrics that were looked up, so that who looks them up again does not contend
// for the lock of a MetricVec. A vector and those that were curried from it share one.
type known[M prometheus.Metric] struct {
	mu    percpu.RWMutex
	byKey map[string]M // by the values of the labels
}

// end stands behind each part of a key. Values of labels are UTF-8, in which there is no such
// byte. The key of a curried vector has more parts: the name and the value of each label that
// is curried.
const end = "\xff"

func newVec[M prometheus.Metric](desc *prometheus.Desc, labels []string, newMetric func(*prometheus.Desc, []string) M) *Vec[M] {
	return &Vec[M]{
		all:    prometheus.NewMetricVec(desc, func(values ...string) prometheus.Metric { return newMetric(desc, values) }),
		labels: slices.Clone(labels),
		known:  &known[M]{byKey: map[string]M{}},
	}
}

// GetMetricWithLabelValues returns the metric with these values, which are in the order of the
// labels. It makes the metric if there is none. If they are not as many as the labels, or not
// UTF-8, that is an error.
func (v *Vec[M]) GetMetricWithLabelValues(values ...string) (M, error) {
	if len(values) == len(v.labels) {
		var room [128]byte
		key := append(room[:0], v.curry...)
		for _, value := range values {
			key = append(append(key, value...), end...)
		}
		v.known.mu.RLock()
		m, ok := v.known.byKey[string(key)]
		v.known.mu.RUnlock()
		if ok {
			return m, nil
		}
		return v.lookUp(string(key), slices.Clone(values))
	}
	return v.lookUp("", slices.Clone(values))
}

// lookUp looks a metric up where all are, and remembers it by its key.
func (v *Vec[M]) lookUp(key string, values []string) (m M, err error) {
	v.known.mu.Lock()
	defer v.known.mu.Unlock()
	found, err := v.all.GetMetricWithLabelValues(values...)
	if err != nil {
		return m, err
	}
	m = found.(M)
	v.known.byKey[key] = m
	return m, nil
}

// WithLabelValues is [Vec.GetMetricWithLabelValues] that panics where that is an error.
func (v *Vec[M]) WithLabelValues(values ...string) M {
	m, err := v.GetMetricWithLabelValues(values...)
	if err != nil {
		panic(err)
	}
	return m
}

// GetMetricWith returns the metric with these labels, and makes it if there is none. It is an
// error if they are not those of the vector.
func (v *Vec[M]) GetMetricWith(labels prometheus.Labels) (m M, err error) {
	var room [8]string
	values := room[:0]
	for _, name := range v.labels {
		if value, ok := labels[name]; ok {
			values = append(values, value)
		}
	}
	if len(values) == len(labels) && len(values) == len(v.labels) {
		return v.GetMetricWithLabelValues(values...)
	}
	found, err := v.all.GetMetricWith(labels)
	if err != nil {
		return m, err
	}
	return found.(M), nil
}

// With is [Vec.GetMetricWith] that panics where that is an error.
func (v *Vec[M]) With(labels prometheus.Labels) M {
	m, err := v.GetMetricWith(labels)
	if err != nil {
		panic(err)
	}
	return m
}

// CurryWith returns a vector of the same metrics that has the values of these labels already.
func (v *Vec[M]) CurryWith(labels prometheus.Labels) (*Vec[M], error) {
	all, err := v.all.CurryWith(labels)
	if err != nil {
		return nil, err
	}
	with := &Vec[M]{all: all, known: v.known, curry: v.curry}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		with.curry += name + end + labels[name] + end
	}
	for _, name := range v.labels {
		if _, is := labels[name]; !is {
			with.labels = append(with.labels, name)
		}
	}
	return with, nil
}

// MustCurryWith is [Vec.CurryWith] that panics where that is an error.
func (v *Vec[M]) MustCurryWith(labels prometheus.Labels) *Vec[M] {
	with, err := v.CurryWith(labels)
	if err != nil {
		panic(err)
	}
	return with
}

// DeleteLabelValues removes the metric with these values and reports whether there was one.
func (v *Vec[M]) DeleteLabelValues(values ...string) bool {
	defer v.forget()()
	return v.all.DeleteLabelValues(values...)
}

// Delete removes the metric with these labels and reports whether there was one.
func (v *Vec[M]) Delete(labels prometheus.Labels) bool {
	defer v.forget()()
	return v.all.Delete(labels)
}

// DeletePartialMatch removes the metrics that have these labels among theirs and returns how
// many there were.
func (v *Vec[M]) DeletePartialMatch(labels prometheus.Labels) int {
	defer v.forget()()
	return v.all.DeletePartialMatch(labels)
}

// Reset removes all metrics.
func (v *Vec[M]) Reset() {
	defer v.forget()()
	v.all.Reset()
}

// forget keeps others from looking metrics up until its result is called.
func (v *Vec[M]) forget() func() {
	v.known.mu.Lock()
	clear(v.known.byKey)
	return v.known.mu.Unlock
}

// Describe sends the description of the metrics.
func (v *Vec[M]) Describe(ch chan<- *prometheus.Desc) { v.all.Describe(ch) }

// Collect sends all metrics.
func (v *Vec[M]) Collect(ch chan<- prometheus.Metric) { v.all.Collect(ch) }
