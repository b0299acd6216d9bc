package testutil

import (
	"flag"
	"testing"
	"time"
)

// TestPatience: the time limit of a program follows from the time limit of the tests.
func TestPatience(t *testing.T) {
	limit := flag.Lookup("test.timeout").Value
	defer flag.Set("test.timeout", limit.String())
	defer func(was time.Time) { started = was }(started)
	for _, c := range []struct {
		limit, since string
		least, most  time.Duration
	}{
		{"0s", "5h", time.Hour, time.Hour},
		{"2h", "0s", 50 * time.Minute, time.Hour},
		{"2h", "1h", 20 * time.Minute, 30 * time.Minute},
		{"2h", "119m", 2 * time.Minute, 2 * time.Minute},
	} {
		since, _ := time.ParseDuration(c.since)
		started = time.Now().Add(-since)
		if err := flag.Set("test.timeout", c.limit); err != nil {
			t.Fatal(err)
		}
		if got := Patience(); got < c.least || got > c.most {
			t.Errorf("%s after the start of %s: %v, want %v to %v", c.since, c.limit, got, c.least, c.most)
		}
	}
}
