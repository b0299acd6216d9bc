//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package rseq_test

import (
	"debug/elf"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/testutil"
)

func TestQueryAgreesWithC(t *testing.T) {
	want := testutil.AskTruth(t)
	info, err := rseq.Query()
	data, _ := json.Marshal(info)
	testutil.Decode[testutil.Show](t, string(data)).Agrees(t, want)
	t.Logf("matrix: %s", data)
	if want := testutil.WantOwner(); want != "" && want != info.Owner.String() {
		t.Fatalf("owner %v, want %s: %v", info.Owner, want, err)
	}
	if want.Owner == rseq.OwnerNone {
		if err == nil || info.Reason == "" {
			t.Errorf("no owner and no reason: %+v, %v", info, err)
		}
		return
	}
	if err != nil || info.Confirmed != rseq.Confirmed {
		t.Fatalf("%+v, %v", info, err)
	}
	// The offset is not compared: up to glibc 2.40 the area is in struct pthread, and the
	// offset is the same in every program. Later it depends on the program's TLS.
	if info.Size >= 24 != (want.FeatureSize >= 24) || info.Offset == 0 || info.AlignActual < info.AlignRequired {
		t.Errorf("%+v disagrees with C: %+v", info, want)
	}
}

// TestDiscoveryElsewhere simulates C libraries and kernels that this machine does not have: the
// 20/32 rule of librseq's src/rseq.c.
func TestDiscoveryElsewhere(t *testing.T) {
	if testing.Short() {
		t.Skip("builds C programs; not with -short")
	}
	fake := testutil.CC(t, append([]string{"test/testdata/fake.c"}, testutil.CPart(t, "ask.c", "glibc.c", "own.c", "owner.c")...)...)
	for _, c := range []struct {
		name                    string
		libcSize, feature, need int // of glibc and of the kernel; the bytes that are usable
	}{
		{"no symbols, Linux 6.12", -1, 28, 0},
		{"tunable off", 0, 28, 0},
		{"2.40 on riscv64", -2, 28, 0}, // symbols that it never sets
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

// TestOwnLength: an area of our own is registered with the kernel's feature size as its length, or
// with 32 bytes if there is no room for that length or alignment.
func TestOwnLength(t *testing.T) {
	testutil.NeedCompilers(t)
	truth := testutil.AskTruth(t, testutil.TunableOff)
	if truth.Owner != rseq.OwnerSelf || truth.FeatureSize == 0 {
		t.Skipf("registered by %v; before Linux 6.3 (here: AT_RSEQ_FEATURE_SIZE %d) there is one length",
			truth.Owner, truth.FeatureSize)
	}
	fake := testutil.CC(t, append([]string{"test/testdata/fake.c"}, testutil.CPart(t, "ask.c", "glibc.c", "own.c", "owner.c")...)...)
	for _, c := range []struct{ feature, align, length, size int }{
		{0, 0, 32, 20}, {28, 32, 32, 28}, {33, 64, 33, 33}, {56, 64, 56, 56},
		{57, 64, 32, 32}, {56, 128, 32, 32}, {512, 512, 32, 32},
	} {
		if c.length > 32 && c.length < int(truth.FeatureSize) {
			continue // this kernel requires more
		}
		got := testutil.Run(t, []string{testutil.TunableOff}, fake, "-1", fmt.Sprint(c.feature), fmt.Sprint(c.align), "register")
		if want := fmt.Sprintf("%d %d %d\n", rseq.OwnerSelf, c.length, c.size); got != want {
			t.Errorf("feature size %d, alignment %d: owner, length and size are %s, want %s", c.feature, c.align, got, want)
		}
	}
}

// TestTunableOff: the C library registers nothing, so this package does.
func TestTunableOff(t *testing.T) {
	want := testutil.AskTruth(t, testutil.TunableOff)
	command := testutil.GoBuild(t, "./cmd/rseq", nil)
	got := testutil.Decode[testutil.Show](t, testutil.Run(t, []string{testutil.TunableOff}, command, "--json"))
	got.Agrees(t, want)
	if got.Owner != "self" || !got.Confirmed || got.CPU == nil || got.NodeID == nil {
		t.Errorf("%+v", got)
	}
	testutil.Run(t, []string{testutil.TunableOff}, command, "doctor")
}

// TestReferences: what C code sees and needs that refers to glibc's symbols by name, for each
// linker and code model. A strong reference is right, and makes the program need GLIBC_2.35;
// in a program that is not position-independent it makes a copy. A weak one may be NULL. A
// hidden one beside a strong one does not link.
func TestReferences(t *testing.T) {
	testutil.NeedCompilers(t)
	if !testutil.AskTruth(t).Symbols {
		t.Skip("this C library has no __rseq_offset to refer to")
	}
	hidden := testutil.CC(t, "-c", "-fPIC", "-DHIDDEN", "test/testdata/reference.c")
	for _, linker := range linkers(t) {
		for _, model := range []string{"-fno-pie -no-pie", "-fPIE -pie", "-fPIC -no-pie"} {
			for _, kind := range []string{"", "-DWEAK"} {
				flags := append(strings.Fields(model+" "+kind), "-fuse-ld="+linker, "-Wno-address", "test/testdata/reference.c", "-ldl")
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
		_, why, err := testutil.Try(nil, "gcc", "-fuse-ld="+linker, "-o", filepath.Join(t.TempDir(), "both"), "test/testdata/reference.c", hidden, "-ldl")
		if t.Logf("%s, strong, and hidden elsewhere: %v %s", linker, err, why); err == nil && linker == "bfd" {
			t.Error("a hidden reference beside a strong one links")
		}
	}
}

// linkers returns the installed linkers.
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

// TestNeedsNoNewGlibc: no way of linking makes a program that needs glibc 2.35 because of this
// package.
func TestNeedsNoNewGlibc(t *testing.T) {
	testutil.NeedCompilers(t)
	if !testutil.OnGlibc() {
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
			testutil.Decode[testutil.Show](t, stdout).Agrees(t, testutil.AskTruth(t))
		}
	}
}

// TestCUser builds C code in another package, which includes glibc.h as documented, and compares
// what it reads with what Go reads, also by the header of an older glibc, whose struct has
// fewer fields.
func TestCUser(t *testing.T) {
	dir := testutil.Root(t)
	for _, glibc := range []string{abi.Layouts[0].Glibc, abi.Layouts[len(abi.Layouts)-1].Glibc} {
		flags := "-I" + dir + " -DABI_HEADER=<include/rseq-abi-glibc-" + glibc + ".h>"
		cUserAgrees(t, testutil.GoBuild(t, "./test/testdata/cuser", []string{"CGO_CFLAGS=" + flags}))
	}
	cUserAgrees(t, testutil.GoBuild(t, "./test/testdata/cuser", []string{"CGO_CFLAGS=-I" + dir}))
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
