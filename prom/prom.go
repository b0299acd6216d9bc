// Package prom has the counters, histograms and vectors of them that programs export to
// Prometheus, counted by package percpu: to count is to add to a word of the CPU, so those that
// count do not contend, nor do those that look up a label's counter in a vector.
//
// The functions and methods are those of package prometheus of client_golang, with the same
// options, so a program changes the package's name where it makes a metric. The metrics are
// collectors for any registry, and expose what client_golang's would. What they leave out:
// exemplars, native histograms, and labels with constraints.
//
// A scrape reads a word of each CPU, so it takes longer than one of client_golang's metrics,
// and a metric takes more memory; see package percpu. Where one goroutine alone counts, an
// atomic is as fast.
package prom

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// series is what a metric is known by.
type series struct {
	desc    *prometheus.Desc
	labels  []*dto.LabelPair
	created *timestamppb.Timestamp
}

func newSeries(desc *prometheus.Desc, values []string) series {
	return series{desc, prometheus.MakeLabelPairs(desc, values), timestamppb.New(time.Now())}
}

// newDesc returns the description of metrics with these labels.
func newDesc(o prometheus.Opts, labels []string) *prometheus.Desc {
	return prometheus.V2.NewDesc(prometheus.BuildFQName(o.Namespace, o.Subsystem, o.Name), o.Help,
		prometheus.UnconstrainedLabels(labels), o.ConstLabels, prometheus.WithUnit(o.Unit))
}

// Desc returns the description of the metric.
func (s *series) Desc() *prometheus.Desc { return s.desc }

// Describe sends the description of the metric.
func (s *series) Describe(ch chan<- *prometheus.Desc) { ch <- s.desc }
