package main

import (
	"bufio"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// scrape returns the series of http_requests_total that are not zero.
func scrape(t *testing.T, server *httptest.Server) map[string]int {
	t.Helper()
	response, err := server.Client().Get(server.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	counts := map[string]int{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		var n int
		line := strings.NewReplacer(`{code="`, " ", `"}`, "").Replace(lines.Text())
		var code string
		if _, err := fmt.Sscanf(line, "http_requests_total %s %d", &code, &n); err != nil {
			t.Fatalf("/metrics has the line %q: %v", lines.Text(), err)
		}
		if n != 0 {
			counts[code] = n
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return counts
}

func TestTotals(t *testing.T) {
	server := httptest.NewServer(newHandler())
	defer server.Close()
	server.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	server.Client().Transport.(*http.Transport).MaxIdleConnsPerHost = 8

	// By path: what is answered, and the series that counts it.
	paths := []struct {
		path   string
		status int
		code   string
	}{
		{"/status/200", 200, "200"}, {"/status/204", 204, "204"}, {"/status/302", 302, "302"},
		{"/status/418", 418, "418"}, {"/status/503", 503, "503"}, {"/status/599", 599, "other"},
		{"/status/777", 777, "other"}, {"/status/x", 400, "400"}, {"/nothing", 404, "404"},
	}
	const clients, rounds = 8, 50
	want := map[string]int{}
	for _, p := range paths {
		want[p.code] += clients * rounds
	}
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for range rounds {
				for _, p := range paths {
					response, err := server.Client().Get(server.URL + p.path)
					if err != nil {
						t.Error(err)
						return
					}
					response.Body.Close()
					if response.StatusCode != p.status {
						t.Errorf("%s was answered %d, expected %d", p.path, response.StatusCode, p.status)
					}
				}
			}
		})
	}
	all.Wait()
	if got := scrape(t, server); !maps.Equal(got, want) {
		t.Errorf("/metrics counted %v, expected %v", got, want)
	}
}

func TestRecorded(t *testing.T) {
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		code    string
	}{
		"nothing written":  {func(http.ResponseWriter, *http.Request) {}, "200"},
		"a body alone":     {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("x")) }, "200"},
		"the first counts": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); w.Write(nil) }, "404"},
		"an announcement":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(500) }, "500"},
		"a panic":          {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "other"},
	} {
		counts := newRequests()
		func() {
			defer func() { recover() }()
			counts.wrap(test.handler).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		}()
		want := "# HELP http_requests_total Requests by status code.\n# TYPE http_requests_total counter\n"
		for i := range counts.by {
			if text := http.StatusText(lowest + i); text != "" {
				want += fmt.Sprintf("http_requests_total{code=\"%d\"} %d\n", lowest+i, count(test.code == fmt.Sprint(lowest+i)))
			}
		}
		want += fmt.Sprintf("http_requests_total{code=\"other\"} %d\n", count(test.code == "other"))
		if err := testutil.CollectAndCompare(counts.all, strings.NewReader(want)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}
