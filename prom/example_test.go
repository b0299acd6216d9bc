package prom_test

import (
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"github.com/rseq-go/rseq/prom"
)

// The name of the package is all that is not as with client_golang.
func Example() {
	requests := prom.NewCounterVec(prometheus.CounterOpts{
		Name: "http_requests_total", Help: "Requests by status code.",
	}, []string{"code"})
	prometheus.MustRegister(requests)

	requests.WithLabelValues("200").Inc()
	requests.WithLabelValues("404").Add(2)
	text, err := testutil.CollectAndFormat(requests, expfmt.TypeTextPlain, "http_requests_total")
	fmt.Print(string(text))
	fmt.Println(err)
	// Output:
	// # HELP http_requests_total Requests by status code.
	// # TYPE http_requests_total counter
	// http_requests_total{code="200"} 1
	// http_requests_total{code="404"} 2
	// <nil>
}

func ExampleNewHistogram() {
	seconds := prom.NewHistogram(prometheus.HistogramOpts{
		Name: "request_seconds", Help: "How long requests take.", Buckets: []float64{0.1, 1, 10},
	})
	seconds.Observe(0.3)
	seconds.Observe(2)
	text, err := testutil.CollectAndFormat(seconds, expfmt.TypeTextPlain, "request_seconds")
	os.Stdout.Write(text)
	fmt.Println(err)
	// Output:
	// # HELP request_seconds How long requests take.
	// # TYPE request_seconds histogram
	// request_seconds_bucket{le="0.1"} 0
	// request_seconds_bucket{le="1"} 1
	// request_seconds_bucket{le="10"} 2
	// request_seconds_bucket{le="+Inf"} 2
	// request_seconds_sum 2.3
	// request_seconds_count 2
	// <nil>
}
