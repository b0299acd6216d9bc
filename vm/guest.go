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
	append         string // parameters for the kernel's command line
	triplet        string // the prefix of its compiler and the name of its library folder
	loader         string // the loader of dynamically linked programs
	linker         string // in place of the compiler's own, a command that Debian names its package after
}

var machines = map[string]machine{
	"amd64": {
		qemu: "qemu-system-x86_64", package_: "qemu-system-x86", args: []string{"-cpu", "max", "-smp", "2,sockets=2"}, // kernels without ACPI find both CPUs
		// The kernel's check of the clock and its parallel start of CPUs sometimes fail in an emulator.
		append:  "console=ttyS0 tsc=reliable cpuhp.parallel=0 reboot=t",
		triplet: "x86_64-linux-gnu", loader: "lib64/ld-linux-x86-64.so.2",
	},
	"arm64": {
		qemu: "qemu-system-aarch64", package_: "qemu-system-arm",
		args:    []string{"-M", "virt", "-cpu", "max,pauth-impdef=on", "-smp", "2"},
		append:  "console=ttyAMA0",
		triplet: "aarch64-linux-gnu", loader: "lib/ld-linux-aarch64.so.1",
	},
	"riscv64": {
		qemu: "qemu-system-riscv64", package_: "qemu-system-misc",
		args:    []string{"-M", "virt", "-smp", "2"},
		append:  "console=ttyS0",
		triplet: "riscv64-linux-gnu", loader: "lib/ld-linux-riscv64-lp64d.so.1",
		linker: "ld.lld-19", // GNU ld 2.40 ends with SIGSEGV for R_RISCV_SET_ULEB128, which libc.a has
	},
}

//go:embed init.sh
var initScript string

// writeInitramfs writes an archive of a folder, which the kernel unpacks.
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
		info, err := os.Stat(path) // follows links
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

// job is a job that a guest ran: a command, or the tests of a package.
type job struct {
	name            string // "static/test"
	status          int
	output          string
	seconds         float64
	passed, skipped int // tests
}

// console has what a guest printed on its console.
type console struct {
	at       func(where string) // called with the job and the test that run
	release  string             // of the kernel
	jobs     []job
	running  string // the job that runs
	test     string // the test that runs, as of the last minute
	done     bool
	silent   bool     // the guest was silent for too long
	last     []string // the lines since the last job began
	panicked string   // the kernel's line about its panic
}

// keptLines is the least number of lines of a console that are kept.
const keptLines = 400

// silence is the time after which a guest hangs that printed no line of init.sh, which prints one
// each minute. The time limits of the jobs are in init.sh.
var silence = 15 * time.Minute

// run boots a guest and reads its console until the guest ends or is silent for too long. It
// calls started with the name of each job that begins.
func (c *console) run(ctx context.Context, k kernel, image, initramfs, suite string, hows []string, started func(name string)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := machines[k.arch]
	nonce := "@" + rand.Text()
	args := append(slices.Clone(m.args), "-accel", "tcg", "-m", "768", "-nographic", "-no-reboot", "-nic", "none",
		"-kernel", image, "-initrd", initramfs, "-append",
		strings.Join(append([]string{m.append, k.append, "quiet", "loglevel=3", "panic=-1", "--", nonce, suite}, hows...), " "))
	if k.cpu != "" {
		args = append(args, "-cpu", k.cpu) // the last -cpu counts
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
		c.last = append(c.last, "(the console cannot be read further: "+err.Error()+")")
		io.Copy(io.Discard, stdout)
	}
	err = cmd.Wait()
	c.silent = silent.Load()
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w\n%s", m.qemu, err, stderr.String())
	}
	return nil
}

// read handles a line of the console and reports whether init.sh printed it.
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

// during says how far the guest got.
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

// why says why the guest ended early, with what it printed since the last job began.
func (c *console) why() string {
	why := "the guest ended by itself"
	if c.panicked != "" {
		why = c.panicked
	} else if c.silent {
		why = fmt.Sprintf("the guest said nothing for %v", silence)
	}
	why += ", " + c.during()
	if len(c.last) == 0 {
		return why + "; it printed nothing since then"
	}
	return why + "; it printed since then:\n" + tool.Extract(strings.Join(c.last, "\n"))
}

// refused is what doctor prints where critical sections may not run.
const refused = "FAIL  critical sections may run: not supported: "

// judge compares what the jobs of a cell printed with what the cell expects.
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
			fail("%s: status %d, %d tests passed: expected status 0, and at least one test\n%s", j.name, j.status, j.passed, tool.Extract(j.output))
		}
	}
	if res.facts.String() != x.want.String() {
		problems = slices.Insert(problems, 0, fmt.Sprintf("%v: vm/cells expects %v", res.facts, x.want))
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

// version returns the version in a kernel's release.
func version(release string) string {
	if i := strings.IndexFunc(release, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); i >= 0 {
		release = release[:i]
	}
	return release
}
