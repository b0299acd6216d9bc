//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/testutil"
)

// TestStaticDlopen: the C part, loaded by a static C program, finds the area that the program's
// own C library registered, although the symbols of the loaded C library are zero.
func TestStaticDlopen(t *testing.T) {
	testutil.NeedCompilers(t)
	if !testutil.OnGlibc() {
		t.Skip("a static program cannot dlopen on musl")
	}
	for _, far := range []string{"-UFAR", "-DFAR"} {
		// -w and no -Werror: the linker warns that a static program with dlopen needs the same
		// glibc at run time, which is here.
		program := filepath.Join(t.TempDir(), "static")
		testutil.Run(t, nil, "gcc", "-w", "-static", far, "-o", program, "testdata/dl.c", "-ldl")
		shim, registered := findsArea(t, program, 4, "getauxval or dlsym crashes in a library that a static program of this glibc loads (2.31 is so)")
		if !registered {
			continue
		}
		out := testutil.Run(t, []string{testutil.TunableOff}, program, shim)
		if !strings.Contains(out, ": owner 0 ") {
			t.Errorf("nothing was registered: %s", out)
		}
	}
}

// TestNamespace: a library in a namespace of its own, with a copy of the C library, finds the area
// that the program's C library registered.
func TestNamespace(t *testing.T) {
	testutil.NeedCompilers(t)
	if !testutil.OnGlibc() {
		t.Skip("musl has no dlmopen")
	}
	program := testutil.CC(t, "-DNAMESPACE", "testdata/dl.c", "-ldl")
	findsArea(t, program, 1, "a dlsym that finds nothing ends the program in another namespace of this glibc (2.31 is so)")
}

// findsArea lets a program built from testdata/dl.c load the C part, and returns that library. It
// checks that the C part finds the area that the program's C library registered, if it did, in
// the way wantVia (enum rseqgo_via of glibc.h), and that its own, unused area is aligned to
// 64. It skips the test, for the reason why, if the program cannot load a library without the
// C part.
func findsArea(t *testing.T, program string, wantVia int, why string) (shim string, registered bool) {
	t.Helper()
	trivial := testutil.CC(t, "-shared", "-fPIC", "-DTRIVIAL", "testdata/shim.c", "-ldl")
	if _, _, err := testutil.Try(nil, program, trivial); err != nil {
		t.Skipf("%s: %v", why, err)
	}
	shim = testutil.CC(t, append([]string{"-shared", "-fPIC", "testdata/shim.c"}, testutil.CPart(t)...)...)
	var offset, size, owner, via, reported, own int
	out := testutil.Run(t, nil, program, shim)
	if _, err := fmt.Sscanf(out, "%d %d: owner %d via %d offset %d own %d", &offset, &size, &owner, &via, &reported, &own); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	if own != 0 {
		t.Errorf("its own area is not aligned: %s", out)
	}
	if size == 0 { // an old C library, which registers nothing
		if owner != int(rseq.OwnerNone) {
			t.Error(out)
		}
		return shim, false
	}
	if owner != int(rseq.OwnerLibc) || via != wantVia || reported != offset {
		t.Errorf("the program's area is at %d: %s", offset, out)
	}
	return shim, true
}

// TestManyThreadsBeforeDlopen loads a c-shared library into a C program that already has 100
// threads. Each of them then reads its CPU.
func TestManyThreadsBeforeDlopen(t *testing.T) {
	library := testutil.GoBuild(t, "./testdata/lib", nil, "-buildmode=c-shared")
	host := testutil.CC(t, "testdata/host.c", "-ldl", "-lpthread")
	for env, owner := range map[string]rseq.Owner{"": testutil.AskTruth(t).Owner, testutil.TunableOff: rseq.OwnerSelf} {
		got := testutil.Decode[testutil.Show](t, testutil.Run(t, []string{env}, host, library, "100"))
		if got.Owner != owner.String() || !got.Confirmed {
			t.Errorf("%q: %+v", env, got)
		}
	}
}

// TestStaticTLS finds how many copies of the C part, each with its own area in static TLS, a
// program can load by dlopen, and what it would cost to reach an area in dynamic TLS
// (docs/compatibility.md).
func TestStaticTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("measures; not with -short")
	}
	program := testutil.CC(t, "-O2", "testdata/tls.c", "-ldl")
	shim := testutil.CC(t, append([]string{"-shared", "-fPIC", "testdata/shim.c"}, testutil.CPart(t)...)...)
	data, err := os.ReadFile(shim)
	if err != nil {
		t.Fatal(err)
	}
	const copies = 60
	for i := range copies {
		if err := os.WriteFile(fmt.Sprint(shim, ".", i), data, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var room int
	out, why, err := testutil.Try(nil, program, "room", shim, fmt.Sprint(copies))
	if _, e := fmt.Sscan(out, &room); e != nil || err != nil {
		t.Fatal(out, why, err)
	}
	t.Logf("%d libraries with the area find room; then: %s", room, why)
	if room < 8 {
		t.Errorf("only %d libraries with the area find room: %s", room, why)
	}
	for _, alignment := range []int{64, 128} {
		library := testutil.CC(t, "-shared", "-fPIC", fmt.Sprint("-DALIGNED=", alignment), "testdata/tls.c")
		if err := os.Rename(library, library+".0"); err != nil {
			t.Fatal(err)
		}
		out, why, err := testutil.Try(nil, program, "room", library, "1")
		if t.Logf("a library with TLS aligned to %d: %s found room %s", alignment, strings.TrimSpace(out), why); err != nil {
			t.Error(err)
		}
		if alignment == 64 && strings.TrimSpace(out) != "1" {
			t.Errorf("no room for an alignment of 64: %s", why)
		}
	}
	library := testutil.CC(t, "-O2", "-shared", "-fPIC", "-DLIBRARY", "testdata/tls.c")
	t.Logf("a read through __tls_get_addr takes %s times one at a constant offset",
		testutil.Run(t, nil, program, "cost", library))
}
