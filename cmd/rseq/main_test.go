//go:build linux

package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rseq-go/rseq"
)

// TestMain lets this test binary be the rseq command under that name.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"rseq": main, "affinities": affinities})
}

func TestScripts(t *testing.T) {
	info, _ := rseq.Query()
	sections := rseq.CriticalSections(rseq.ByCPU)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("GLIBC_TUNABLES", os.Getenv("GLIBC_TUNABLES"))
			return nil
		},
		// [libc], [none] and so on: the owner where the test runs; [refused]: there is
		// one, and critical sections may not run.
		Condition: func(cond string) (bool, error) {
			if cond == "refused" {
				return info.Owner != rseq.OwnerNone && sections != nil, nil
			}
			return cond == info.Owner.String(), nil
		},
	})
}
