//go:build linux && !android && cgo && !purego && (amd64 || arm64)

package test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rseq-go/rseq/internal/testutil"
)

// TestStaticTLS says how many copies of the C part, each with its own area in
// static TLS, one program can load by dlopen, and what reaching the area
// otherwise would cost (docs/compatibility.md).
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
