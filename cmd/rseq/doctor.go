package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/rseq-go/rseq/internal/kernel"
)

// check is one line of doctor: what was looked at, what was found, and, if that
// is not well, what to do.
type check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

// newCheck is a check that is well if problem is empty.
func newCheck(name, found, problem, advice string) check {
	if problem == "" {
		return check{Name: name, OK: true, Found: found}
	}
	return check{Name: name, Found: problem, Advice: advice}
}

func doctor(out io.Writer, asJSON bool) error {
	list := checks()
	failed := 0
	for _, c := range list {
		if !c.OK {
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
			verdict := "ok  "
			if !c.OK {
				verdict = "FAIL"
			}
			fmt.Fprintf(out, "%s  %s: %s\n", verdict, c.Name, c.Found)
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
