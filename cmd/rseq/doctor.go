package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/rseq-go/rseq/internal/kernel"
)

// verdict is what a check came to.
type verdict string

const (
	ok   verdict = "ok"
	warn verdict = "warn" // right, and somebody may stumble over it
	skip verdict = "skip" // not tried, or what was to be seen could not be made to happen
	fail verdict = "FAIL" // seen to be wrong
)

// check is one line of doctor: what was looked at, what was found, and, if that
// is not well, what to do.
type check struct {
	Name    string  `json:"name"`
	Verdict verdict `json:"verdict"`
	Found   string  `json:"found"`
	Advice  string  `json:"advice,omitempty"`
}

func doctor(out io.Writer, asJSON bool) error {
	list := checks()
	failed := 0
	for _, c := range list {
		if c.Verdict == fail {
			failed++
		}
	}
	if asJSON {
		if err := printJSON(out, struct {
			OK     bool    `json:"ok"`
			System string  `json:"system"`
			Checks []check `json:"checks"`
		}{failed == 0, system(), list}); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(out, system())
		for _, c := range list {
			fmt.Fprintf(out, "%-4s  %s: %s\n", c.Verdict, c.Name, c.Found)
			if c.Advice != "" {
				fmt.Fprintf(out, "      what to do: %s\n", c.Advice)
			}
		}
	}
	if failed > 0 {
		return errNo{fmt.Sprintf("%d of %d checks failed", failed, len(list))}
	}
	return nil
}

func system() string {
	s := fmt.Sprintf("%s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if release := kernel.Release(); release != "" {
		s += ", Linux " + release
	}
	return s
}
