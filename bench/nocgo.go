package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// withoutCgo are the contenders that are compared in a build without cgo.
var withoutCgo = []string{"percpu.Counter", "percpu.Counters", "percpu.FloatCounter", "atomic.Int64", "xsync.Counter", "crsync.Counter", "prometheus.Counter", "mutex, int64", "empty call",
	"percpu.Histogram", "prometheus.Histogram", "percpu.FreeList", "mutex, slice", "percpu.Pool", "sync.Pool", "rseq.CPU", "getcpu(2)"}

// source is this program's folder, from the repository's root.
var source = "bench"

// measureWithoutCgo builds this program with CGO_ENABLED=0, from the repository's root, and
// has it measure. It returns nil if -only names none of what is compared then.
func measureWithoutCgo(ctx context.Context, o options, progress io.Writer) (*report, error) {
	args := []string{"-json", "-rounds", fmt.Sprint(o.rounds)}
	if o.only != nil {
		if !matchesSome(o) {
			return nil, nil
		}
		args = append(args, "-only", o.only.String())
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "bench")
	fmt.Fprintln(progress, "bench: building it without cgo")
	build := exec.CommandContext(ctx, "go", "-C", source, "build", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building it without cgo, from the repository's root: %w\n%s", err, out)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	var stdout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, progress
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, errInterrupted
		}
		return nil, fmt.Errorf("without cgo: %w", err)
	}
	r := new(report)
	if err := json.Unmarshal(stdout.Bytes(), r); err != nil {
		return nil, fmt.Errorf("without cgo: its report: %w", err)
	}
	return r, nil
}

func matchesSome(o options) bool {
	for _, name := range withoutCgo {
		if o.only.MatchString(name) {
			return true
		}
	}
	return false
}
