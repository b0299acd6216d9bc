// Package debian fetches Debian's packages by name, for the tools of this
// repository: headers for gen. It also tells docker which mirror to build from.
package debian

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

//go:embed fetch.sh
var script string

// Package is a package that came.
type Package struct{ Name, Version, Arch string }

// Upstream is the version without Debian's part and without what marks a
// candidate: "7.3~rc7-1" is "7.3".
func (p Package) Upstream() string {
	v := p.Version
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		v = v[:i]
	}
	v, _, _ = strings.Cut(v, "~")
	return v
}

// Fetch brings the newest version of packages of a suite, "trixie" or
// "sid+experimental", for an architecture, into dir: unpacked in dir/root. What
// is there already is not fetched again.
func Fetch(ctx context.Context, suite, arch, dir string, packages ...string) ([]Package, error) {
	have, err := read(dir)
	if err == nil && hasAll(have, packages) {
		return have, nil
	}
	mirror, err := Mirror(ctx)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", script, "fetch.sh", suite, arch, dir, mirror}, packages...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("fetching %s of Debian %s for %s: %w\n%s", strings.Join(packages, ", "), suite, arch, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return read(dir)
}

// Mirror returns the address of a Debian mirror: $RSEQ_DEBIAN_MIRROR, or else the
// one that this machine's apt uses.
func Mirror(ctx context.Context) (string, error) {
	if mirror := os.Getenv("RSEQ_DEBIAN_MIRROR"); mirror != "" {
		return mirror, nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return "", errors.New("no apt-get here: Debian's packages are fetched with apt's own tools")
	}
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("apt-get indextargets: %w", err)
	}
	for mirror := range strings.Lines(string(out)) {
		mirror = strings.TrimSpace(mirror)
		if strings.HasSuffix(strings.TrimRight(mirror, "/"), "/debian") {
			return mirror, nil
		}
	}
	return "", errors.New("no Debian mirror is among this machine's apt sources: set RSEQ_DEBIAN_MIRROR to one")
}

func read(dir string) (packages []Package, err error) {
	data, err := os.ReadFile(filepath.Join(dir, "packages"))
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 3 {
			packages = append(packages, Package{f[0], f[1], f[2]})
		}
	}
	return packages, err
}

func hasAll(have []Package, want []string) bool {
	for _, w := range want {
		if !slices.ContainsFunc(have, func(p Package) bool { return p.Name == w }) {
			return false
		}
	}
	return true
}

// CompareVersions compares numbers separated by dots.
func CompareVersions(a, b string) int {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(x), len(y)) {
		var m, n int
		if i < len(x) {
			m, _ = strconv.Atoi(x[i])
		}
		if i < len(y) {
			n, _ = strconv.Atoi(y[i])
		}
		if c := cmp.Compare(m, n); c != 0 {
			return c
		}
	}
	return 0
}
