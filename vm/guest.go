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
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cavaliergopher/cpio"
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
	name    string // "dynamic/suite"
	status  int
	output  string
	seconds float64
}

// console is what a guest told on its console.
type console struct {
	release string // of the kernel
	jobs    []job
	running string // the job that began last and did not end
	done    bool
	lines   []string // all of it
}

// run boots a guest and reads what it tells until it ends or is out of time; each
// job is given to ended when it ends.
func (c *console) run(ctx context.Context, k kernel, image, initramfs, suite string, hows []string, ended func(job)) error {
	m := machines[k.arch]
	nonce := "@" + rand.Text()
	args := append(slices.Clone(m.args), "-accel", "tcg", "-m", "768", "-nographic", "-no-reboot", "-nic", "none",
		"-kernel", image, "-initrd", initramfs, "-append",
		strings.Join(append([]string{m.append, k.append, "quiet", "loglevel=3", "panic=-1", "--", nonce, suite}, hows...), " "))
	cmd := exec.CommandContext(ctx, m.qemu, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 10 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	scanner := bufio.NewScanner(stdout)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		c.read(nonce, strings.TrimRight(scanner.Text(), "\r"), ended)
	}
	io.Copy(io.Discard, stdout)
	if err := cmd.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w\n%s", m.qemu, err, stderr.String())
	}
	return nil
}

// read takes one line of the console.
func (c *console) read(nonce, line string, ended func(job)) {
	c.lines = append(c.lines, line)
	text, ours := strings.CutPrefix(line, nonce+" ")
	f := strings.Fields(text)
	switch {
	case !ours || len(f) == 0:
		if n := len(c.jobs); n > 0 && c.running != "" {
			c.jobs[n-1].output += line + "\n"
		}
	case f[0] == "boot" && len(f) == 2:
		c.release = f[1]
	case f[0] == "start" && len(f) == 2:
		c.running = f[1]
		c.jobs = append(c.jobs, job{name: f[1], status: -1})
	case f[0] == "end" && len(f) == 5 && f[1] == c.running:
		j := &c.jobs[len(c.jobs)-1]
		c.running = ""
		begin, _ := strconv.ParseFloat(f[3], 64)
		end, _ := strconv.ParseFloat(f[4], 64)
		j.seconds = end - begin
		if status, err := strconv.Atoi(f[2]); err == nil {
			j.status = status
		}
		ended(*j)
	case f[0] == "done":
		c.done = true
	}
}

// why says why a guest ended early, with the end of its console.
func (c *console) why(ctx context.Context) string {
	var b strings.Builder
	panicked := slices.IndexFunc(c.lines, func(l string) bool { return strings.Contains(l, "Kernel panic") })
	switch {
	case panicked >= 0:
		b.WriteString(c.lines[panicked])
	case ctx.Err() != nil:
		b.WriteString(context.Cause(ctx).Error())
	default:
		b.WriteString("the guest ended by itself")
	}
	switch {
	case c.running != "":
		b.WriteString(", while it ran " + c.running)
	case c.release == "":
		b.WriteString(", before its first process ran")
	}
	b.WriteString("; the end of its console:\n" + strings.Join(c.lines[max(0, len(c.lines)-40):], "\n"))
	return b.String()
}

// judge holds what a guest's jobs for a cell told against what is expected.
func (c *console) judge(want facts, how string) (got facts, problem string) {
	jobs := map[string]job{}
	for _, j := range c.jobs {
		if h, name, _ := strings.Cut(j.name, "/"); h == how {
			jobs[name] = j
		}
	}
	var problems []string
	fail := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	show := jobs["show"]
	if err := json.Unmarshal([]byte(show.output), &got); err != nil {
		fail("rseq show: status %d, %v\n%s", show.status, err, show.output)
	}
	switch inspect := jobs["inspect"]; {
	case inspect.status == 0:
		got.Inspect = true
	case inspect.status != 1 || !strings.Contains(inspect.output, "needs Linux 5.13"):
		fail("rseq inspect: status %d\n%s", inspect.status, inspect.output)
	}
	doctor := 1 // what is wrong is said
	if want.Sections {
		doctor = 0
	}
	tests := "suite"
	if how == "dynamic" {
		tests = "command"
	}
	for name, status := range map[string]int{"doctor": doctor, tests: 0} {
		if j, ran := jobs[name]; !ran {
			fail("%s/%s did not run", how, name)
		} else if j.status != status {
			fail("%s: status %d: expected %d\n%s", j.name, j.status, status, j.output)
		}
	}
	if got.String() != want.String() {
		problems = slices.Insert(problems, 0, fmt.Sprintf("%v: expected %v, by vm/cells", got, want))
	}
	return got, strings.Join(problems, "\n")
}
