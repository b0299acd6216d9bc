package prom

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/rseq-go/rseq/percpu"
	"google.golang.org/protobuf/proto"
)

// Counter is a [prometheus.Counter]. Make one by [NewCounter].
type Counter struct {
	series
	whole percpu.UintCounter  // what was added in whole numbers
	part  percpu.FloatCounter // and in fractions
}

// NewCounter returns a counter of zero. What is wrong with its name or its labels is an error
// when it is registered, as with prometheus.NewCounter.
func NewCounter(opts prometheus.CounterOpts) *Counter {
	return newCounter(newDesc(prometheus.Opts(opts), nil), nil)
}

func newCounter(desc *prometheus.Desc, values []string) *Counter {
	return &Counter{series: newSeries(desc, values)}
}

// Inc adds 1.
func (c *Counter) Inc() { c.whole.Inc() }

// Add adds v. It panics if v is negative.
func (c *Counter) Add(v float64) {
	if v < 0 {
		panic(errors.New("counter cannot decrease in value"))
	}
	if whole := uint64(v); v < 1<<63 && float64(whole) == v {
		c.whole.Add(whole)
		return
	}
	c.part.Add(v)
}

// Collect sends the counter.
func (c *Counter) Collect(ch chan<- prometheus.Metric) { ch <- c }

// Write writes the counter as it is now.
func (c *Counter) Write(out *dto.Metric) error {
	out.Label = c.labels
	out.Counter = &dto.Counter{
		Value:            proto.Float64(c.part.Value() + float64(c.whole.Value())),
		CreatedTimestamp: c.created,
	}
	return nil
}

// CounterVec is a vector of counters, as prometheus.CounterVec. Make one by [NewCounterVec].
type CounterVec = Vec[*Counter]

// NewCounterVec returns a vector of counters that are told apart by the values of these labels.
func NewCounterVec(opts prometheus.CounterOpts, labels []string) *CounterVec {
	return newVec(newDesc(prometheus.Opts(opts), labels), labels, newCounter)
}
