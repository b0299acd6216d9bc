package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/rseq-go/rseq/internal/debian"
	"github.com/rseq-go/rseq/internal/tool"
)

// cache is the folder of what was fetched and built.
const cache = ".cache/vm"

// fetch fetches packages and returns the version of the first, which must be the version that
// vm/cells names.
func fetch(ctx context.Context, dir, named string, r debian.Request) (version string, err error) {
	packages, err := debian.Fetch(ctx, dir, r)
	for _, p := range packages {
		if p.Name != r.Names[0] {
			continue
		}
		version = p.Version
		if !debian.Satisfies(p.Upstream(), named) {
			err = fmt.Errorf("%s of Debian %s is %s: correct vm/cells, or remove %s if it is an old copy", p.Name, r.Suite, p.Version, dir)
		}
	}
	return version, err
}

var building sync.Mutex // held while a kernel is built: two may have the same source

// fetchKernel fetches or builds a kernel and returns the file of its image.
func fetchKernel(ctx context.Context, k kernel, task *tool.Task) (image string, err error) {
	if k.fromSource() {
		task.At("waiting for the build of another")
		building.Lock()
		task.At("")
		defer building.Unlock()
	}
	dir := filepath.Join(cache, "kernels", k.suite+"-"+k.package_)
	_, err = fetch(ctx, dir, k.version, debian.Request{Suite: k.suite, Arch: k.arch, Names: []string{k.package_},
		Follow: "^linux-(image|binary|source)-", Exclude: "*/kernel"})
	if err != nil {
		return "", fmt.Errorf("kernel %s: %w", k.name(), err)
	}
	pattern := "vmlinu[xz]*" // an image that is not compressed has an x
	if k.fromSource() {
		pattern = "linux-source-*.tar.xz"
	}
	err = filepath.WalkDir(filepath.Join(dir, "root"), func(path string, d fs.DirEntry, err error) error {
		if match, _ := filepath.Match(pattern, filepath.Base(path)); err == nil && match && d.Type().IsRegular() {
			image = path
		}
		return err
	})
	if err == nil && image == "" {
		err = errors.New("no file " + pattern + " in it")
	}
	if err == nil && k.fromSource() {
		task.Say("building it")
		image, err = buildKernel(ctx, image, dir)
	}
	if err != nil {
		return "", fmt.Errorf("kernel %s: package %s: %w; remove %s to fetch it again", k.name(), k.package_, err, dir)
	}
	return image, nil
}

// fromSource reports whether the kernel's package is a source package.
func (k kernel) fromSource() bool { return strings.HasPrefix(k.package_, "linux-source") }

//go:embed slice.config
var sliceConfig string

// buildScript builds the kernel IMAGE from the archive SOURCE with CONFIG, in a folder that it
// removes. An option that the source does not have is an error.
const buildScript = `set -e
source=$1 config=$2 image=$3
tree=${image%/*}/tree
trap 'rm -rf "$tree"' EXIT
trap 'exit 1' HUP INT TERM
rm -rf "$tree"
mkdir "$tree"
tar -xf "$source" -C "$tree" --strip-components 1
cd "$tree"
make -s KCONFIG_ALLCONFIG="$config" allnoconfig
grep '^CONFIG_' "$config" | while read -r option; do
	grep -qxF "$option" .config || { echo "this source does not take $option" >&2; exit 1; }
done
make -s -j"$(nproc)" bzImage
mv arch/x86/boot/bzImage "$image.part"
mv "$image.part" "$image"`

// buildKernel builds a kernel with the time slice extension from its source, unless an earlier
// run has built it.
func buildKernel(ctx context.Context, source, dir string) (image string, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	if source, err = filepath.Abs(source); err != nil {
		return "", err
	}
	image, config, made := filepath.Join(dir, "bzImage"), filepath.Join(dir, "config"), filepath.Join(dir, "made")
	recipe := source + "\n" + buildScript + "\n" + sliceConfig
	if before, err := os.ReadFile(made); err == nil && string(before) == recipe {
		return image, nil
	}
	if err := os.WriteFile(config, []byte(sliceConfig), 0o644); err != nil {
		return "", err
	}
	cmd := debian.Command(ctx, "sh", "-c", buildScript, "sh", source, config, image)
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", fmt.Errorf("building it (which needs make, gcc, flex, bison, bc, xz-utils, libelf-dev): %w\n%s", err, out)
	}
	return image, os.WriteFile(made, []byte(recipe), 0o644)
}

// system is a C library for an architecture, with busybox.
type system struct {
	libc
	arch    string
	dir     string // the unpacked packages
	version string // the C library's package version
}

func (s system) name() string { return s.libc.version + "-" + s.arch }

// fetchSystem fetches a C library and busybox.
func fetchSystem(ctx context.Context, l libc, arch string) (s system, err error) {
	dir := filepath.Join(cache, "libc", l.suite+"-"+arch)
	s.version, err = fetch(ctx, dir, l.version, debian.Request{Suite: l.suite, Arch: arch,
		Names: []string{"libc6", "libc6-dev", "linux-libc-dev", "busybox-static"}})
	if err != nil {
		return s, fmt.Errorf("glibc %s: %w", l.version, err)
	}
	root, err := filepath.Abs(filepath.Join(dir, "root"))
	if err != nil {
		return s, err
	}
	for _, link := range []string{"bin", "lib", "lib64"} { // which a package of the base system makes
		if err := os.Symlink("usr/"+link, filepath.Join(root, link)); err != nil && !errors.Is(err, fs.ErrExist) {
			return s, err
		}
	}
	s.libc, s.arch, s.dir = l, arch, root
	if m := machines[arch]; m.linker != "" { // the compiler takes what is called ld here
		path, err := exec.LookPath(m.linker)
		if err != nil {
			return s, err
		}
		ld := filepath.Join(root, "usr/lib", m.triplet, "ld")
		if err := os.Remove(ld); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
		return s, os.Symlink(path, ld)
	}
	return s, nil
}

// compiler returns the C compiler with the options for this system's headers and libraries.
func (s system) compiler() []string {
	triplet := machines[s.arch].triplet
	libraries, include := filepath.Join(s.dir, "usr/lib", triplet), filepath.Join(s.dir, "usr/include")
	return []string{triplet + "-gcc", "--sysroot=" + s.dir, "-B" + libraries, "-L" + libraries,
		"-isystem", filepath.Join(include, triplet), "-isystem", include}
}

var notWord = regexp.MustCompile(`\W`)

// build runs the go command, or this system's C compiler, for this system.
func (s system) build(ctx context.Context, env []string, args ...string) error {
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	cmd := debian.Command(ctx, args[0], args[1:]...)
	cmd.Env = append(append(os.Environ(), "GOOS=linux", "GOARCH="+s.arch, "CGO_ENABLED=1",
		"CC='"+strings.Join(s.compiler(), "' '")+"'",
		// The go command does not notice that the system's headers differ: with this flag
		// it compiles the C files for each system.
		"CGO_CPPFLAGS=-DRSEQ_GUEST="+notWord.ReplaceAllString(s.version, "_"), "CGO_CFLAGS=-O2 '-I"+here+"'"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("building for glibc %s, %s: %s: %w\n%s", s.libc.version, s.arch, strings.Join(args, " "), err, out)
	}
	return nil
}

// goPrograms are the Go programs of test/testdata that the tests run, and the command. cPrograms
// are the programs in C. Each is linked with the package's C files and assembly, except the
// files that match its pattern.
var (
	goPrograms = []string{"./cmd/rseq", "./test/testdata/threads", "./test/testdata/lifetime", "./test/testdata/filter", "./test/testdata/filtered", "./test/testdata/cuser", "./test/testdata/shared"}
	cPrograms  = map[string]string{"truth": "*", "points": "*", "fake": "[ago]*.c", "wrong": ""}
)

// buildDynamic builds the dynamically linked programs into root.
func (s system) buildDynamic(ctx context.Context, root string) error {
	const small = "-ldflags=-w"
	programs, dynamic := filepath.Join(root, "rseq/programs"), filepath.Join(root, "rseq/dynamic")
	err := errors.Join(
		s.build(ctx, nil, "go", "test", "-c", "-vet=off", small, "-o", filepath.Join(dynamic, "command.test"), "./cmd/rseq"),
		s.build(ctx, nil, "go", "build", small, "-o", filepath.Join(dynamic, "rseq"), "./cmd/rseq"),
		s.build(ctx, nil, append([]string{"go", "build", small, "-o", programs + "/"}, goPrograms...)...),
		s.build(ctx, []string{"CGO_CFLAGS=-O2 -Wa,--defsym,RSEQGO_INJECT=1"},
			"go", "test", "-c", "-vet=off", small, "-o", filepath.Join(programs, "injected"), "./test"))
	files, _ := filepath.Glob("*.c")
	sections, _ := filepath.Glob("cs_" + s.arch + ".[sS]")
	files = append(files, sections...)
	for name, without := range cPrograms {
		args := append(s.compiler(), "-O2", "-o", filepath.Join(programs, name), "test/testdata/"+name+".c")
		for _, f := range files {
			if match, _ := filepath.Match(without, f); !match {
				args = append(args, f)
			}
		}
		err = errors.Join(err, s.build(ctx, nil, append(args, "-ldl", "-lpthread")...))
	}
	return err
}

// buildStatic builds the statically linked programs into root.
func (s system) buildStatic(ctx context.Context, root string) error {
	const flags = "-ldflags=-linkmode=external -extldflags=-static -w"
	dir := filepath.Join(root, "rseq/static")
	return errors.Join(
		s.build(ctx, nil, "go", "test", "-c", "-vet=off", flags, "-o", filepath.Join(dir, "rseq.test"), "."),
		s.build(ctx, nil, "go", "test", "-c", "-vet=off", flags, "-o", filepath.Join(dir, "test.test"), "./test"),
		s.build(ctx, nil, "go", "test", "-c", "-vet=off", flags, "-o", filepath.Join(dir, "percpu.test"), "./percpu"),
		s.build(ctx, nil, "go", "build", flags, "-o", filepath.Join(dir, "rseq"), "./cmd/rseq"))
}

// guestRoot makes a guest's root folder with this C library, busybox, and the contents of
// dynamic, which were built with the oldest C library.
func (s system) guestRoot(ctx context.Context, root, dynamic string) error {
	m := machines[s.arch]
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if err := os.CopyFS(root, os.DirFS(dynamic)); err != nil {
		return err
	}
	libraries := filepath.Join("lib", m.triplet)
	for to, from := range map[string]string{
		m.loader:                 filepath.Join(libraries, filepath.Base(m.loader)),
		libraries + "/libc.so.6": libraries + "/libc.so.6",
		"bin/busybox":            "bin/busybox",
	} {
		data, err := os.ReadFile(filepath.Join(s.dir, from))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(to)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, to), data, 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(root, "init"), []byte(initScript), 0o755); err != nil {
		return err
	}
	const scripts = "cmd/rseq/testdata"
	if err := os.CopyFS(filepath.Join(root, "rseq/source", scripts), os.DirFS(scripts)); err != nil {
		return err
	}
	return s.buildStatic(ctx, root)
}

// images has the files that guests boot.
type images struct {
	gone      map[string]error  // by kernel, why an optional one is not available
	kernels   map[string]string // by kernel, the file
	initramfs map[string]string // by system, the file
	versions  map[string]string // by system, the version of the C library's package
}

// prepare fetches and builds what the cells need in the folder dir.
func prepare(ctx context.Context, m matrix, cells []cell, dir string, says *tool.Progress) (images, error) {
	im := images{map[string]error{}, map[string]string{}, map[string]string{}, map[string]string{}}
	var (
		mutex sync.Mutex // of im and errs
		wait  sync.WaitGroup
		errs  []error
		archs []string
		limit = make(chan struct{}, 4)
	)
	start := func(name string, f func(task *tool.Task) error) {
		wait.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			if ctx.Err() != nil {
				return
			}
			task := says.Begin(name)
			err := f(task)
			task.End()
			if err != nil {
				mutex.Lock()
				defer mutex.Unlock()
				errs = append(errs, err)
			} else {
				says.Line("%s: ready", name)
			}
		})
	}
	for _, c := range cells {
		if slices.Contains(archs, c.kernel.arch) {
			continue
		}
		archs = append(archs, c.kernel.arch)
		start("programs for "+c.kernel.arch, func(task *tool.Task) error {
			return prepareArch(ctx, m, cells, c.kernel.arch, dir, task, func(s system, initramfs string) {
				mutex.Lock()
				defer mutex.Unlock()
				im.initramfs[s.name()], im.versions[s.name()] = initramfs, s.version
			})
		})
	}
	for _, k := range m.kernels {
		if !slices.ContainsFunc(cells, func(c cell) bool { return c.kernel == k }) {
			continue
		}
		start("kernel "+k.name(), func(task *tool.Task) error {
			image, err := fetchKernel(ctx, k, task)
			mutex.Lock()
			defer mutex.Unlock()
			if err != nil && k.when == optional && ctx.Err() == nil {
				im.gone[k.name()] = err
				return nil
			}
			im.kernels[k.name()] = image
			return err
		})
	}
	wait.Wait()
	return im, errors.Join(errs...)
}

// prepareArch makes the initramfs of each C library that cells of an architecture need, and
// calls made with it.
func prepareArch(ctx context.Context, m matrix, cells []cell, arch, dir string, task *tool.Task, made func(s system, initramfs string)) error {
	dynamic := filepath.Join(dir, "dynamic-"+arch)
	oldest := true
	for _, l := range m.libcs {
		of := func(c cell) bool { return c.libc == l && c.kernel.arch == arch }
		needed := slices.ContainsFunc(cells, of)
		if !slices.ContainsFunc(m.cells, of) || !oldest && !needed {
			continue
		}
		task.Say("fetching glibc %s", l.version)
		s, err := fetchSystem(ctx, l, arch)
		if err == nil && oldest {
			task.Say("building the dynamically linked programs with glibc %s", l.version)
			err = s.buildDynamic(ctx, dynamic)
		}
		if err != nil {
			return err
		}
		oldest = false
		if !needed {
			continue
		}
		task.Say("building the statically linked programs with glibc %s", l.version)
		root := filepath.Join(dir, s.name())
		if err := s.guestRoot(ctx, root, dynamic); err != nil {
			return err
		}
		if err := writeInitramfs(root+".cpio", root); err != nil {
			return fmt.Errorf("writing the initramfs: %w", err)
		}
		made(s, root+".cpio")
	}
	return nil
}
