//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/testutil"
)

// TestMain runs the rseq command if this test binary has that name.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"rseq": main, "affinities": affinities})
}

func TestScripts(t *testing.T) {
	info, _ := rseq.Query()
	sections := rseq.CriticalSections(rseq.ByCPU)
	sleep := start(t, "sleep", "100")
	asked := rseqCommand(t, "inspect", fmt.Sprint(sleep))
	asks := asked.stdout != ""
	if !asks {
		t.Log(asked.stderr)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("GLIBC_TUNABLES", os.Getenv("GLIBC_TUNABLES"))
			return nil
		},
		// [libc], [none] and so on: the owner in this process. [refused]: there is an owner,
		// but critical sections may not run. [asks]: inspect works here.
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "asks":
				return asks, nil
			case "refused":
				return info.Owner != rseq.OwnerNone && sections != nil, nil
			}
			return cond == info.Owner.String(), nil
		},
		// start VARIABLE [NAME=VALUE...] COMMAND...: starts a program, waits until it sleeps,
		// and sets the variable to its process id.
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": func(ts *testscript.TestScript, neg bool, args []string) {
				variable, env := args[0], os.Environ()
				for args = args[1:]; strings.Contains(args[0], "="); args = args[1:] {
					env = append(env, args[0])
				}
				cmd := exec.Command(args[0], args[1:]...)
				cmd.Env = env
				stop, err := startSleeper(cmd)
				ts.Defer(stop)
				ts.Check(err)
				ts.Setenv(variable, fmt.Sprint(cmd.Process.Pid))
			},
		},
	})
}

// TestShowStatic: the command without cgo prints the same as the one with cgo, but for the keys
// that need an area or a C library.
func TestShowStatic(t *testing.T) {
	static := testutil.GoBuild(t, ".", []string{"CGO_ENABLED=0"})
	var shown [2]map[string]any
	err := kernel.OnThread(func() error { // both inherit the CPU of this thread
		cpus, err := kernel.AllowedCPUs()
		if err == nil {
			err = kernel.Bind(0, cpus[len(cpus)-1])
		}
		for i, program := range []string{"rseq", static} {
			out, _, _ := testutil.Try(nil, program, "show", "--json")
			shown[i] = testutil.Decode[map[string]any](t, out)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// The keys from the area, the C library, the process or a measurement.
	other := []string{"pid", "owner", "via", "libc", "offset", "libc_size", "size", "registered_len", "align_required", "align_actual",
		"flags", "signature", "confirmation", "features", "mode", "critical_sections", "mm_cid", "slice_extension", "reason", "without_area"}
	same := []string{"schema", "kernel", "go", "arch", "kernel_feature_size", "kernel_align", "cpu", "node_id"}
	for _, key := range same {
		if a, b := shown[0][key], shown[1][key]; a != b || a == nil && !strings.HasPrefix(key, "kernel_") {
			t.Errorf("%s is %v, without cgo %v", key, a, b)
		}
	}
	for key := range shown[0] {
		if _, both := shown[1][key]; !both || !slices.Contains(append(same, other...), key) {
			t.Errorf("%s: expected in both, and in this test", key)
		}
	}
}
