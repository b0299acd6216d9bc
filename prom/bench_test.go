package prom

import (
	"fmt"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// These are client_golang's own benchmarks (benchmark_test.go, histogram_test.go), of its
// metrics and of ours in turn.

func BenchmarkParallelCounter(b *testing.B) {
	for name, c := range map[string]prometheus.Counter{"prom": NewCounter(opts), "client_golang": prometheus.NewCounter(opts)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					c.Inc()
				}
			})
		})
	}
}

func BenchmarkCounterNoLabels(b *testing.B) {
	for name, c := range map[string]prometheus.Counter{"prom": NewCounter(opts), "client_golang": prometheus.NewCounter(opts)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.Inc()
			}
		})
	}
}

func BenchmarkCounterWithLabelValuesConcurrent(b *testing.B) {
	labels := []string{"one", "two", "three"}
	ours, theirs := NewCounterVec(opts, labels), prometheus.NewCounterVec(opts, labels)
	for name, inc := range map[string]func(){
		"prom":          func() { ours.WithLabelValues("eins", "zwei", "drei").Inc() },
		"client_golang": func() { theirs.WithLabelValues("eins", "zwei", "drei").Inc() },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					for range b.N / 10 {
						inc()
					}
				})
			}
			wg.Wait()
		})
	}
}

func BenchmarkHistogramObserve(b *testing.B) {
	for _, goroutines := range []int{1, 2, 4, 8} {
		for name, h := range map[string]prometheus.Histogram{
			"prom":          NewHistogram(prometheus.HistogramOpts{}),
			"client_golang": prometheus.NewHistogram(prometheus.HistogramOpts{}),
		} {
			b.Run(fmt.Sprint(goroutines, "/", name), func(b *testing.B) {
				var wg sync.WaitGroup
				for range goroutines {
					wg.Go(func() {
						for i := range b.N { // each of them, as there
							h.Observe(float64(i))
						}
					})
				}
				wg.Wait()
			})
		}
	}
}
