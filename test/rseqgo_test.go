//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/testutil"
)

// headers returns the flags for programs that include rseqgo.h. The hash of the headers makes the
// go command compile again if one has changed: the build cache does not see headers in another
// package's folder.
func headers(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if testutil.Guest() {
		return "-I" + dir
	}
	all := sha256.New()
	for _, name := range []string{"abi.h", "glibc.h", "rseqgo.h"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(data)
	}
	return fmt.Sprintf("-O2 -I%s -DHEADERS=%x", dir, all.Sum(nil)[:8])
}

// TestCCounts: Go and C add to the same words at the same time, and no add is lost.
func TestCCounts(t *testing.T) {
	sections := rseq.CriticalSections(rseq.ByCPU)
	program := testutil.GoBuild(t, "./testdata/shared", []string{"CGO_CFLAGS=" + headers(t)})
	for name, env := range map[string][]string{"": nil, "own areas": {testutil.TunableOff}} {
		t.Run(name, func(t *testing.T) {
			out := testutil.Run(t, env, program)
			t.Log(out)
			counted := map[string]int{}
			for line := range strings.Lines(out) {
				var index, op string
				var sum, ofGo, ofC, raced int64
				if strings.Contains(line, " none ") {
					continue
				}
				if _, err := fmt.Sscanf(line, "%s %s sum %d Go %d C %d raced %d", &index, &op, &sum, &ofGo, &ofC, &raced); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				counted[index]++
				if sum != ofGo+ofC || ofGo == 0 || ofC == 0 {
					t.Errorf("%s, %s: the words have %d: expected %d of Go and %d of C", index, op, sum, ofGo, ofC)
				}
				if raced == 0 && op != "cells" {
					t.Errorf("%s, %s: no section of C's was interrupted", index, op)
				}
			}
			if sections == nil && counted["cpu_id"] != 9 {
				t.Errorf("%d operations by CPU: expected 9, as sections work here", counted["cpu_id"])
			}
			if _, err := rseq.ConcurrencyID(); sections == nil && err == nil && counted["mm_cid"] != 9 {
				t.Errorf("%d operations by concurrency id: expected 9", counted["mm_cid"])
			}
		})
	}
}

// TestCSections plays every way out of each section of rseqgo.h, with an interruption at
// each point, as the compiler makes it by default.
func TestCSections(t *testing.T) {
	played(t, true, testutil.CC(t, "testdata/points.c", "-pthread"))
}

// played runs program points: on the C library's area too if it is for this machine and
// sections are safe on that area.
func played(t *testing.T, here bool, command ...string) {
	t.Helper()
	want := "its own area\n"
	if info, _ := rseq.Query(); here && info.Owner == rseq.OwnerLibc && rseq.CriticalSections(rseq.ByCPU) == nil {
		want += "the C library's area\n"
	} else {
		command = append(command, "own")
	}
	out := testutil.Run(t, nil, command[0], command[1:]...)
	if out != want {
		t.Errorf("it says\n%s\nexpected\n%s", out, want)
	}
}

// TestCStandards: the same with each standard of C, as C++, with and without optimization, for
// other architectures, and linked statically. The descriptors in the linked programs are right.
func TestCStandards(t *testing.T) {
	testutil.NeedCompilers(t)
	cc := strings.Fields(testutil.Run(t, nil, "go", "env", "CC"))
	type compiler struct {
		command []string
		run     []string // what runs its programs, if not this machine
	}
	c := compiler{command: cc}
	cpp := compiler{command: append(strings.Fields(testutil.Run(t, nil, "go", "env", "CXX")), "-x", "c++")}
	arm := compiler{command: []string{"aarch64-linux-gnu-gcc", "-static"}, run: []string{"qemu-aarch64"}}
	riscv := compiler{command: []string{"riscv64-linux-gnu-gcc", "-static"}, run: []string{"qemu-riscv64"}}
	clang := compiler{command: []string{"clang"}}
	switch runtime.GOARCH {
	case "arm64":
		arm.run = nil
	case "riscv64":
		riscv.run = nil
	}
	for _, b := range []struct {
		compiler
		flags string
	}{
		{c, "-std=c99 -O0"}, {c, "-std=c11 -O1"}, {c, "-std=c17 -O3"}, {c, "-std=gnu17 -Os -fPIE -pie"},
		{c, "-O2 -flto -ffunction-sections -Wl,--gc-sections"}, {c, "-O2 -static"},
		{cpp, "-std=c++11 -O0"}, {cpp, "-std=c++17 -O2"},
		{arm, "-std=c99 -O0"}, {arm, "-std=c17 -O2"}, {arm, "-std=gnu17 -O3"},
		{riscv, "-std=c99 -O0"}, {riscv, "-std=c17 -O2"}, {riscv, "-std=gnu17 -O3"},
		{clang, "-std=c99 -O0"}, {clang, "-std=c17 -O2"},
	} {
		t.Run(b.command[0]+" "+b.flags, func(t *testing.T) {
			if _, err := exec.LookPath(b.command[0]); err != nil {
				t.Skip(err)
			}
			out := filepath.Join(t.TempDir(), "points")
			args := append(slices.Clone(b.command[1:]), "-Wall", "-Wextra", "-Wpedantic", "-Wno-variadic-macros", "-Werror")
			args = append(args, strings.Fields(b.flags)...)
			testutil.Run(t, nil, b.command[0], append(args, "-o", out, "testdata/points.c", "-pthread")...)
			if !strings.Contains(b.flags, "--gc-sections") { // that drops the arrays
				checkDescriptors(t, openImage(t, out))
			}
			run := append(slices.Clone(b.run), out)
			if _, err := exec.LookPath(run[0]); err != nil {
				t.Logf("not run: %v", err)
				return
			}
			played(t, b.run == nil, run...)
		})
	}
}

// checkDescriptors checks the metadata of the critical sections, and that each operation has one.
func checkDescriptors(t *testing.T, i *image) {
	t.Helper()
	descriptors := i.array(t, "__rseq_cs_ptr_array")
	if len(descriptors) < 7 { // the compiler may merge a releasing section with the other one
		t.Errorf("%d critical sections: expected 7 at least", len(descriptors))
	}
	signature := i.signature()
	for _, at := range descriptors {
		start, length, abort := i.word(t, at+8), i.word(t, at+16), i.word(t, at+24)
		if w := i.word(t, at); at%32 != 0 || w != 0 {
			t.Errorf("descriptor at %#x: version and flags %#x: expected zero, at a multiple of 32", at, w)
		}
		if length == 0 || length > 4096 || abort-start < length {
			t.Errorf("descriptor at %#x: start %#x, %d bytes, abort %#x", at, start, length, abort)
		}
		if got := i.ByteOrder.Uint32(i.bytes(t, abort-4, 4)); got != signature {
			t.Errorf("before %#x is %#x: expected the signature %#x", abort, got, signature)
		}
	}
	exits := i.array(t, "__rseq_exit_point_array")
	if len(exits)%2 != 0 || len(exits) < 2*len(descriptors) {
		t.Errorf("%d words of exit points for %d sections", len(exits), len(descriptors))
	}
}

// TestCPlusPlusGroups: an inline C++ function with a section is in each object that calls it. The
// linker keeps one of them, with its descriptor.
func TestCPlusPlusGroups(t *testing.T) {
	testutil.NeedCompilers(t)
	cxx := strings.Fields(testutil.Run(t, nil, "go", "env", "CXX"))
	if _, err := exec.LookPath(cxx[0]); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	const common = "#include \"rseqgo.h\"\n" +
		"inline rseqgo_status add(int64_t *v, int64_t i) { return rseqgo_load_add_store(RSEQGO_BY_CPU, v, 1, i); }\n"
	for name, text := range map[string]string{
		"one.cc": common + "rseqgo_status one(int64_t *v) { return add(v, 0); }\n",
		"two.cc": common + "rseqgo_gate rseqgo_v1_gate;\nrseqgo_status one(int64_t *v);\n" +
			"int main() { int64_t v = 7; return one(&v) == RSEQGO_NOT_REGISTERED && add(&v, 0) == RSEQGO_NOT_REGISTERED && v == 7 ? 0 : 1; }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, flags := range []string{"-O0", "-O2 -fno-inline -ffunction-sections -Wl,--gc-sections"} {
		out := filepath.Join(dir, "program")
		args := append(append(cxx[1:], "-I..", "-o", out, dir+"/one.cc", dir+"/two.cc"), strings.Fields(flags)...)
		testutil.Run(t, nil, cxx[0], args...)
		testutil.Run(t, nil, out)
		if n := len(openImage(t, out).array(t, "__rseq_cs_ptr_array")); n != 1 {
			t.Errorf("%s: %d critical sections: expected the one that was kept", flags, n)
		}
	}
}
