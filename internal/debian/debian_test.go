//go:build unix

package debian

import (
	"strings"
	"testing"
)

func TestSatisfies(t *testing.T) {
	for _, c := range []struct {
		version, named string
		want           bool
	}{
		{"7.2.12", "7.2", true}, {"7.20.1", "7.2", false}, {"7.2", "7.2+", true}, {"7.3", "7.2+", true}, {"8.0", "7.2+slice", true},
		{"7.1.9", "7.2+", false}, {"", "7.2+", false}, {"2.44", "2.44+", true}, {"6.12.117", "6.1", false},
	} {
		if Satisfies(c.version, c.named) != c.want {
			t.Errorf("%q satisfies %q: %v", c.version, c.named, !c.want)
		}
	}
}

// TestFetchGone: the error names the missing package, and those that the suite has.
func TestFetchGone(t *testing.T) {
	if testing.Short() {
		t.Skip("asks a mirror; not with -short")
	}
	if _, err := Mirror(t.Context()); err != nil {
		t.Skip(err)
	}
	_, err := Fetch(t.Context(), t.TempDir(), Request{Suite: "bookworm", Arch: "arm64", Names: []string{"linux-image-arm63"}})
	if err == nil || !strings.Contains(err.Error(), "there is no package linux-image-arm63 in bookworm; there are:") || !strings.Contains(err.Error(), "linux-image-arm64") {
		t.Error(err)
	}
}
