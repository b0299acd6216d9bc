//go:build linux && cgo && (amd64 || arm64)

package rseq_test

import (
	"debug/elf"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/testutil"
)

// truth is what testdata/truth.c, which shares no code with the package, says.
type truth struct {
	Symbols      bool
	Offset       int
	Size, Flags  uint32
	CPU          int
	SchedGetcpu  int `json:"sched_getcpu"`
	Node         int
	MMCID        int    `json:"mm_cid"`
	FeatureSize  uint32 `json:"feature_size"`
	Align        uint32
	registeredBy rseq.Owner
}

func askTruth(t *testing.T, env ...string) truth {
	t.Helper()
	said := testutil.Decode[truth](t, testutil.Run(t, env, testutil.CC(t, "testdata/truth.c", "-ldl")))
	switch {
	case said.Size > 0:
		said.registeredBy = rseq.OwnerLibc
	case testutil.WantOwner() != "none":
		said.registeredBy = rseq.OwnerSelf
	}
	return said
}

// show is what a program with this package inside prints about itself.
type show struct {
	Owner             string
	Via               string
	Libc              string
	Offset            int
	LibcSize          uint32 `json:"libc_size"`
	Size              uint32
	RegisteredLen     uint32 `json:"registered_len"`
	AlignRequired     uint32 `json:"align_required"`
	AlignActual       uint32 `json:"align_actual"`
	Flags             uint32
	Signature         uint32
	KernelFeatureSize uint32 `json:"kernel_feature_size"`
	KernelAlign       uint32 `json:"kernel_align"`
	Confirmed         bool
	Features          []string
	CriticalSections  bool `json:"critical_sections"`
	Mode              string
	CPU               *int
	NodeID            *int `json:"node_id"`
	MMCID             *int `json:"mm_cid"`
	Reason            string
}

func (s show) agrees(t *testing.T, want truth) {
	t.Helper()
	if s.Owner != want.registeredBy.String() {
		t.Errorf("owner %q, want %v (%s)", s.Owner, want.registeredBy, s.Reason)
	}
	if s.LibcSize != want.Size || s.Flags != want.Flags ||
		s.KernelFeatureSize != want.FeatureSize || s.KernelAlign != want.Align {
		t.Errorf("%+v disagrees with C: %+v", s, want)
	}
}

func TestQueryAgreesWithC(t *testing.T) {
	want := askTruth(t)
	info, err := rseq.Query()
	data, _ := json.Marshal(info)
	testutil.Decode[show](t, string(data)).agrees(t, want)
	t.Logf("matrix: %s", data)
	if want := testutil.WantOwner(); want != "" && want != info.Owner.String() {
		t.Fatalf("owner %v, want %s: %v", info.Owner, want, err)
	}
	if want.registeredBy == rseq.OwnerNone {
		if err == nil || info.Reason == "" {
			t.Errorf("no owner and no reason: %+v, %v", info, err)
		}
		return
	}
	if err != nil || info.Confirmed != rseq.Confirmed {
		t.Fatalf("%+v, %v", info, err)
	}
	// The offset is the same in every program only up to glibc 2.40, where the
	// area is in struct pthread; later it depends on the program's TLS.
	if info.Size >= 24 != (want.FeatureSize >= 24) || info.Offset == 0 || info.AlignActual < info.AlignRequired {
		t.Errorf("%+v disagrees with C: %+v", info, want)
	}
}

// TestDiscoveryElsewhere plays C libraries and kernels that are not here: the
// 20/32 rule of librseq's src/rseq.c.
func TestDiscoveryElsewhere(t *testing.T) {
	if testing.Short() {
		t.Skip("builds C programs; not with -short")
	}
	fake := testutil.CC(t, "testdata/fake.c", "fallback.c", "-ldl", "-lpthread")
	for _, c := range []struct {
		name                    string
		libcSize, feature, need int // what glibc and the kernel say; bytes usable
	}{
		{"no symbols, Linux 6.12", -1, 28, 0},
		{"tunable off", 0, 28, 0},
		{"2.35 on 5.10", 32, 0, 20},
		{"2.40 on 5.10", 20, 0, 20},
		{"2.35 on 6.12", 32, 28, 28},
		{"2.40 on 6.12", 20, 28, 28},
		{"2.35 on 7.2", 32, 33, 32},
		{"2.40 on 7.2", 20, 33, 32},
		{"2.41 on 5.10", 20, 0, 20},
		{"2.41 on 6.12", 28, 28, 28},
		{"2.41 on 7.2", 33, 33, 33},
		{"a later one", 64, 64, 64},
	} {
		got := testutil.Run(t, nil, fake, fmt.Sprint(c.libcSize), fmt.Sprint(c.feature), "64")
		owner, via := rseq.OwnerNone, 0
		if c.need > 0 {
			owner, via = rseq.OwnerLibc, 1 // RSEQGO_VIA_DLSYM
		}
		want := fmt.Sprintf("%d %d %d %d %d 64\n", owner, via, max(c.libcSize, 0), c.need, c.feature)
		if got != want {
			t.Errorf("%s: got %s, want %s", c.name, got, want)
		}
	}
}

// TestTunableOff: the C library registers nothing, so this package does.
func TestTunableOff(t *testing.T) {
	want := askTruth(t, tunableOff)
	command := testutil.GoBuild(t, "./cmd/rseq", nil)
	got := testutil.Decode[show](t, testutil.Run(t, []string{tunableOff}, command, "--json"))
	got.agrees(t, want)
	if got.Owner != "self" || !got.Confirmed || got.CPU == nil || got.NodeID == nil {
		t.Errorf("%+v", got)
	}
	testutil.Run(t, []string{tunableOff}, command, "doctor")
}

// TestBuildModes builds real programs in each way of linking and runs them.
func TestBuildModes(t *testing.T) {
	want := askTruth(t)
	run := func(name, owner string, program func(t *testing.T) string) {
		t.Run(name, func(t *testing.T) {
			out := program(t)
			got := testutil.Decode[show](t, out)
			t.Log("matrix:", strings.Join(strings.Fields(out), " "))
			want := want
			if owner == "none" {
				want = truth{FeatureSize: got.KernelFeatureSize, Align: got.KernelAlign}
			}
			got.agrees(t, want)
			if got.Owner != "none" && !got.Confirmed {
				t.Errorf("not confirmed: %+v", got)
			}
		})
	}
	command := func(env []string, args ...string) func(t *testing.T) string {
		return func(t *testing.T) string {
			program := testutil.GoBuild(t, "./cmd/rseq", env, args...)
			if env == nil && want.registeredBy != rseq.OwnerNone {
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
		return testutil.Run(t, nil, testutil.GoBuild(t, "./testdata/pluginhost", nil), plugin)
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

// TestCrossBuilds: everything compiles where there are only portable answers.
func TestCrossBuilds(t *testing.T) {
	testutil.NeedCompilers(t)
	for _, target := range []string{"darwin/arm64", "windows/amd64", "linux/riscv64", "linux/arm64", "linux/386"} {
		os, arch, _ := strings.Cut(target, "/")
		testutil.Run(t, []string{"CGO_ENABLED=0", "GOOS=" + os, "GOARCH=" + arch}, "go", "build", ".", "./internal/...", "./cmd/...")
	}
}

// TestConstructorCallsGo: a C program loads a library whose constructor calls
// Go. Were dlsym called from Go's init, the two would wait for each other.
func TestConstructorCallsGo(t *testing.T) {
	library := testutil.GoBuild(t, "./testdata/ctor", nil, "-buildmode=c-shared")
	host := testutil.CC(t, "testdata/ctorhost.c", "-ldl")
	want := fmt.Sprintf("%d\n", askTruth(t).registeredBy)
	start := time.Now()
	if got := testutil.Run(t, nil, host, library); got != want {
		t.Errorf("the constructor was told owner %q, want %q", got, want)
	}
	t.Log(time.Since(start))
}

// TestNeedsNoNewGlibc: no way of linking makes a program that older C libraries
// refuse for this package's sake.
func TestNeedsNoNewGlibc(t *testing.T) {
	testutil.NeedCompilers(t)
	if !onGlibc() {
		t.Skip("there is no glibc here to need")
	}
	linkers := []string{"bfd", "gold", "lld", "mold"}
	for _, mode := range []string{"exe", "pie"} {
		for _, linker := range linkers {
			if _, err := exec.LookPath("ld." + linker); err != nil {
				if linker == "bfd" {
					t.Fatal(err)
				}
				t.Logf("no ld.%s here", linker)
				continue
			}
			program := testutil.GoBuild(t, "./cmd/rseq", nil, "-buildmode="+mode,
				"-ldflags=-linkmode=external -extldflags=-fuse-ld="+linker)
			file, err := elf.Open(program)
			if err != nil {
				t.Fatal(err)
			}
			needs, err := file.DynamicVersionNeeds()
			file.Close()
			if err != nil && len(needs) == 0 {
				t.Fatal(err)
			}
			for _, lib := range needs {
				for _, v := range lib.Needs {
					if v.Dep == "GLIBC_2.35" {
						t.Errorf("%s, %s: needs %s of %s", mode, linker, v.Dep, lib.Name)
					}
				}
			}
			stdout, _, _ := testutil.Try(nil, program, "--json")
			testutil.Decode[show](t, stdout).agrees(t, askTruth(t))
		}
	}
}

// TestCUser builds C code of another package that includes glibc.h the way the
// documentation says, and compares its reading with Go's: also the fields that the
// struct of an older glibc's header does not have.
func TestCUser(t *testing.T) {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, glibc := range []string{abi.Layouts[0].Glibc, abi.Layouts[len(abi.Layouts)-1].Glibc} {
		flags := "-I" + dir + " -DABI_HEADER=<include/rseq-abi-glibc-" + glibc + ".h>"
		cUserAgrees(t, testutil.GoBuild(t, "./testdata/cuser", []string{"CGO_CFLAGS=" + flags}))
	}
	cUserAgrees(t, testutil.GoBuild(t, "./testdata/cuser", []string{"CGO_CFLAGS=-I" + dir}))
}

func cUserAgrees(t *testing.T, program string) {
	t.Helper()
	out := testutil.Run(t, nil, program)
	lines := 0
	for line := range strings.Lines(out) {
		var name string
		var a, b int
		if _, err := fmt.Sscan(line, &name, &a, &b); err != nil {
			t.Errorf("%q: %v", line, err)
		} else if a != b {
			t.Errorf("Go and C differ: %s", line)
		}
		lines++
	}
	if lines != 5 {
		t.Errorf("%d lines, want 5:\n%s", lines, out)
	}
}

// TestInternalLinking: forced internal linking is not supported; the user must
// see that at link time, not as wrong answers.
func TestInternalLinking(t *testing.T) {
	testutil.NeedCompilers(t)
	out := t.TempDir() + "/built"
	_, stderr, err := testutil.Try(nil, "go", "build", "-ldflags=-linkmode=internal", "-o", out, "./cmd/rseq")
	if err == nil {
		t.Fatal("the linker accepted it; see what the program does then")
	}
	t.Log(stderr)
	if _, e := os.Stat(out); e == nil {
		t.Error("a program was built all the same")
	}
}
