//go:build unix

// Package debian fetches Debian packages by name, for the tools of this repository: headers
// for gen, kernels and C libraries for vm. It also finds the mirror that docker builds its
// images from.
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
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed fetch.sh
var script string

// Package is a package that was fetched.
type Package struct{ Name, Version, Arch string }

// Upstream returns the version without the Debian revision and the mark of a candidate:
// "7.3" for "7.3~rc7-1".
func (p Package) Upstream() string {
	v := p.Version
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		v = v[:i]
	}
	v, _, _ = strings.Cut(v, "~")
	return v
}

// Request names packages to fetch.
type Request struct {
	// Suite is one suite, as "trixie", or two, as "sid+experimental"; then the second is
	// preferred.
	Suite, Arch string
	Names       []string // of packages
	// Follow is an extended regular expression. Dependencies whose names it matches are
	// fetched too; none if it is empty.
	Follow string
	// Exclude is a tar(1) pattern of files that are not unpacked.
	Exclude string
}

// timeout ends a fetch that hangs. One takes about a minute on an idle machine.
const timeout = time.Hour

// Fetch unpacks the newest version of each package into dir/root. If dir has the result of
// the same request, nothing is fetched.
func Fetch(ctx context.Context, dir string, r Request) ([]Package, error) {
	request := fmt.Sprintf("%+q\n", r)
	if before, err := os.ReadFile(filepath.Join(dir, "request")); err == nil && string(before) == request {
		return read(dir)
	}
	mirror, err := Mirror(ctx)
	if err != nil {
		return nil, err
	}
	// apt-get never ends if the disk is full.
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("fetching %s took longer than %v: is the disk full, or the mirror slow?", strings.Join(r.Names, ", "), timeout))
	defer cancel()
	args := append([]string{"-c", script, "fetch.sh", r.Suite, r.Arch, dir, mirror, r.Follow, r.Exclude}, r.Names...)
	cmd := Command(ctx, "sh", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("fetching %s of Debian %s for %s: %w\n%s", strings.Join(r.Names, ", "), r.Suite, r.Arch, err, bytes.TrimSpace(stderr.Bytes()))
	}
	if err := os.WriteFile(filepath.Join(dir, "request"), []byte(request), 0o644); err != nil {
		return nil, err
	}
	return read(dir)
}

// Command returns a command that is ended with ctx, and with it the commands that it started.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// Mirror returns the address of a Debian mirror: $RSEQ_DEBIAN_MIRROR, or the mirror of this
// machine's apt.
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

// Satisfies reports whether a version is one that a table names. "7.2" names 7.2 and 7.2.9.
// "7.2+", for a suite that moves on, names 7.3 too. Text after the plus is ignored.
func Satisfies(version, named string) bool {
	if least, _, later := strings.Cut(named, "+"); later {
		return CompareVersions(version, least) >= 0
	}
	return strings.HasPrefix(version+".", named+".")
}

// CompareVersions compares two versions, which are numbers separated by dots.
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
