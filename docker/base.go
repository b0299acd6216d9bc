package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/rseq-go/rseq/internal/debian"
	"github.com/rseq-go/rseq/internal/tool"
)

// tag returns the name of a row's base image. It has a hash of how the image is made.
func (r row) tag() string {
	sum := sha256.Sum256([]byte(strings.Join([]string{r.Image, r.Suite, packages(r), setup}, "\n")))
	return fmt.Sprintf("rseq-matrix-%s:%x", r.Name, sum[:4])
}

// packages returns the packages that a Debian image is built with.
func packages(r row) string {
	if r.musl() {
		return "gcc,libc6-dev,musl-tools"
	}
	return "gcc,libc6-dev"
}

// setup installs a C compiler in a pulled image.
const setup = `set -e
if command -v apt-get; then apt-get update; DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends gcc libc6-dev
elif command -v dnf; then dnf install -y --enablerepo='*crb*' gcc glibc-devel glibc-static
elif command -v apk; then apk add gcc musl-dev
else echo "no package manager that is known here"; exit 1
fi`

// errUnavailable says that a base image can be neither pulled nor built.
var errUnavailable = errors.New("not available")

// baseImage makes the row's image, unless the engine has it, and checks that it has the C
// library that the row names.
func (m *matrix) baseImage(ctx context.Context, r row, task *tool.Task) error {
	if !haveImage(ctx, r.tag()) {
		if err := m.makeImage(ctx, r, task); ctx.Err() != nil {
			return context.Cause(ctx)
		} else if err != nil {
			return fmt.Errorf("row %s%w", r.Name, err)
		}
	}
	is, err := docker(ctx, "run", "--rm", "--network", "none", "--label", m.label, r.tag(), "sh", "-c",
		"if command -v musl-gcc >/dev/null || ls /lib/ld-musl-* >/dev/null 2>&1; then echo musl; else getconf GNU_LIBC_VERSION; fi")
	if err != nil {
		return fmt.Errorf("row %s, base image: %w", r.Name, err)
	}
	if is = strings.ReplaceAll(is, " ", "-"); !r.names(is) {
		return fmt.Errorf("row %s, base image: %s has %s: expected %s; correct docker/rows, or remove the image", r.Name, r.tag(), is, r.Libc)
	}
	return nil
}

// makeImage makes the row's base image: from the image that the row names, pulled if the engine
// does not have it, or from Debian's packages. The text of an error follows "row NAME". Its
// first line says nothing about this machine, since the page shows it.
func (m *matrix) makeImage(ctx context.Context, r row, task *tool.Task) error {
	why, said := "no image is named", "" // said is about this machine
	if r.Image != none {
		var err error
		if haveImage(ctx, r.Image) {
			task.Say("%s is here", r.Image)
		} else {
			task.Say("pulling %s", r.Image)
			why = r.Image + " is not here, and cannot be pulled"
			_, err = docker(ctx, "pull", "--quiet", r.Image)
		}
		if err == nil {
			task.Say("installing a compiler in %s", r.Image)
			if err = m.setUp(ctx, r); err == nil {
				return nil
			}
			if r.Suite == none {
				return fmt.Errorf(", installing a compiler: %w", err)
			}
			why = "no compiler can be installed in " + r.Image
		}
		said = "\n" + err.Error()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if r.Suite == none {
		return fmt.Errorf(": %w: %s, and docker/rows names no Debian suite to build it of%s", errUnavailable, why, said)
	}
	task.Say("building the base image of Debian's %s (%s)", r.Suite, oneLine(why+said))
	if err := bootstrap(ctx, r); err != nil {
		return fmt.Errorf(", base image: %w\nbefore that: %s%s", err, why, said)
	}
	return nil
}

// oneLine returns a text with its lines joined.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// setUp makes the row's base image from the pulled one.
func (m *matrix) setUp(ctx context.Context, r row) error {
	name := m.container(r.Name + "-setup")
	defer docker(context.WithoutCancel(ctx), "rm", "--force", name)
	if _, err := docker(ctx, "run", "--name", name, "--label", m.label, r.Image, "sh", "-c", setup); err != nil {
		return err
	}
	_, err := docker(ctx, "commit", name, r.tag())
	return err
}

// bootstrap builds the row's image from Debian's packages.
func bootstrap(ctx context.Context, r row) error {
	mirror, err := debian.Mirror(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnavailable, err)
	}
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		return fmt.Errorf("%w: there is no mmdebstrap, which builds it from Debian's packages: install it", errUnavailable)
	}
	first, preferred, two := strings.Cut(r.Suite, "+")
	args := []string{"--quiet", "--variant=essential", "--include=" + packages(r),
		// Mirrors may lag behind suites that change every day.
		`--aptopt=Acquire::Check-Valid-Until "false"`}
	if two {
		args = append(args, `--aptopt=APT::Default-Release "`+preferred+`"`)
	}
	args = append(args, first, "-", "deb "+mirror+" "+first+" main")
	if two {
		args = append(args, "deb "+mirror+" "+preferred+" main")
	}
	build := exec.CommandContext(ctx, "mmdebstrap", args...)
	load := command(ctx, "import", "-", r.tag())
	var buildSaid, loadSaid bytes.Buffer
	build.Stderr, load.Stderr = &buildSaid, &loadSaid
	build.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	build.Cancel = func() error { return build.Process.Signal(os.Interrupt) } // then it removes its tree
	build.WaitDelay = 30 * time.Second
	pipe, err := build.StdoutPipe()
	if err != nil {
		return err
	}
	load.Stdin = pipe
	if err := load.Start(); err != nil {
		return err
	}
	if err := build.Start(); err != nil {
		return err
	}
	pipe.Close() // else mmdebstrap would never notice that the import has ended
	loadErr, buildErr := load.Wait(), build.Wait()
	switch {
	case loadErr != nil:
		return fmt.Errorf("docker import: %w", explain(ctx, loadErr, loadSaid.String()))
	case buildErr != nil:
		docker(context.WithoutCancel(ctx), "rmi", r.tag()) // it has half a tree
		return fmt.Errorf("mmdebstrap: %w", explain(ctx, buildErr, buildSaid.String()))
	}
	return nil
}
