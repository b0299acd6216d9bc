package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cavaliergopher/cpio"

	"github.com/rseq-go/rseq/internal/debian"
	"github.com/rseq-go/rseq/internal/tool"
)

// machine is how an architecture is emulated.
type machine struct {
	qemu, package_ string
	args           []string
	append         string // to the kernel's command line
	triplet        string // of its compiler, and its folder of libraries
	loader         string // of dynamically linked programs
}

var machines = map[string]machine{
	"amd64": {
		qemu: "qemu-system-x86_64", package_: "qemu-system-x86", args: []string{"-cpu", "max", "-smp", "2,sockets=2"}, // which kernels see without ACPI, too
		// Under emulation the check of the clock and the parallel start of CPUs fail at times.
		append:  "console=ttyS0 tsc=reliable cpuhp.parallel=0 reboot=t",
		triplet: "x86_64-linux-gnu", loader: "lib64/ld-linux-x86-64.so.2",
	},
	"arm64": {
		qemu: "qemu-system-aarch64", package_: "qemu-system-arm",
		args:    []string{"-M", "virt", "-cpu", "max,pauth-impdef=on", "-smp", "2"},
		append:  "console=ttyAMA0",
		triplet: "aarch64-linux-gnu", loader: "lib/ld-linux-aarch64.so.1",
	},
}

//go:embed init.sh
var initScript string

// writeInitramfs writes an archive of a folder's files for the kernel to unpack.
func writeInitramfs(name, root string) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buffered := bufio.NewWriterSize(f, 1<<20)
	w := cpio.NewWriter(buffered)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := os.Stat(path) // what links point to
		if err != nil {
			return err
		}
		h, err := cpio.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		if h.Name, err = filepath.Rel(root, path); err != nil {
			return err
		}
		if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(w, file)
		return err
	})
	return cmp.Or(err, w.Close(), buffered.Flush())
}

// job is one that a guest ran.
type job struct {
	name            string // "static/test"
	status          int
	output          string
	seconds         float64
	passed, skipped int // tests
}

// console is what a guest told on its console.
type console struct {
	at       func(where string) // is told which job runs, and which of its tests
	release  string             // of the kernel
	jobs     []job
	running  string // the job that began last and did not end
	test     string // of that job, the one that began last, as far as is known
	done     bool
	silent   bool     // for too long
	last     []string // lines since the last job began
	panicked string   // the kernel's line
}

// keptLines are how many lines of a console are kept at least.
const keptLines = 400

// silence is how long a guest may say nothing of its own: it hangs. Else it says that it
// is alive once in a minute; its jobs have time limits there.
var silence = 15 * time.Minute

// run boots a guest and reads what it tells until it ends or is silent; started is
// called with the name of each job when it begins.
func (c *console) run(ctx context.Context, k kernel, image, initramfs, suite string, hows []string, started func(name string)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := machines[k.arch]
	nonce := "@" + rand.Text()
	args := append(slices.Clone(m.args), "-accel", "tcg", "-m", "768", "-nographic", "-no-reboot", "-nic", "none",
		"-kernel", image, "-initrd", initramfs, "-append",
		strings.Join(append([]string{m.append, k.append, "quiet", "loglevel=3", "panic=-1", "--", nonce, suite}, hows...), " "))
	if k.cpu != "" {
		args = append(args, "-cpu", k.cpu) // the last one counts
	}
	cmd := debian.Command(ctx, m.qemu, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var silent atomic.Bool
	timer := time.AfterFunc(silence, func() {
		silent.Store(true)
		cancel()
	})
	defer timer.Stop()
	scanner := bufio.NewScanner(stdout)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		if c.read(nonce, strings.TrimRight(scanner.Text(), "\r"), started) {
			timer.Reset(silence)
		}
	}
	if err := scanner.Err(); err != nil {
		c.last = append(c.last, "(the console is not read on: "+err.Error()+")")
		io.Copy(io.Discard, stdout)
	}
	err = cmd.Wait()
	c.silent = silent.Load()
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w\n%s", m.qemu, err, stderr.String())
	}
	return nil
}

// read takes one line of the console, and reports whether the guest's first process
// said it.
func (c *console) read(nonce, line string, started func(name string)) (ours bool) {
	if c.panicked == "" && strings.Contains(line, "Kernel panic") {
		c.panicked = line
	}
	text, ours := strings.CutPrefix(line, nonce+" ")
	f := strings.Fields(text)
	if !ours || len(f) == 0 {
		if line != "" {
			c.last = append(c.last, line)
		}
		if len(c.last) > 2*keptLines {
			c.last = slices.Delete(c.last, 0, keptLines)
		}
		if n := len(c.jobs); n > 0 && c.running != "" {
			c.jobs[n-1].output += line + "\n"
		}
		return ours
	}
	switch {
	case f[0] == "boot" && len(f) == 2:
		c.release = f[1]
	case f[0] == "start" && len(f) == 2:
		started(f[1])
		c.running, c.test, c.last = f[1], "", nil
		c.jobs = append(c.jobs, job{name: f[1], status: -1})
		c.at(c.running)
	case f[0] == "at" && len(f) == 2:
		if f[1] != "-" {
			c.test = f[1]
			c.at(c.running + ", " + c.test)
		}
	case f[0] == "end" && len(f) == 7 && f[1] == c.running:
		j := &c.jobs[len(c.jobs)-1]
		c.running = ""
		begin, _ := strconv.ParseFloat(f[3], 64)
		end, _ := strconv.ParseFloat(f[4], 64)
		j.seconds = end - begin
		j.passed, _ = strconv.Atoi(f[5])
		j.skipped, _ = strconv.Atoi(f[6])
		if status, err := strconv.Atoi(f[2]); err == nil {
			j.status = status
		}
	case f[0] == "done":
		c.done = true
	}
	return true
}

// during says how far a guest had come.
func (c *console) during() string {
	switch {
	case c.running != "" && c.test != "":
		return "while it ran " + c.running + ", last seen in " + c.test
	case c.running != "":
		return "while it ran " + c.running
	case c.release == "":
		return "before its first process ran"
	case len(c.jobs) == 0:
		return "before its first job"
	}
	return "after " + c.jobs[len(c.jobs)-1].name
}

// why says why a guest ended early, with what it told since its last job began.
func (c *console) why() string {
	why := "the guest ended by itself"
	if c.panicked != "" {
		why = c.panicked
	} else if c.silent {
		why = fmt.Sprintf("the guest said nothing for %v", silence)
	}
	why += ", " + c.during()
	if len(c.last) == 0 {
		return why + "; nothing is on its console since then"
	}
	return why + "; on its console since then:\n" + tool.Extract(strings.Join(c.last, "\n"))
}

// refused is what doctor says where critical sections may not run.
const refused = "FAIL  critical sections may run: not supported: "

// judge holds what a guest's jobs for a cell told against what is expected.
func (c *console) judge(x cell) (res result) {
	res = result{name: x.name(), kernel: strings.TrimSpace(c.release + " " + x.kernel.append), arch: x.kernel.arch, how: x.how, full: x.full}
	var problems []string
	fail := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	tests := []string{"rseq", "test", "percpu"}
	if x.how == "dynamic" {
		tests = []string{"command"}
	}
	jobs := map[string]job{"show": {}, "inspect": {}, "doctor": {}}
	for _, name := range tests {
		jobs[name] = job{}
	}
	for _, j := range c.jobs {
		if how, name, _ := strings.Cut(j.name, "/"); how == x.how {
			jobs[name] = j
			res.seconds += j.seconds
			res.passed, res.skipped = res.passed+j.passed, res.skipped+j.skipped
		}
	}
	for name, j := range jobs {
		if j.name == "" {
			fail("%s/%s did not run", x.how, name)
		}
	}
	if show := jobs["show"]; show.name != "" {
		if err := json.Unmarshal([]byte(show.output), &res.facts); err != nil {
			fail("rseq show: status %d, %v\n%s", show.status, err, tool.Extract(show.output))
		}
	}
	if inspect := jobs["inspect"]; inspect.name != "" {
		if res.Inspect = inspect.status == 0; !res.Inspect && (inspect.status != 1 || !strings.Contains(inspect.output, "needs Linux 5.13")) {
			fail("rseq inspect: status %d\n%s", inspect.status, tool.Extract(inspect.output))
		}
	}
	if j := jobs["doctor"]; j.name != "" {
		if x.want.Sections && j.status != 0 {
			fail("%s: status %d: expected 0\n%s", j.name, j.status, tool.Extract(j.output))
		} else if !x.want.Sections && (j.status != 1 || !strings.Contains(j.output, refused)) {
			fail("%s: status %d: expected 1, and %q\n%s", j.name, j.status, refused, tool.Extract(j.output))
		}
	}
	for _, name := range tests {
		if j := jobs[name]; j.name != "" && (j.status != 0 || j.passed == 0) {
			fail("%s: status %d, %d tests passed: expected 0, and some\n%s", j.name, j.status, j.passed, tool.Extract(j.output))
		}
	}
	if res.facts.String() != x.want.String() {
		problems = slices.Insert(problems, 0, fmt.Sprintf("%v: expected %v, by vm/cells", res.facts, x.want))
	}
	if !debian.Satisfies(version(c.release), x.kernel.version) {
		problems = slices.Insert(problems, 0, fmt.Sprintf("the guest runs Linux %s: expected %s", c.release, x.kernel.version))
	}
	res.status, res.detail = ok, strings.Join(problems, "\n")
	if res.detail != "" {
		res.status = failed
	}
	return res
}

// version is the version in a kernel's release.
func version(release string) string {
	if i := strings.IndexFunc(release, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); i >= 0 {
		release = release[:i]
	}
	return release
}
