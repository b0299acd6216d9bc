// Command vm runs the matrix of kernels and architectures: in an emulated machine
// of each kernel it runs the package's tests, beside each C library, and holds what
// `rseq show` says there against what vm/cells says.
//
//	go run ./vm [-only CELLS] [-jobs N] [-list] [-json]
//
// From the repository's root. Kernels, C libraries and busybox come from Debian's
// packages into .cache/vm. A whole run writes docs/kernels.md and docs/kernels.json.
//
// The exit status is 0 if every cell passed, 1 if one did not, 2 if the tool could
// not do its work.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

type options struct {
	only       string
	jobs       int
	list, json bool
	write      bool
}

func main() {
	var o options
	flag.StringVar(&o.only, "only", "", "run the cells whose names have this in them, with commas (7.2+/arm64, 2.36, off), and write no files")
	flag.IntVar(&o.jobs, "jobs", max(runtime.NumCPU()/2, 1), "how many guests at once, of two CPUs each")
	flag.BoolVar(&o.list, "list", false, "list the cells and what is expected in each, and run nothing")
	flag.BoolVar(&o.json, "json", false, "print the results as JSON instead of the table")
	flag.BoolVar(&o.write, "write", true, "write docs/kernels.md and docs/kernels.json after a whole run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	passed, err := run(ctx, o, flag.Args(), os.Stdout, os.Stderr)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(2)
	case !passed:
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, args []string, out, progress io.Writer) (passed bool, err error) {
	if len(args) > 0 {
		return false, fmt.Errorf("unexpected argument %q: cells are named by -only", args[0])
	}
	if _, err := os.Stat("vm/cells"); err != nil {
		return false, errors.New("no vm/cells here: run it from the repository's root")
	}
	m, err := parseCells(cellsFile)
	if err != nil {
		return false, err
	}
	cells, err := m.selectCells(o.only)
	if err != nil {
		return false, err
	}
	if o.list {
		for _, c := range cells {
			fmt.Fprintf(out, "%-24s %v\n", c.name(), c.want)
		}
		return true, nil
	}
	for _, c := range cells {
		m := machines[c.kernel.arch]
		for tool, package_ := range map[string]string{m.qemu: m.package_, m.triplet + "-gcc": "gcc for " + c.kernel.arch} {
			if _, err := exec.LookPath(tool); err != nil {
				return false, fmt.Errorf("there is no %s: install it (Debian: %s)", tool, package_)
			}
		}
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp(cache, "run-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	if dir, err = filepath.Abs(dir); err != nil {
		return false, err
	}
	start := time.Now()
	fmt.Fprintln(progress, "kernels, C libraries and programs ...")
	im, err := prepare(ctx, m, cells, dir)
	if err != nil {
		if errors.Is(err, syscall.ENOSPC) {
			err = fmt.Errorf("the disk is full; %s can be removed: %w", cache, err)
		}
		return false, err
	}
	r := &report{Date: start.UTC().Format(time.DateOnly), Qemu: qemuVersion(ctx, cells)}
	fmt.Fprintf(progress, "ready after %v\n", time.Since(start).Round(time.Second))
	runGuests(ctx, cells, im, o.jobs, r, progress)
	slices.SortFunc(r.Cells, func(a, b result) int { return m.order(a.Name) - m.order(b.Name) })
	if o.json {
		data, err := json.MarshalIndent(r, "", "\t")
		if err != nil {
			return false, err
		}
		fmt.Fprintf(out, "%s\n", data)
	} else {
		fmt.Fprintf(out, "\n%s\n%s\n", r.table(), r.summary())
	}
	if ctx.Err() != nil {
		return false, errors.New("interrupted; the results so far are above")
	}
	if o.only == "" && o.write {
		if err := r.write(); err != nil {
			return false, err
		}
	}
	return r.passed(progress), nil
}

// order is a cell's place in the file.
func (m matrix) order(name string) int {
	return slices.IndexFunc(m.cells, func(c cell) bool { return c.name() == name })
}

// qemuVersion asks the emulator.
func qemuVersion(ctx context.Context, cells []cell) string {
	out, _ := exec.CommandContext(ctx, machines[cells[0].kernel.arch].qemu, "--version").Output()
	_, version, _ := strings.Cut(firstLine(string(out)), "version ")
	return version
}

// guestTimeout bounds a guest; the slowest takes about a minute.
const guestTimeout = 15 * time.Minute

// runGuests runs a guest for each kernel and C library, so many at once, and prints
// a line when a cell of one ends.
func runGuests(ctx context.Context, cells []cell, im images, jobs int, r *report, progress io.Writer) {
	var guests [][]cell
	for _, c := range cells {
		i := slices.IndexFunc(guests, func(g []cell) bool { return g[0].guest() == c.guest() })
		if i < 0 {
			guests = append(guests, nil)
			i = len(guests) - 1
		}
		guests[i] = append(guests[i], c)
	}
	start := time.Now()
	var mutex sync.Mutex
	ended := func(res result) {
		mutex.Lock()
		defer mutex.Unlock()
		r.Cells = append(r.Cells, res)
		fmt.Fprintf(progress, "[%d/%d] %-24s %-6s %5.1fs   (%v)\n", len(r.Cells), len(cells), res.Name, res.Status, res.Seconds,
			time.Since(start).Round(time.Second))
		if res.Status == failed {
			fmt.Fprintf(progress, "\t%s\n", strings.ReplaceAll(strings.TrimSpace(res.Detail), "\n", "\n\t"))
		}
	}
	var wait sync.WaitGroup
	limit := make(chan struct{}, max(jobs, 1))
	for _, g := range guests {
		limit <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		wait.Go(func() {
			defer func() { <-limit }()
			runGuest(ctx, g, im, ended)
		})
	}
	wait.Wait()
}

// runGuest runs the cells of one guest.
func runGuest(ctx context.Context, cells []cell, im images, ended func(result)) {
	first := cells[0]
	s := system{libc: first.libc, arch: first.kernel.arch}
	ctx, cancel := context.WithTimeoutCause(ctx, guestTimeout, fmt.Errorf("the guest did not end within %v", guestTimeout))
	defer cancel()
	var c console
	suite := "-test.short"
	var hows []string
	for _, x := range cells {
		hows = append(hows, x.how)
		if x.full {
			suite = "-test.short=false"
		}
	}
	judged := 0
	judge := func(x cell, broken string) {
		judged++
		res := result{Name: x.name(), Kernel: c.release, Arch: s.arch, Glibc: im.versions[s.name()], How: x.how, Full: x.full, Status: ok}
		for _, j := range c.jobs {
			if strings.HasPrefix(j.name, x.how+"/") {
				res.Seconds += j.seconds
			}
		}
		if broken != "" {
			res.Status, res.Detail = failed, x.name()+": "+broken
		} else if got, problem := c.judge(x.want, x.how); problem != "" {
			res.facts, res.Status, res.Detail = got, failed, x.name()+": "+problem
		} else {
			res.facts = got
		}
		ended(res)
	}
	err := c.run(ctx, first.kernel, im.kernels[first.kernel.name()], im.initramfs[s.name()], suite, hows, func(j job) {
		// The cell before is through when the first job of the next one ends.
		if how, _, _ := strings.Cut(j.name, "/"); judged < len(cells)-1 && how == cells[judged+1].how {
			judge(cells[judged], "")
		}
	})
	broken := ""
	switch {
	case err != nil:
		broken = err.Error()
	case !c.done:
		broken = c.why(ctx)
	case !satisfies(release(c.release), first.kernel.version):
		broken = fmt.Sprintf("the guest runs Linux %s: expected %s", c.release, first.kernel.version)
	}
	for _, x := range cells[judged:] {
		judge(x, broken)
	}
}

// release is the version in a kernel's release.
func release(name string) string {
	if i := strings.IndexFunc(name, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); i >= 0 {
		name = name[:i]
	}
	return name
}
