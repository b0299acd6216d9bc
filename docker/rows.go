package main

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/debian"
	"github.com/rseq-go/rseq/internal/tool"
)

//go:embed rows
var rowsFile string

// row is a line of docker/rows.
type row struct {
	Name, Libc, Image, Suite string
	Owner                    string
	Size                     uint32 // zero for "any"
	Full                     bool   // the column "default" runs all tests
}

// musl reports whether the row's C library is musl.
func (r row) musl() bool { return r.Libc == "musl" }

// glibc returns the version of glibc that the row names, the least one if it ends in "+".
func (r row) glibc() string { return strings.TrimPrefix(strings.TrimSuffix(r.Libc, "+"), "glibc-") }

// names reports whether the row names that C library.
func (r row) names(libc string) bool {
	version, glibc := strings.CutPrefix(libc, "glibc-")
	return libc == r.Libc || glibc && !r.musl() && debian.Satisfies(version, strings.TrimPrefix(r.Libc, "glibc-"))
}

// none stands for an empty field.
const none = "-"

func parseRows(text string) (rows []row, err error) {
	err = tool.Table("docker/rows", text, func(f []string) error {
		if len(f) != 7 {
			return fmt.Errorf("%d fields: expected row, libc, image, suite, owner, size, tests", len(f))
		}
		r := row{Name: f[0], Libc: f[1], Image: f[2], Suite: f[3], Owner: f[4]}
		if version, glibc := strings.CutPrefix(r.Libc, "glibc-"); !r.musl() && (!glibc || version == "") {
			return fmt.Errorf("libc %q: expected glibc-VERSION or musl", r.Libc)
		}
		if r.Owner != "libc" && r.Owner != "self" {
			return fmt.Errorf("owner %q: expected libc or self", r.Owner)
		}
		if f[5] != "any" {
			size, err := strconv.ParseUint(f[5], 10, 32)
			if err != nil || size < abi.OriginalFeatureSize {
				return fmt.Errorf("size %q: expected any or bytes from %d", f[5], abi.OriginalFeatureSize)
			}
			r.Size = uint32(size)
		}
		if r.Full = f[6] == "full"; !r.Full && f[6] != "short" {
			return fmt.Errorf("tests %q: expected full or short", f[6])
		}
		if slices.ContainsFunc(rows, func(other row) bool { return other.Name == r.Name }) {
			return fmt.Errorf("row %s is there twice", r.Name)
		}
		rows = append(rows, r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		if rows[0].musl() || !r.musl() && debian.CompareVersions(r.glibc(), rows[0].glibc()) < 0 {
			return nil, fmt.Errorf("docker/rows: %s is the first row, and %s has %s: expected the oldest glibc first", rows[0].Name, r.Name, r.Libc)
		}
	}
	return rows, nil
}

// selectCells returns the cells that -only names by row, column or row/column, separated by
// commas, or all cells if it is empty.
func selectCells(rows []row, columns []column, only string) (cells []cell, err error) {
	for _, r := range rows {
		for _, c := range columns {
			cells = append(cells, cell{row: r, column: c})
		}
	}
	if only == "" {
		return cells, nil
	}
	wanted := map[string]bool{}
	for _, name := range strings.Split(only, ",") {
		row, col, both := strings.Cut(name, "/")
		matches := func(c cell) bool {
			return both && c.row.Name == row && c.column.name == col || !both && (c.row.Name == name || c.column.name == name)
		}
		found := false
		for _, c := range cells {
			if matches(c) {
				wanted[c.name()], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("-only %s: no such row or column; there are the rows %s and the columns %s",
				name, strings.Join(rowNames(rows), ", "), strings.Join(columnNames(columns), ", "))
		}
	}
	return slices.DeleteFunc(cells, func(c cell) bool { return !wanted[c.name()] }), nil
}

// rowsNamed returns the rows that -only names, alone or with a column.
func rowsNamed(rows []row, only string) (names []string) {
	for _, name := range strings.Split(only, ",") {
		row, _, _ := strings.Cut(name, "/")
		if slices.Contains(rowNames(rows), row) {
			names = append(names, row)
		}
	}
	return names
}

// required returns the rows that -require names.
func required(rows []row, require string) (names []string, err error) {
	if require == "" {
		return nil, nil
	}
	for _, name := range strings.Split(require, ",") {
		if !slices.Contains(rowNames(rows), name) {
			return nil, fmt.Errorf("-require %s: no such row; there are %s", name, strings.Join(rowNames(rows), ", "))
		}
		names = append(names, name)
	}
	return names, nil
}

func rowNames(rows []row) (names []string) {
	for _, r := range rows {
		names = append(names, r.Name)
	}
	return names
}
