package prom

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/rseq-go/rseq/percpu"
	"google.golang.org/protobuf/proto"
)

// Histogram is a [prometheus.Histogram] with fixed buckets. Make one by [NewHistogram].
type Histogram struct {
	series
	finite *percpu.Histogram

	// What was observed that is not finite, which a percpu.Histogram does not take.
	mu        sync.Mutex
	low, high uint64  // how many: in the first bucket, and above the last bound
	sum       float64 // an infinity, or NaN
}

// NewHistogram returns an empty histogram. As prometheus.NewHistogram does, it panics if the
// buckets are not in increasing order or a label is named le, and takes
// [prometheus.DefBuckets] if there are none. It panics if a native histogram is asked for.
func NewHistogram(opts prometheus.HistogramOpts) *Histogram {
	return newHistogram(newHistogramDesc(opts, nil), buckets(opts), nil)
}

func newHistogram(desc *prometheus.Desc, buckets []float64, values []string) *Histogram {
	return &Histogram{series: newSeries(desc, values), finite: percpu.NewHistogram(buckets)}
}

func newHistogramDesc(opts prometheus.HistogramOpts, labels []string) *prometheus.Desc {
	if _, is := opts.ConstLabels["le"]; is || slices.Contains(labels, "le") {
		panic(`prom: a histogram with the label "le": expected none of that name, which its buckets have`)
	}
	return newDesc(prometheus.Opts{
		Namespace: opts.Namespace, Subsystem: opts.Subsystem, Name: opts.Name, Help: opts.Help,
		ConstLabels: opts.ConstLabels, Unit: opts.Unit,
	}, labels)
}

// buckets returns the upper bounds that opts ask for, without the infinite one.
func buckets(opts prometheus.HistogramOpts) []float64 {
	if opts.NativeHistogramBucketFactor > 1 {
		panic(fmt.Sprintf("prom: a histogram with NativeHistogramBucketFactor %v: expected buckets, there are no native histograms", opts.NativeHistogramBucketFactor))
	}
	bounds := opts.Buckets
	if len(bounds) == 0 {
		bounds = prometheus.DefBuckets
	}
	if last := len(bounds) - 1; math.IsInf(bounds[last], 1) {
		bounds = bounds[:last]
	}
	return bounds
}

// Observe counts v in its bucket and adds it to the sum.
func (h *Histogram) Observe(v float64) {
	if v-v != 0 {
		h.observeOdd(v)
		return
	}
	h.finite.Observe(v)
}

// observeOdd observes an infinity or NaN.
func (h *Histogram) observeOdd(v float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v < 0 {
		h.low++
	} else {
		h.high++
	}
	h.sum += v
}

// Collect sends the histogram.
func (h *Histogram) Collect(ch chan<- prometheus.Metric) { ch <- h }

// Write writes the histogram as of one moment.
func (h *Histogram) Write(out *dto.Metric) error {
	s := h.finite.Snapshot()
	h.mu.Lock()
	below, count, sum := h.low, h.low+h.high+s.Count, h.sum+s.Sum
	h.mu.Unlock()
	buckets := make([]*dto.Bucket, len(s.Bounds))
	for i, bound := range s.Bounds {
		below += s.Counts[i]
		buckets[i] = &dto.Bucket{CumulativeCount: proto.Uint64(below), UpperBound: proto.Float64(bound)}
	}
	out.Label = h.labels
	out.Histogram = &dto.Histogram{
		Bucket: buckets, SampleCount: proto.Uint64(count), SampleSum: proto.Float64(sum),
		CreatedTimestamp: h.created,
	}
	return nil
}

// HistogramVec is a vector of histograms, as prometheus.HistogramVec. Make one by
// [NewHistogramVec].
type HistogramVec = Vec[*Histogram]

// NewHistogramVec returns a vector of histograms that are told apart by the values of these
// labels. It panics where [NewHistogram] does.
func NewHistogramVec(opts prometheus.HistogramOpts, labels []string) *HistogramVec {
	bounds := slices.Clone(buckets(opts))
	percpu.NewHistogram(bounds) // so that bounds that cannot be panic here
	return newVec(newHistogramDesc(opts, labels), labels, func(desc *prometheus.Desc, values []string) *Histogram {
		return newHistogram(desc, bounds, values)
	})
}
