//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/testutil"
)

// TestBuildModes builds programs in each way of linking and runs them.
func TestBuildModes(t *testing.T) {
	want := testutil.AskTruth(t)
	run := func(name, owner string, program func(t *testing.T) string) {
		t.Run(name, func(t *testing.T) {
			out := program(t)
			got := testutil.Decode[testutil.Show](t, out)
			t.Log("matrix:", strings.Join(strings.Fields(out), " "))
			want := want
			if owner == "none" {
				want = testutil.Truth{FeatureSize: got.KernelFeatureSize, Align: got.KernelAlign}
			}
			got.Agrees(t, want)
			if got.Owner != "none" && !got.Confirmed {
				t.Errorf("not confirmed: %+v", got)
			}
		})
	}
	command := func(env []string, args ...string) func(t *testing.T) string {
		return func(t *testing.T) string {
			program := testutil.GoBuild(t, "../cmd/rseq", env, args...)
			if env == nil && want.Owner != rseq.OwnerNone {
				testutil.Run(t, nil, program, "doctor")
			}
			stdout, _, _ := testutil.Try(nil, program, "show", "--json")
			return stdout
		}
	}
	run("default", "", command(nil))
	run("pie", "", command(nil, "-buildmode=pie"))
	run("static", "", command(nil, "-ldflags=-linkmode=external -extldflags=-static"))
	run("static-pie", "", command(nil, "-buildmode=pie", "-ldflags=-linkmode=external -extldflags=-static-pie"))
	run("race", "", command(nil, "-race"))
	run("no cgo", "none", command([]string{"CGO_ENABLED=0"}))
	run("plugin", "", func(t *testing.T) string {
		plugin := testutil.GoBuild(t, "./testdata/lib", nil, "-buildmode=plugin")
		host := testutil.GoBuild(t, "./testdata/pluginhost", nil)
		testutil.Run(t, []string{testutil.TunableOff}, host, plugin)
		return testutil.Run(t, nil, host, plugin)
	})
	run("c-archive", "", func(t *testing.T) string {
		archive := testutil.GoBuild(t, "./testdata/lib", nil, "-buildmode=c-archive")
		return testutil.Run(t, nil, testutil.CC(t, "-DLINKED", "testdata/host.c", "-xnone", archive, "-ldl", "-lpthread"))
	})
	run("c-shared", "", func(t *testing.T) string {
		library := testutil.GoBuild(t, "./testdata/lib", nil, "-buildmode=c-shared")
		return testutil.Run(t, nil, testutil.CC(t, "testdata/host.c", "-ldl", "-lpthread"), library)
	})
}

// TestCrossBuilds: the packages compile for targets without sections.
func TestCrossBuilds(t *testing.T) {
	testutil.NeedCompilers(t)
	for _, target := range []string{"darwin/arm64", "windows/amd64", "linux/loong64", "linux/riscv64", "linux/arm64", "linux/386", "android/arm64"} {
		os, arch, _ := strings.Cut(target, "/")
		testutil.Run(t, []string{"CGO_ENABLED=0", "GOOS=" + os, "GOARCH=" + arch}, "go", "build", "..", "../percpu", "../internal/...", "../cmd/...")
	}
	// Android satisfies the build tag linux. Its C library is not supported, so no C and no
	// assembly is built.
	const parts = "{{range .CgoFiles}}{{.}} {{end}}{{range .CFiles}}{{.}} {{end}}{{range .SFiles}}{{.}} {{end}}"
	for _, arch := range []string{"arm64", "amd64"} {
		out := testutil.Run(t, []string{"CGO_ENABLED=1", "GOOS=android", "GOARCH=" + arch, "CC=gcc"}, "go", "list", "-f", parts, "../...")
		if out = strings.TrimSpace(out); out != "" {
			t.Errorf("android/%s builds %s", arch, out)
		}
	}
}

// TestConstructorCallsGo: a C program loads a library whose constructor calls Go. If Go's
// initialization called dlsym, the two would wait for each other.
func TestConstructorCallsGo(t *testing.T) {
	library := testutil.GoBuild(t, "./testdata/ctor", nil, "-buildmode=c-shared")
	host := testutil.CC(t, "testdata/ctorhost.c", "-ldl")
	want := fmt.Sprintf("%d\n", testutil.AskTruth(t).Owner)
	start := time.Now()
	if got := testutil.Run(t, nil, host, library); got != want {
		t.Errorf("the constructor was told owner %q, want %q", got, want)
	}
	t.Log(time.Since(start))
}

// TestInternalLinking: forced internal linking is not supported, and fails at link time.
func TestInternalLinking(t *testing.T) {
	testutil.NeedCompilers(t)
	out := t.TempDir() + "/built"
	_, stderr, err := testutil.Try(nil, "go", "build", "-ldflags=-linkmode=internal", "-o", out, "../cmd/rseq")
	if err == nil {
		t.Fatal("the linker accepted it; see what the program does then")
	}
	t.Log(stderr)
	if _, e := os.Stat(out); e == nil {
		t.Error("the linker failed, and left a program")
	}
}
