// Package copies copies what must not be copied: go vet reports each line that says so.
package copies

import "github.com/rseq-go/rseq/percpu"

func copies(c *percpu.Counter, u *percpu.UintCounter, f *percpu.FloatCounter, v *percpu.Counters, h *percpu.Histogram, l *percpu.RWMutex) {
	a := *c // copied
	_ = &a
	b := *u // copied
	_ = &b
	d := *f // copied
	_ = &d
	e := *v // copied
	_ = &e
	g := *h // copied
	_ = &g
	i := *l // copied
	_ = &i
	s := struct{ percpu.Counter }{}
	t := s // copied
	_ = &t
}

var _ = copies
