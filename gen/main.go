// Command gen reads struct rseq in the headers of each glibc, and of the kernel packaged with
// it, and generates what the package and its C users compile against: abi.h, include/,
// cs_<arch>.h, internal/abi, docs/layouts.md and gen/recorded.json.
//
//	go run ./gen [-check] [GLIBC/LINUX/ARCH=DIR ...]
//
// Run it in the repository's root. Without arguments it fetches the headers of each line in
// gen/versions from Debian's packages into .cache, with apt's own tools; it installs
// nothing. An argument names the tree of one version, and then nothing is fetched: DIR is a
// sysroot, an unpacked libc6-dev and linux-libc-dev, or a folder like /usr/include.
//
// With -check it writes nothing: a difference between the headers, the record and the
// generated files is an error. Where Debian's suite has moved on to another version, gen
// says so and keeps what is recorded.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/rseq-go/rseq/internal/debian"
	"github.com/rseq-go/rseq/internal/tool"
)

func main() {
	check := flag.Bool("check", false, "write nothing; fail if a file or a header differs")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: go run ./gen [-check] [GLIBC/LINUX/ARCH=DIR ...]\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *check, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, check bool, args []string) error {
	if _, err := os.Stat("gen/versions"); err != nil {
		return errors.New("no gen/versions here: run it from the repository's root")
	}
	rows, err := readVersions("gen/versions")
	if err != nil {
		return err
	}
	recorded, err := readRecord()
	if err != nil {
		return err
	}
	var trees []*Tree
	if len(args) > 0 {
		trees, err = namedTrees(args, rows)
	} else {
		trees, err = fetchTrees(ctx, rows)
	}
	if err != nil {
		return err
	}
	if len(trees) == 0 {
		return errors.New("no tree could be read: name one, or correct gen/versions")
	}

	layouts, err := parseAll(trees)
	if err != nil {
		return err
	}
	if err := compareRecord(recorded, layouts); err != nil && check {
		return err
	}
	all, err := merge(rows, recorded, layouts)
	if err != nil {
		return err
	}
	if err := consistent(all); err != nil {
		return err
	}
	files, err := outputs(all)
	if err != nil {
		return err
	}
	if err := crossCheckAll(ctx, trees, layouts, files); err != nil {
		return err
	}
	if check {
		err = compareFiles(files)
	} else {
		err = tool.WriteFiles(files)
	}
	if err == nil {
		fmt.Printf("%d trees read, %d files %s\n", len(trees), len(files), map[bool]string{true: "as generated", false: "generated"}[check])
	}
	return err
}

// row is a line of gen/versions.
type row struct{ Glibc, Linux, Suite string }

func readVersions(name string) (rows []row, err error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	err = tool.Table(name, string(data), func(f []string) error {
		switch {
		case len(f) != 3:
			return fmt.Errorf("%q: expected glibc, Linux, suite", strings.Join(f, " "))
		case len(rows) > 0 && debian.CompareVersions(rows[len(rows)-1].Glibc, f[0]) >= 0:
			return fmt.Errorf("glibc %s after %s: expected each once, the oldest first", f[0], rows[len(rows)-1].Glibc)
		}
		rows = append(rows, row{f[0], f[1], f[2]})
		return nil
	})
	return rows, err
}

func readRecord() (layouts []Layout, err error) {
	data, err := os.ReadFile(recordFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &layouts)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", recordFile, err)
	}
	return layouts, nil
}

// namedTrees opens the trees that arguments name.
func namedTrees(args []string, rows []row) (trees []*Tree, err error) {
	for _, arg := range args {
		label, dir, ok := strings.Cut(arg, "=")
		part := strings.Split(label, "/")
		if !ok || len(part) != 3 {
			return nil, fmt.Errorf("%q: expected GLIBC/LINUX/ARCH=DIR, 2.41/6.12/amd64=/mnt", arg)
		}
		l := Label{part[0], part[1], part[2]}
		if !slices.ContainsFunc(rows, func(r row) bool { return r.Glibc == l.Glibc && r.Linux == l.Linux }) {
			return nil, fmt.Errorf("%s: gen/versions has no line for glibc %s with Linux %s: add one", label, l.Glibc, l.Linux)
		}
		if !has(l.Glibc, l.Arch) {
			return nil, fmt.Errorf("%s: expected glibc %s or later: Debian has no older one for %s", label, oldest[l.Arch], l.Arch)
		}
		if slices.ContainsFunc(trees, func(t *Tree) bool { return t.Label == l }) {
			return nil, fmt.Errorf("%s: named twice", label)
		}
		t, err := openTree(l, dir)
		if err != nil {
			return nil, err
		}
		trees = append(trees, t)
	}
	return trees, nil
}

// fetchTrees fetches the packages of each row for each architecture.
func fetchTrees(ctx context.Context, rows []row) (trees []*Tree, err error) {
	var (
		wait  sync.WaitGroup
		mutex sync.Mutex
		errs  []error
		few   = make(chan bool, 4)
	)
	suites := map[string][]row{} // by suite, the rows that may be its version
	for _, r := range rows {
		if r.Suite != "-" {
			suites[r.Suite] = append(suites[r.Suite], r)
		}
	}
	for suite, rows := range suites {
		for _, arch := range architectures {
			rows := slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return !has(r.Glibc, arch) })
			if len(rows) == 0 {
				continue
			}
			wait.Go(func() {
				few <- true
				defer func() { <-few }()
				t, err := fetchTree(ctx, suite, rows, arch)
				mutex.Lock()
				defer mutex.Unlock()
				if err != nil {
					errs = append(errs, err)
				} else if t != nil {
					trees = append(trees, t)
				}
			})
		}
	}
	wait.Wait()
	slices.SortFunc(trees, func(a, b *Tree) int { return a.compare(b.Label) })
	return trees, errors.Join(errs...)
}

// fetchTree fetches the headers of a suite, which must have the version of one of the rows. It
// returns nil without an error if the suite has moved on.
func fetchTree(ctx context.Context, suite string, rows []row, arch string) (*Tree, error) {
	dir := filepath.Join(".cache", "headers", suite+"-"+arch)
	for _, fresh := range []bool{false, true} {
		if fresh { // the cached packages have the version of no row
			if err := os.RemoveAll(dir); err != nil {
				return nil, err
			}
		}
		packages, err := debian.Fetch(ctx, dir, debian.Request{Suite: suite, Arch: arch, Names: []string{"libc6-dev", "linux-libc-dev"}})
		if err != nil {
			return nil, fmt.Errorf("%w\n(if Debian has no %s any more, write - for it in gen/versions: what is recorded stays)", err, suite)
		}
		upstream := map[string]string{}
		var names []string
		for _, p := range packages {
			names = append(names, p.Name+" "+p.Version)
			upstream[p.Name] = p.Upstream()
		}
		for _, r := range rows {
			if debian.Satisfies(upstream["libc6-dev"], r.Glibc) && debian.Satisfies(upstream["linux-libc-dev"], r.Linux) {
				t, err := openTree(Label{r.Glibc, r.Linux, arch}, filepath.Join(dir, "root"))
				if err == nil {
					t.Packages = names
				}
				return t, err
			}
		}
		if fresh {
			fmt.Printf("Debian's %s has %s for %s now: what is recorded stays\n", suite, strings.Join(names, ", "), arch)
		}
	}
	return nil, nil
}

func parseAll(trees []*Tree) ([]Layout, error) {
	layouts := make([]Layout, len(trees))
	errs := make([]error, len(trees))
	var wait sync.WaitGroup
	for i, t := range trees {
		wait.Go(func() {
			l, err := Parse(t)
			if err != nil {
				errs[i] = err
				return
			}
			layouts[i] = *l
		})
	}
	wait.Wait()
	return layouts, errors.Join(errs...)
}

// compareRecord returns an error if the trees differ from the record. If only the packages
// differ, or a folder was named, the layouts get the recorded packages, so that the
// generated files do not change.
func compareRecord(recorded, layouts []Layout) error {
	var errs []error
	for i := range layouts {
		l := &layouts[i]
		n := slices.IndexFunc(recorded, func(r Layout) bool { return r.Label == l.Label })
		if n < 0 {
			errs = append(errs, fmt.Errorf("%s is not recorded yet: go run ./gen", l.Label))
			continue
		}
		if d := difference(recorded[n], *l); d != "" {
			errs = append(errs, fmt.Errorf("%s: the headers are not as recorded:\n\t%s", l.Label, strings.ReplaceAll(d, "\n", "\n\t")))
			continue
		}
		if len(l.Packages) > 0 && !slices.Equal(l.Packages, recorded[n].Packages) {
			fmt.Printf("%s: %s says the same as the recorded %s\n", l.Label, strings.Join(l.Packages, ", "), strings.Join(recorded[n].Packages, ", "))
		}
		l.Packages = recorded[n].Packages
	}
	return errors.Join(errs...)
}

// merge returns the layouts of every version: from the trees, else from the record.
func merge(rows []row, recorded, layouts []Layout) (all []Layout, err error) {
	known := map[Label]Layout{}
	for _, l := range append(slices.Clip(recorded), layouts...) {
		known[l.Label] = l
	}
	for _, r := range rows {
		for _, arch := range architectures {
			if !has(r.Glibc, arch) {
				continue
			}
			label := Label{r.Glibc, r.Linux, arch}
			l, ok := known[label]
			if !ok {
				return nil, fmt.Errorf("nothing is recorded of %s, a line of gen/versions: correct the line, or name a tree, go run ./gen %s=DIR", label, label)
			}
			all = append(all, l)
		}
	}
	return all, nil
}

func crossCheckAll(ctx context.Context, trees []*Tree, layouts []Layout, files map[string][]byte) error {
	var errs []error
	for i, t := range trees {
		note, err := crossCheck(ctx, t, &layouts[i], files[versionHeader(t.Glibc)])
		if note != "" {
			fmt.Println(note)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func compareFiles(files map[string][]byte) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(files)) {
		is, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(is, files[name]) {
			errs = append(errs, fmt.Errorf("%s is not as generated: go run ./gen\n%s", name, diff.Diff(name, is, "generated", files[name])))
		}
	}
	stale, _ := filepath.Glob(versionHeader("*"))
	for _, name := range stale {
		if files[name] == nil {
			errs = append(errs, fmt.Errorf("%s belongs to no version in gen/versions: delete it", name))
		}
	}
	return errors.Join(errs...)
}
