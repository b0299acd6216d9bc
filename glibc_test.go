//go:build linux && !android && cgo && !purego && (amd64 || arm64)

package rseq_test

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	Size, Flags  uint32
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
	rseq.Info
	Owner        string
	Confirmed    bool
	Confirmation string
	CPU          *int
	NodeID       *int
	MMCID        *int
}

func (s *show) UnmarshalJSON(data []byte) error {
	err := json.Unmarshal(data, &s.Info)
	s.Owner, s.Confirmed = s.Info.Owner.String(), s.Info.Confirmed == rseq.Confirmed
	s.Confirmation = s.Info.Confirmed.String()
	var now struct {
		CPU    *int
		NodeID *int `json:"node_id"`
		MMCID  *int `json:"mm_cid"`
	}
	err = errors.Join(err, json.Unmarshal(data, &now))
	s.CPU, s.NodeID, s.MMCID = now.CPU, now.NodeID, now.MMCID
	return err
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
	fake := testutil.CC(t, "testdata/fake.c", "-ldl", "-lpthread")
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

// TestOwnLength: an area of our own is registered by the length that the kernel
// advertises, or by 32 bytes where that or the alignment is more than there is room for.
func TestOwnLength(t *testing.T) {
	testutil.NeedCompilers(t)
	truth := askTruth(t, tunableOff)
	if truth.registeredBy != rseq.OwnerSelf || truth.FeatureSize == 0 {
		t.Skipf("registered by %v; before Linux 6.3 (here: AT_RSEQ_FEATURE_SIZE %d) there is one length",
			truth.registeredBy, truth.FeatureSize)
	}
	fake := testutil.CC(t, "testdata/fake.c", "-ldl", "-lpthread")
	for _, c := range []struct{ feature, align, length, size int }{
		{0, 0, 32, 20}, {28, 32, 32, 28}, {33, 64, 33, 33}, {56, 64, 56, 56},
		{57, 64, 32, 32}, {56, 128, 32, 32}, {512, 512, 32, 32},
	} {
		if c.length > 32 && c.length < int(truth.FeatureSize) {
			continue // this kernel wants more
		}
		got := testutil.Run(t, []string{tunableOff}, fake, "-1", fmt.Sprint(c.feature), fmt.Sprint(c.align), "register")
		if want := fmt.Sprintf("%d %d %d\n", rseq.OwnerSelf, c.length, c.size); got != want {
			t.Errorf("feature size %d, alignment %d: owner, length and size are %s, want %s", c.feature, c.align, got, want)
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
		host := testutil.GoBuild(t, "./testdata/pluginhost", nil)
		testutil.Run(t, []string{tunableOff}, host, plugin)
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

// TestCrossBuilds: everything compiles where there are only portable answers.
func TestCrossBuilds(t *testing.T) {
	testutil.NeedCompilers(t)
	for _, target := range []string{"darwin/arm64", "windows/amd64", "linux/riscv64", "linux/arm64", "linux/386", "android/arm64"} {
		os, arch, _ := strings.Cut(target, "/")
		testutil.Run(t, []string{"CGO_ENABLED=0", "GOOS=" + os, "GOARCH=" + arch}, "go", "build", ".", "./percpu", "./internal/...", "./cmd/...")
	}
	// Android satisfies the tag linux. Its C library is not known: nothing of C is built.
	const parts = "{{range .CgoFiles}}{{.}} {{end}}{{range .CFiles}}{{.}} {{end}}{{range .SFiles}}{{.}} {{end}}"
	for _, arch := range []string{"arm64", "amd64"} {
		out := testutil.Run(t, []string{"CGO_ENABLED=1", "GOOS=android", "GOARCH=" + arch, "CC=gcc"}, "go", "list", "-f", parts, "./...")
		if out = strings.TrimSpace(out); out != "" {
			t.Errorf("android/%s builds %s", arch, out)
		}
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

// TestReferences: what C code that refers to glibc's symbols by name sees, and needs, by
// linker and code model. A strong reference is right and needs GLIBC_2.35, in a program
// that is not position-independent by a copy. A weak one may be NULL for ever. A hidden
// one beside a strong one makes the link fail.
func TestReferences(t *testing.T) {
	testutil.NeedCompilers(t)
	if !askTruth(t).Symbols {
		t.Skip("this C library has no __rseq_offset to refer to")
	}
	hidden := testutil.CC(t, "-c", "-fPIC", "-DHIDDEN", "testdata/reference.c")
	for _, linker := range linkers(t) {
		for _, model := range []string{"-fno-pie -no-pie", "-fPIE -pie", "-fPIC -no-pie"} {
			for _, kind := range []string{"", "-DWEAK"} {
				flags := append(strings.Fields(model+" "+kind), "-fuse-ld="+linker, "-Wno-address", "testdata/reference.c", "-ldl")
				program := testutil.CC(t, flags...)
				seen, truth, _ := strings.Cut(testutil.Run(t, nil, program), "\n")
				truth = strings.TrimSpace(truth)
				needs := needsGlibc235(t, program)
				copies := strings.Contains(testutil.Run(t, nil, "readelf", "-rW", program), "_COPY")
				t.Logf("%s, %s %s: %s; copied: %v, needs GLIBC_2.35: %v", linker, model, kind, seen, copies, needs)
				switch {
				case seen != truth && (kind == "" || seen != "NULL"):
					t.Errorf("%s, %s %s: the program sees %s, there is %s", linker, model, kind, seen, truth)
				case kind == "" && !needs:
					t.Errorf("%s, %s: a strong reference does not need GLIBC_2.35", linker, model)
				case kind == "" && model == "-fno-pie -no-pie" && !copies:
					t.Errorf("%s, %s: a strong reference makes no copy", linker, model)
				}
			}
		}
		_, why, err := testutil.Try(nil, "gcc", "-fuse-ld="+linker, "-o", filepath.Join(t.TempDir(), "both"), "testdata/reference.c", hidden, "-ldl")
		if t.Logf("%s, strong, and hidden elsewhere: %v %s", linker, err, why); err == nil && linker == "bfd" {
			t.Error("a hidden reference beside a strong one links")
		}
	}
}

// linkers returns those that are here.
func linkers(t *testing.T) (here []string) {
	for _, linker := range []string{"bfd", "gold", "lld", "mold"} {
		if _, err := exec.LookPath("ld." + linker); err == nil {
			here = append(here, linker)
		} else if linker == "bfd" {
			t.Fatal(err)
		} else {
			t.Logf("no ld.%s here", linker)
		}
	}
	return here
}

func needsGlibc235(t *testing.T, program string) bool {
	t.Helper()
	file, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	needs, err := file.DynamicVersionNeeds()
	if err != nil && len(needs) == 0 {
		t.Fatal(err)
	}
	for _, lib := range needs {
		for _, v := range lib.Needs {
			if v.Dep == "GLIBC_2.35" {
				return true
			}
		}
	}
	return false
}

// TestNeedsNoNewGlibc: no way of linking makes a program that older C libraries
// refuse for this package's sake.
func TestNeedsNoNewGlibc(t *testing.T) {
	testutil.NeedCompilers(t)
	if !onGlibc() {
		t.Skip("there is no glibc here to need")
	}
	for _, mode := range []string{"exe", "pie"} {
		for _, linker := range linkers(t) {
			program := testutil.GoBuild(t, "./cmd/rseq", nil, "-buildmode="+mode,
				"-ldflags=-linkmode=external -extldflags=-fuse-ld="+linker)
			if needsGlibc235(t, program) {
				t.Errorf("%s, %s: needs GLIBC_2.35", mode, linker)
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
