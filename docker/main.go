// Command docker runs the matrix of C libraries and ways of linking. In a container for each C
// library it builds the package with that image's compiler and headers, runs its tests, and
// compares the owner of the rseq areas with the one that docker/rows expects.
//
//	go run ./docker [-only CELLS] [-require ROWS] [-jobs N] [-list] [-json] [-keep] [-write=false]
//
// Run it in the repository's root, on a machine with a Docker Engine. Base images are pulled,
// or built from Debian's packages by mmdebstrap. Containers have no network, and Go and its
// modules are mounted read-only. A run of all cells writes docs/matrix.md and
// docs/matrix.json.
//
// It prints a line for each step, and in a minute without one the tasks under way.
//
// The exit status is 0 if every cell passed whose row has an image, and every row that -only
// or -require names has one; 1 if not; 2 if the tool failed; and 130 if it was interrupted.
package main

import (
	"bytes"
	"cmp"
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

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/tool"
)

type options struct {
	only, require string
	jobs          int
	list, json    bool
	keep, write   bool
}

func main() {
	var o options
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./docker [flags], from the repository's root")
		flag.PrintDefaults()
	}
	flag.StringVar(&o.only, "only", "", "run these rows, columns, or ROW/COLUMN, with commas, and write no files")
	flag.StringVar(&o.require, "require", "", "rows that must not be missing, with commas")
	flag.IntVar(&o.jobs, "jobs", runtime.NumCPU()+1, "how many cells at once")
	flag.BoolVar(&o.list, "list", false, "list the cells and what is expected in each, and run nothing")
	flag.BoolVar(&o.json, "json", false, "print the results as JSON instead of the table")
	flag.BoolVar(&o.keep, "keep", false, "keep the containers of cells that failed")
	flag.BoolVar(&o.write, "write", true, "write docs/matrix.md and docs/matrix.json after a whole run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, func() {
		stop() // a second signal ends the process
		fmt.Fprintln(os.Stderr, "docker: interrupted: removing the containers; interrupt again to leave them")
	})
	passed, err := run(ctx, o, flag.Args(), os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "docker:", err)
	}
	os.Exit(tool.ExitStatus(passed, err))
}

// matrix is one run.
type matrix struct {
	label   string // of its containers
	tools   string // the folder that is mounted at toolMount
	oldest  row    // whose image builds the column "old"
	goroot  string
	modules string
	kernel  uint32 // the kernel's feature size
	keep    bool
	rows    map[string]func() error // by row, builds in its image, once
	says    *tool.Progress
}

func (m *matrix) container(name string) string {
	return strings.ReplaceAll(m.label+"-"+strings.ReplaceAll(name, "/", "-"), "=", "-")
}

func run(ctx context.Context, o options, args []string, out, progress io.Writer) (passed bool, err error) {
	if len(args) > 0 {
		return false, fmt.Errorf("unexpected argument %q: rows and columns are named by -only", args[0])
	}
	if _, err := os.Stat("docker/rows"); err != nil {
		return false, errors.New("no docker/rows here: run it from the repository's root")
	}
	rows, err := parseRows(rowsFile)
	if err != nil {
		return false, err
	}
	oldest := rows[0]
	all := columns(oldest)
	cells, err := selectCells(rows, all, o.only)
	if err != nil {
		return false, err
	}
	require, err := required(rows, o.require)
	if err != nil {
		return false, err
	}
	m := &matrix{label: fmt.Sprintf("rseq-matrix=%d", os.Getpid()), oldest: oldest, keep: o.keep, kernel: kernelSize()}
	if o.list {
		for _, c := range cells {
			owner, size := c.want(m.kernel)
			fmt.Fprintf(out, "%-26s %-5s %2d  %s\n", c.name(), owner, size, c.column.about)
		}
		return true, nil
	}
	r := &report{Date: time.Now().UTC().Format(time.DateOnly), Kernel: kernel.Release(), KernelSize: m.kernel, Arch: runtime.GOARCH, columns: all, rows: rows}
	m.says = tool.NewProgress(progress)
	defer m.says.Stop()
	if r.Engine, err = serverVersion(ctx); err == nil {
		defer func() { os.RemoveAll(m.tools) }()
		err = m.prepare(ctx, cells)
	}
	switch {
	case ctx.Err() != nil:
		return false, tool.ErrInterrupted
	case err != nil:
		return false, err
	}

	m.runAll(ctx, cells, o.jobs, r)
	m.says.Stop()
	if !o.keep || ctx.Err() != nil {
		if err := removeContainers(context.WithoutCancel(ctx), m.label); err != nil {
			fmt.Fprintln(progress, err)
		}
	}
	slices.SortFunc(r.Cells, func(a, b result) int { return r.order(a) - r.order(b) })
	if o.json {
		data, err := json.MarshalIndent(r, "", "\t")
		if err != nil {
			return false, err
		}
		fmt.Fprintf(out, "%s\n", data)
	} else {
		fmt.Fprint(out, r.text())
	}
	if ctx.Err() != nil {
		return false, fmt.Errorf("%w: the containers are removed, the results so far are above", tool.ErrInterrupted)
	}
	if _, err := serverVersion(ctx); err != nil {
		return false, fmt.Errorf("the engine died; the results so far are above: %w", err)
	}
	if o.only == "" && o.write {
		if err := r.write(); err != nil {
			return false, err
		}
	}
	return r.passed(rowsNamed(rows, o.only), require, progress), nil
}

// prepare builds what all cells need.
func (m *matrix) prepare(ctx context.Context, cells []cell) error {
	task := m.says.Begin("Go's modules and tools")
	defer task.End()
	env := func(name string) (string, error) {
		out, err := exec.CommandContext(ctx, "go", "env", name).Output()
		return strings.TrimSpace(string(out)), err
	}
	var err error
	if m.goroot, err = env("GOROOT"); err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	if m.modules, err = env("GOMODCACHE"); err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	if out, err := exec.CommandContext(ctx, "go", "mod", "download").CombinedOutput(); err != nil {
		return fmt.Errorf("go mod download: %w\n%s", err, out)
	}
	// The engine must see the folder. It sees the repository.
	for _, dir := range []string{".cache/docker/go-build", ".cache/docker"} {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return err
		}
		os.Chmod(dir, 0o777) // for the column unprivileged
	}
	dir, err := filepath.Abs(".cache/docker")
	if err != nil {
		return err
	}
	if m.tools, err = os.MkdirTemp(dir, "tools-"); err != nil {
		return err
	}
	os.Chmod(m.tools, 0o755)
	if slices.ContainsFunc(cells, func(c cell) bool { return c.column.name == "headers" }) {
		build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(m.tools, "gen"), "./gen")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("go build ./gen: %w\n%s", err, out)
		}
	}
	if err := os.WriteFile(filepath.Join(m.tools, "enosys.json"), []byte(enosysProfile), 0o644); err != nil {
		return err
	}
	m.rows = map[string]func() error{}
	for _, r := range append([]row{m.oldest}, rowsOf(cells)...) {
		if m.rows[r.Name] == nil {
			m.rows[r.Name] = sync.OnceValue(func() error { return m.build(ctx, r) })
		}
	}
	return nil
}

func rowsOf(cells []cell) (rows []row) {
	for _, c := range cells {
		if len(rows) == 0 || rows[len(rows)-1].Name != c.row.Name {
			rows = append(rows, c.row)
		}
	}
	return rows
}

// build runs buildScript in the row's image. Columns without flags run what it built, and so
// does the column "old" of other rows. It prints an error; the row's cells get its first
// line.
func (m *matrix) build(ctx context.Context, r row) (err error) {
	task := m.says.Begin("row " + r.Name)
	defer func() {
		task.End()
		switch {
		case ctx.Err() != nil:
		case err != nil:
			m.says.Line("%v", err)
		default:
			m.says.Line("row %s: ready", r.Name)
		}
	}()
	if err := m.baseImage(ctx, r, task); err != nil {
		return err
	}
	task.Say("building the tests and the command in %s", r.tag())
	out := filepath.Join(m.tools, r.Name)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	args := append(m.arguments(r, r.Name+"/build"), "--rm", "--volume", out+":/out")
	if _, err := docker(ctx, append(args, r.tag(), "sh", "-c", r.prelude()+buildScript)...); err != nil {
		return fmt.Errorf("row %s, build: %w", r.Name, err)
	}
	return nil
}

// arguments returns the arguments of docker run that all containers have.
func (m *matrix) arguments(r row, name string) []string {
	here, _ := os.Getwd()
	args := []string{"run", "--name", m.container(name), "--label", m.label, "--pull", "never", "--network", "none",
		"--tmpfs", "/tmp:exec,mode=1777",
		"--volume", here + ":" + sourceMount + ":ro",
		"--volume", filepath.Join(here, ".cache/docker/go-build") + ":" + cacheMount,
		"--volume", m.tools + ":" + toolMount + ":ro",
		"--volume", m.goroot + ":" + gorootMount + ":ro",
		"--volume", m.modules + ":" + modulesMount + ":ro"}
	for _, env := range []string{
		"PATH=" + gorootMount + "/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/tmp",
		"GOCACHE=" + cacheMount, "GOMODCACHE=" + modulesMount, "GOPROXY=off", "GOTOOLCHAIN=local", "GOFLAGS=-buildvcs=false",
		// The go command does not notice that the system's headers differ: with this flag
		// it compiles the C files for each image.
		"CGO_CPPFLAGS=-DRSEQ_MATRIX_IMAGE=" + strings.NewReplacer(":", "_", "-", "_", ".", "_").Replace(r.tag())} {
		args = append(args, "--env", env)
	}
	return args
}

// cellTimeout ends a cell that hangs outside of its tests. All tests take about a minute on an
// idle machine.
const cellTimeout = 3 * time.Hour

// runAll runs the cells, jobs of them at once.
func (m *matrix) runAll(ctx context.Context, cells []cell, jobs int, r *report) {
	start := time.Now()
	var mutex sync.Mutex
	var total, done float64 // work; a cell that runs counts by half
	for _, c := range cells {
		total += c.work()
	}
	queue := make(chan cell)
	var wait sync.WaitGroup
	for range max(jobs, 1) {
		wait.Go(func() {
			for c := range queue {
				began := time.Now()
				mutex.Lock()
				done += c.work() / 2
				mutex.Unlock()
				res := m.runCell(ctx, c)
				res.Seconds = time.Since(began).Round(100 * time.Millisecond).Seconds()
				mutex.Lock()
				r.Cells = append(r.Cells, res)
				done += c.work() / 2
				left := time.Duration(float64(time.Since(start)) / done * (total - done))
				detail := ""
				switch res.Status {
				case failed:
					detail = "\n" + strings.TrimSpace(res.Detail)
				case impossible:
					detail = "   " + tool.FirstLine(res.Detail)
				}
				m.says.Line("[%d/%d] %-26s %-14s %5.1fs   (about %v left)%s", len(r.Cells), len(cells), c.name(), res.short(),
					res.Seconds, left.Round(time.Second), detail)
				mutex.Unlock()
			}
		})
	}
	for _, c := range ordered(cells) {
		if ctx.Err() != nil {
			break
		}
		select {
		case queue <- c:
		case <-ctx.Done():
		}
	}
	close(queue)
	wait.Wait()
}

// work estimates how long a cell takes, as a multiple of the usual cell.
func (c cell) work() float64 {
	if c.full() {
		return 8
	}
	return 1
}

// ordered puts the long cells first, so that none runs alone at the end.
func ordered(cells []cell) []cell {
	cells = slices.Clone(cells)
	slices.SortStableFunc(cells, func(a, b cell) int { return cmp.Compare(b.work(), a.work()) })
	return cells
}

// runCell runs the container of a cell.
func (m *matrix) runCell(ctx context.Context, c cell) result {
	owner, size := c.want(m.kernel)
	res := result{Row: c.row.Name, Column: c.column.name, WantOwner: owner, WantSize: size}
	if why := c.impossible(); why != "" {
		return res.with(impossible, why)
	}
	needed := []row{c.row}
	if c.column.name == "old" {
		needed = append(needed, m.oldest)
	}
	for _, r := range needed {
		switch err := m.rows[r.Name](); {
		case err == nil:
		case ctx.Err() != nil:
			return res.with(interrupted, "")
		case errors.Is(err, errUnavailable):
			return res.with(unavailable, err.Error())
		default:
			return res.with(failed, tool.FirstLine(err.Error()))
		}
	}
	task := m.says.Begin(c.name())
	defer task.End()
	limited, cancel := context.WithTimeoutCause(ctx, cellTimeout, fmt.Errorf("took longer than %v", cellTimeout))
	defer cancel()
	args := m.arguments(c.row, c.name())
	for _, env := range c.column.env {
		args = append(args, "--env", env)
	}
	for _, option := range c.column.options {
		args = append(args, strings.ReplaceAll(option, enosysPath, filepath.Join(m.tools, "enosys.json")))
	}
	cmd := command(limited, append(args, c.row.tag(), "sh", "-c", c.script(m.kernel))...)
	both := output{step: "start", began: task.At}
	cmd.Stdout, cmd.Stderr = &both, &both
	err := cmd.Run()
	text := both.all.String()
	res.read(text)
	switch {
	case err != nil && ctx.Err() != nil:
		res = res.with(interrupted, "in step "+both.step)
	case err != nil:
		var exit *exec.ExitError
		if why := tool.Extract(text); errors.As(err, &exit) && exit.ExitCode() != engineFailed && limited.Err() == nil {
			err = fmt.Errorf("%w\n%s", err, why) // explain is for what the engine prints
		} else if err = explain(limited, err, why); limited.Err() != nil {
			err = fmt.Errorf("%w\n%s", err, why)
		}
		res = res.with(failed, fmt.Sprintf("%s: step %s: %v", c.name(), both.step, err))
	case c.findsOwner() && (res.Owner != owner || res.Size != size):
		res = res.with(failed, fmt.Sprintf("%s: owner %s with %d bytes of fields: expected %s with %d, from docker/rows and a kernel with %d",
			c.name(), res.Owner, res.Size, owner, size, m.kernel))
	case !c.findsOwner() && res.Owner != "agree":
		res = res.with(impossible, fmt.Sprintf("gen/versions has no %s: %s", c.Libc, cmp.Or(res.Owner, "nothing was compared")))
	default:
		res.Status = ok
	}
	if !m.keep || res.Status != failed {
		docker(context.WithoutCancel(ctx), "rm", "--force", m.container(c.name()))
	}
	return res
}

// output keeps the output of a container, and calls began when a step begins.
type output struct {
	all   bytes.Buffer
	read  int // bytes of all that were read, whole lines
	step  string
	began func(step string)
}

func (o *output) Write(data []byte) (int, error) {
	o.all.Write(data)
	for {
		line, _, ended := bytes.Cut(o.all.Bytes()[o.read:], []byte("\n"))
		if !ended {
			return len(data), nil
		}
		o.read += len(line) + 1
		if step, ok := bytes.CutPrefix(line, []byte("step ")); ok {
			o.step = string(bytes.TrimSpace(step))
			o.began("step " + o.step)
		}
	}
}

// kernelSize returns the kernel's feature size, zero before Linux 6.3.
func kernelSize() uint32 {
	info, _ := rseq.Query()
	return info.KernelFeatureSize
}

// oneCPU returns the number of a CPU that this process may use.
func oneCPU() string {
	if cpus, err := kernel.AllowedCPUs(); err == nil {
		return fmt.Sprint(cpus[0])
	}
	return "0"
}
