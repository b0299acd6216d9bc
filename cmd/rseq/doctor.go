package main

import (
	"fmt"
	"io"
	"os"
)

// verdict is the result of a check.
type verdict string

const (
	ok   verdict = "ok"
	warn verdict = "warn" // right, but another program may have a problem with it
	skip verdict = "skip" // not tried, or inconclusive
	fail verdict = "FAIL" // wrong
)

// check is a line of doctor: what was checked, what was found, and what to do if that is not
// right.
type check struct {
	Name    string  `json:"name"`
	Verdict verdict `json:"verdict"`
	Found   string  `json:"found"`
	Advice  string  `json:"advice,omitempty"` // what to do
}

func doctor(out io.Writer, o options, _ []string) error {
	p := newProgress(o.stderr)
	list := checks(o.stress, p)
	p.end()
	failed := 0
	for _, c := range list {
		if c.Verdict == fail {
			failed++
		}
	}
	if o.json {
		if err := printJSON(out, struct {
			header
			PID    int     `json:"pid"`
			OK     bool    `json:"ok"`
			Checks []check `json:"checks"`
		}{newHeader(), os.Getpid(), failed == 0, list}); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(out, system())
		for _, c := range list {
			fmt.Fprint(out, wrap(fmt.Sprintf("%-4s  ", c.Verdict), c.Name+": "+c.Found))
			if c.Advice != "" {
				fmt.Fprint(out, wrap("      ", "What to do: "+c.Advice+"."))
			}
		}
	}
	if failed > 0 {
		return errNo{fmt.Sprintf("%d of %d checks failed", failed, len(list))}
	}
	return nil
}
