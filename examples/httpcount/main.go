// Program httpcount counts the requests of an HTTP server by status code, without
// an atomic instruction, and exports the counts for Prometheus.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rseq-go/rseq/prom"
)

// The statuses that have a counter of their own, if net/http knows them by name.
const lowest, highest = 100, 599

// requests are counts of requests by status code.
type requests struct {
	all *prom.CounterVec // http_requests_total
	// by has the counter of each status from lowest to highest. To look one up in all would
	// take longer.
	by    [highest - lowest + 1]*prom.Counter
	other *prom.Counter // code="other", so that the sum counts every request
}

func newRequests() *requests {
	r := &requests{all: prom.NewCounterVec(prometheus.CounterOpts{
		Name: "http_requests_total",
		Help: "Requests by status code.",
	}, []string{"code"})}
	r.other = r.all.WithLabelValues("other")
	for i := range r.by {
		r.by[i] = r.other
		if status := lowest + i; http.StatusText(status) != "" {
			r.by[i] = r.all.WithLabelValues(strconv.Itoa(status))
		}
	}
	return r
}

// counter returns what counts responses with a status.
func (r *requests) counter(status int) *prom.Counter {
	if status < lowest || status > highest {
		return r.other
	}
	return r.by[status-lowest]
}

// wrap returns h, each of whose requests is counted when it ends: by the status that
// h wrote, or 200 if it returned without; as another if it panicked without.
func (r *requests) wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		seen := recorder{ResponseWriter: w}
		defer func() { r.counter(seen.status).Inc() }()
		h.ServeHTTP(&seen, req)
		if seen.status == 0 {
			seen.status = http.StatusOK
		}
	})
}

// recorder remembers the status of a response. A handler reaches what else w can do by
// http.NewResponseController.
type recorder struct {
	http.ResponseWriter
	status int // 0: none was written
}

func (w *recorder) WriteHeader(status int) {
	// Others below 200 are only announcements.
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// newHandler returns the server: /status/CODE answers with that status, and /metrics,
// which is not counted, with the counts.
func newHandler() http.Handler {
	app := http.NewServeMux()
	app.HandleFunc("GET /status/{code}", func(w http.ResponseWriter, req *http.Request) {
		status, err := strconv.Atoi(req.PathValue("code"))
		if err != nil || status < 200 || status > 999 {
			http.Error(w, "no such status: expected 200 to 999", http.StatusBadRequest)
			return
		}
		w.WriteHeader(status)
	})
	counts, registry := newRequests(), prometheus.NewRegistry()
	registry.MustRegister(counts.all)
	mux := http.NewServeMux()
	mux.Handle("/", counts.wrap(app))
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

func main() {
	listen := flag.String("listen", "localhost:8080", "`address` to serve at; port 0 takes a free one")
	flag.Parse()
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal("httpcount: ", err)
	}
	fmt.Printf("counts http://%s/status/200 and the like, shows http://%[1]s/metrics\n", l.Addr())
	log.Fatal("httpcount: ", http.Serve(l, newHandler()))
}
