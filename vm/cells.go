package main

import (
	_ "embed"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/rseq-go/rseq/internal/tool"
)

//go:embed cells
var cellsFile string

// matrix is the contents of vm/cells.
type matrix struct {
	kernels []kernel
	libcs   []libc
	cells   []cell
}

// kernel is a kernel that guests boot.
type kernel struct {
	version, arch   string
	suite, package_ string
	when            string // empty, only or optional
	append          string // parameters for the kernel's command line
	cpu             string // qemu's CPU model, "" for the default
}

func (k kernel) name() string { return k.version + "/" + k.arch }

// When a kernel runs: always, or
const (
	only     = "only"     // only if -only names it
	optional = "optional" // only if Debian has it
)

// libc is the glibc of a guest.
type libc struct{ version, suite string }

// cell is a kernel with a C library and a way of linking, and what is expected there.
type cell struct {
	kernel kernel
	libc   libc
	how    string
	want   facts
	full   bool // all tests, without -short
}

// facts are what the package reports in a guest.
type facts struct {
	Owner         string   `json:"owner"`
	Size          uint32   `json:"size"`
	RegisteredLen uint32   `json:"registered_len"`
	AlignRequired uint32   `json:"align_required"`
	Mode          string   `json:"mode"`
	Features      []string `json:"features"`
	Sections      bool     `json:"critical_sections"`
	Inspect       bool     `json:"inspect"`
	Slice         bool     `json:"slice_extension"`
}

var yes = map[bool]string{false: "no", true: "yes"}

func (f facts) String() string {
	return fmt.Sprintf("%s, %d bytes of fields, %d registered, alignment %d, %s, features %s, sections %s, inspect %s, slice %s", f.Owner, f.Size,
		f.RegisteredLen, f.AlignRequired, f.Mode, strings.Join(f.Features, " "), yes[f.Sections], yes[f.Inspect], yes[f.Slice])
}

func (c cell) name() string { return path.Join(c.kernel.name(), c.libc.version, c.how) }

// guest returns the name of the guest that runs the cell.
func (c cell) guest() string { return path.Join(c.kernel.name(), c.libc.version) }

// hows are the ways of linking and running the tests.
var hows = []string{"dynamic", "static", "off"}

func parseCells(text string) (m matrix, err error) {
	err = tool.Table("vm/cells", text, m.add)
	return m, err
}

// fields are the least and the most fields of each kind of line.
var fields = map[string][2]int{"kernel": {5, 7}, "libc": {3, 3}, "cell": {14, 14}}

func (m *matrix) add(f []string) error {
	want, known := fields[f[0]]
	switch {
	case !known:
		return fmt.Errorf("%q: expected kernel, libc or cell", f[0])
	case len(f) < want[0] || len(f) > want[1]:
		return fmt.Errorf("%d fields: expected %d for a %s", len(f), want[0], f[0])
	}
	switch f[0] {
	case "kernel":
		k := kernel{version: f[1], arch: f[2], suite: f[3], package_: f[4]}
		if len(f) > 5 {
			if f[5] != only && f[5] != optional {
				return fmt.Errorf("%q: expected only, optional, or nothing", f[5])
			}
			k.when, k.append = f[5], strings.Join(f[6:], " ")
			if model, other := strings.CutPrefix(k.append, "cpu="); other {
				k.cpu, k.append = model, ""
			}
		}
		if machines[k.arch].qemu == "" {
			return fmt.Errorf("architecture %q: expected one of %s", k.arch, strings.Join(slices.Sorted(maps.Keys(machines)), ", "))
		}
		if slices.ContainsFunc(m.kernels, func(other kernel) bool { return other.name() == k.name() }) {
			return fmt.Errorf("kernel %s is there twice", k.name())
		}
		m.kernels = append(m.kernels, k)
	case "libc":
		m.libcs = append(m.libcs, libc{f[1], f[2]})
	case "cell":
		return m.addCells(f[1:])
	}
	return nil
}

func (m *matrix) addCells(f []string) error {
	k := slices.IndexFunc(m.kernels, func(k kernel) bool { return k.name() == f[0] })
	if k < 0 {
		return fmt.Errorf("there is no kernel %s above", f[0])
	}
	l := slices.IndexFunc(m.libcs, func(l libc) bool { return l.version == f[1] })
	if l < 0 {
		return fmt.Errorf("there is no libc %s above", f[1])
	}
	var numbers [3]uint32
	for i := range numbers {
		n, err := strconv.ParseUint(f[4+i], 10, 32)
		if err != nil {
			return fmt.Errorf("%q: expected a number of bytes", f[4+i])
		}
		numbers[i] = uint32(n)
	}
	if !slices.Contains([]string{"libc", "self"}, f[3]) {
		return fmt.Errorf("owner %q: expected libc or self", f[3])
	}
	if !slices.Contains([]string{"legacy", "v2"}, f[7]) {
		return fmt.Errorf("mode %q: expected legacy or v2", f[7])
	}
	features := []string{"cpu_id"}
	if f[8] != "-" {
		features = append(features, strings.Split(f[8], ",")...)
	}
	var flags [3]bool
	for i := range flags {
		switch f[9+i] {
		case "yes":
			flags[i] = true
		case "no":
		default:
			return fmt.Errorf("%q: expected yes or no", f[9+i])
		}
	}
	if f[12] != "short" && f[12] != "full" {
		return fmt.Errorf("tests %q: expected short or full", f[12])
	}
	for how := range strings.SplitSeq(f[2], ",") {
		want := facts{f[3], numbers[0], numbers[1], numbers[2], f[7], features, flags[0], flags[1], flags[2]}
		c := cell{m.kernels[k], m.libcs[l], how, want, f[12] == "full" && how == "static"}
		if !slices.Contains(hows, how) {
			return fmt.Errorf("%q: expected some of %s", how, strings.Join(hows, ","))
		}
		if slices.ContainsFunc(m.cells, func(other cell) bool { return other.name() == c.name() }) {
			return fmt.Errorf("cell %s is there twice", c.name())
		}
		m.cells = append(m.cells, c)
	}
	return nil
}

// kernelNamed reports whether one of names, which commas separate, begins with a kernel's
// version.
func kernelNamed(names, version string) bool {
	for word := range strings.SplitSeq(names, ",") {
		if strings.HasPrefix(strings.Trim(word, "/")+"/", version+"/") {
			return true
		}
	}
	return false
}

// selectCells returns the cells that names selects. A name, of those that commas separate,
// selects the cells whose own name begins with it or has it between slashes. Without names
// all cells are selected, except those of kernels with "only".
func (m matrix) selectCells(names string) (cells []cell, err error) {
	if names == "" {
		return slices.DeleteFunc(slices.Clone(m.cells), func(c cell) bool { return c.kernel.when == only }), nil
	}
	chosen := map[string]bool{}
	for word := range strings.SplitSeq(names, ",") {
		found := false
		for _, c := range m.cells {
			if c.kernel.when == only && !kernelNamed(word, c.kernel.version) {
				continue
			}
			if strings.Contains("/"+c.name()+"/", "/"+strings.Trim(word, "/")+"/") {
				chosen[c.name()], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("-only %s: no cell has that in its name; -list lists them", word)
		}
	}
	return slices.DeleteFunc(slices.Clone(m.cells), func(c cell) bool { return !chosen[c.name()] }), nil
}
