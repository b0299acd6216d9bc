// Command vm runs the matrix of kernels and architectures. In emulated machines with each kernel
// and C library it runs the packages' tests, and compares what `rseq show` prints with what
// vm/cells expects.
//
//	go run ./vm [-only CELLS] [-jobs N] [-list] [-write=false]
//
// Run it in the repository's root. It fetches kernels, C libraries and busybox from Debian's
// packages into .cache/vm. A run of all cells writes docs/kernels.md.
//
// It prints a line for each step, and in a minute without one the tasks under way.
//
// The exit status is 0 if every cell passed and every kernel that -only names is available, 1
// if not, 2 if the tool failed, and 130 if it was interrupted.
package main

import (
	"context"
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

	"github.com/rseq-go/rseq/internal/tool"
)

type options struct {
	only  string
	jobs  int
	list  bool
	write bool
}

func main() {
	var o options
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./vm [flags], from the repository's root")
		flag.PrintDefaults()
	}
	flag.StringVar(&o.only, "only", "", "run the cells whose names have this in them, with commas (7.2+/arm64, 2.36, off), and write no files")
	flag.IntVar(&o.jobs, "jobs", max(runtime.NumCPU()/2, 1), "how many guests of two CPUs at once")
	flag.BoolVar(&o.list, "list", false, "list the cells and what is expected in each, and run nothing")
	flag.BoolVar(&o.write, "write", true, "write docs/kernels.md after a whole run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process
	passed, err := run(ctx, o, flag.Args(), os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
	}
	os.Exit(tool.ExitStatus(passed, err))
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
		if o.only == "" {
			cells = m.cells
		}
		for _, c := range cells {
			fmt.Fprintf(out, "%-24s %v\n", c.name(), c.want)
		}
		return true, nil
	}
	for _, c := range cells {
		m := machines[c.kernel.arch]
		needs := map[string]string{m.qemu: m.package_, m.triplet + "-gcc": "gcc-" + strings.ReplaceAll(m.triplet, "_", "-")}
		if m.linker != "" {
			needs[m.linker] = strings.TrimPrefix(m.linker, "ld.")
		}
		for tool, package_ := range needs {
			if _, err := exec.LookPath(tool); err != nil {
				return false, fmt.Errorf("there is no %s: install it (Debian: %s)", tool, package_)
			}
		}
	}
	start := time.Now()
	says := tool.NewProgress(progress)
	defer says.Stop()
	unlock, err := lock(cache)
	if err != nil {
		return false, diskFull(err)
	}
	defer unlock()
	if err := room(cache, cells); err != nil {
		return false, err
	}
	dir, err := filepath.Abs(filepath.Join(cache, "run"))
	if err != nil {
		return false, err
	}
	if err := os.RemoveAll(dir); err != nil { // a run that was killed has left it
		return false, err
	}
	defer os.RemoveAll(dir)
	im, err := prepare(ctx, m, cells, dir, says)
	switch {
	case ctx.Err() != nil:
		return false, tool.ErrInterrupted
	case err != nil:
		return false, diskFull(err)
	}
	r := &report{date: start.UTC().Format(time.DateOnly), qemu: qemuVersion(ctx, machines[cells[0].kernel.arch].qemu)}
	runGuests(ctx, cells, im, o.jobs, r, says)
	says.Stop()
	slices.SortFunc(r.cells, func(a, b result) int { return m.order(a.name) - m.order(b.name) })
	fmt.Fprintf(out, "\n%s\n%s\n", r.table(), r.summary())
	if ctx.Err() != nil {
		return false, fmt.Errorf("%w; the results so far are above", tool.ErrInterrupted)
	}
	if o.only == "" && o.write {
		if err := tool.WriteFiles(map[string][]byte{"docs/kernels.md": []byte(r.page())}); err != nil {
			return false, diskFull(err)
		}
	}
	return r.good(o.only, progress), nil
}

// lock makes the folder and locks it for this run.
func lock(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another run uses %s: wait until it ends (%w)", dir, err)
	}
	return f.Close, nil
}

// room returns an error if the disk has less room than a run may need: apt-get never ends on a
// full disk.
func room(dir string, cells []cell) error {
	need := uint64(1 << 30)
	if slices.ContainsFunc(cells, func(c cell) bool { return c.kernel.fromSource() }) {
		need *= 4
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return err
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < need {
		return fmt.Errorf("%s has %d MB left: expected %d, for kernels, C libraries and programs", dir, free>>20, need>>20)
	}
	return nil
}

// diskFull adds advice to an error that says that the disk is full, in the words of Go, the C
// library or apt.
func diskFull(err error) error {
	text := strings.ToLower(err.Error())
	if strings.Contains(text, "no space left") || strings.Contains(text, "enough free space") {
		return fmt.Errorf("the disk is full; %s can be removed: %w", cache, err)
	}
	return err
}

// order returns a cell's place in vm/cells.
func (m matrix) order(name string) int {
	return slices.IndexFunc(m.cells, func(c cell) bool { return c.name() == name })
}

// qemuVersion returns the emulator's version.
func qemuVersion(ctx context.Context, qemu string) string {
	out, _ := exec.CommandContext(ctx, qemu, "--version").Output()
	_, version, _ := strings.Cut(tool.FirstLine(string(out)), "version ")
	return version
}

// runGuests runs a guest for each kernel and C library, jobs of them at once.
func runGuests(ctx context.Context, cells []cell, im images, jobs int, r *report, says *tool.Progress) {
	var guests [][]cell
	for _, c := range cells {
		i := slices.IndexFunc(guests, func(g []cell) bool { return g[0].guest() == c.guest() })
		if i < 0 {
			guests = append(guests, nil)
			i = len(guests) - 1
		}
		guests[i] = append(guests[i], c)
	}
	// The long ones first, so that none runs alone at the end.
	slices.SortStableFunc(guests, func(a, b []cell) int { return long(b) - long(a) })
	var mutex sync.Mutex
	ended := func(res result) {
		mutex.Lock()
		defer mutex.Unlock()
		r.cells = append(r.cells, res)
		detail := ""
		switch res.status {
		case failed:
			detail = "\n" + strings.TrimSpace(res.detail)
		case interrupted:
			detail = "   " + res.detail
		}
		says.Line("[%d/%d] %-24s %-6s %5.1fs%s", len(r.cells), len(cells), res.name, res.status, res.seconds, detail)
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
			runGuest(ctx, g, im, says, ended)
		})
	}
	wait.Wait()
}

// long counts the cells that run all tests.
func long(cells []cell) (n int) {
	for _, c := range cells {
		if c.full {
			n++
		}
	}
	return n
}

// boots is how often at most a guest is booted whose kernel panics before its first process
// runs. That is the emulator's fault: some amd64 kernels change their code while they boot, and
// then the other CPU rarely runs into half of the change.
const boots = 3

// runGuest runs the cells of one guest.
func runGuest(ctx context.Context, cells []cell, im images, says *tool.Progress, ended func(result)) {
	k, s := cells[0].kernel, system{libc: cells[0].libc, arch: cells[0].kernel.arch}
	suite := "-test.short"
	if long(cells) > 0 {
		suite = "-test.short=false"
	}
	var hows []string
	for _, x := range cells {
		hows = append(hows, x.how)
	}
	end := func(res result) {
		res.glibc = im.versions[s.name()]
		if res.detail != "" {
			res.detail = res.name + ": " + res.detail
		}
		ended(res)
	}
	if err := im.gone[k.name()]; err != nil {
		for _, x := range cells {
			end(result{name: x.name(), kernel: k.version, arch: k.arch, how: x.how, status: unavailable, detail: err.Error()})
		}
		return
	}
	task := says.Begin("guest " + cells[0].guest())
	defer task.End()
	var c console
	var err error
	left := cells
	started := func(job string) {
		how, _, _ := strings.Cut(job, "/")
		if len(left) > 1 && how == left[1].how { // the cell before it has ended
			end(c.judge(left[0]))
			left = left[1:]
		}
		if len(c.jobs) == 0 || !strings.HasPrefix(c.jobs[len(c.jobs)-1].name, how+"/") {
			task.Say("%s starts", how)
		}
	}
	for range boots {
		c = console{at: task.At}
		err = c.run(ctx, k, im.kernels[k.name()], im.initramfs[s.name()], suite, hows, started)
		if c.panicked == "" || c.release != "" {
			break
		}
		task.Say("%s, %s", c.panicked, c.during())
	}
	for i, x := range left {
		res := c.judge(x)
		switch {
		case c.done && err == nil:
		case ctx.Err() != nil: // cells that did not begin have no result
			if i > 0 {
				return
			}
			res.status, res.detail = interrupted, c.during()
		case i > 0:
			res.status, res.detail = failed, "it did not run: the guest ended before, see "+left[0].name()
		case err != nil:
			res.status, res.detail = failed, err.Error()
		default:
			res.status, res.detail = failed, c.why()
		}
		end(res)
	}
}
