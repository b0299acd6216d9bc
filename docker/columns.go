package main

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/rseq-go/rseq/internal/abi"
)

// column is a way of building or running. Every row has the same columns.
type column struct {
	name, about string
	flags       string   // of go test
	linked      bool     // TestBuildModes/NAME builds and runs a program in this way
	library     bool     // that program is in C, and Go in a library: no other tests are built so
	command     bool     // also runs the tests of the command rseq
	percpu      bool     // also runs the tests of package percpu
	env         []string // of the container
	options     []string // of docker run
	owner       string   // the owner of the areas, if it is not the row's
	// impossible says why the column does not work on musl.
	impossible string
	// special is a script that runs in place of the tests.
	special func(c cell) string
}

const external = `-ldflags='-linkmode=external -extldflags=`

// timeLimit ends tests that hang, and names the test. They take about a minute on an idle
// machine.
const timeLimit = "-test.timeout 1h"

// columns returns all columns. oldest is the row whose image builds the column "old".
func columns(oldest row) []column {
	return []column{
		{name: "default", about: "linked as the go command does without flags; all tests where docker/rows says full, except those that other columns run or that do not depend on the C library", linked: true, command: true, percpu: true},
		{name: "pie", about: "-buildmode=pie", flags: "-buildmode=pie", linked: true},
		{name: "static", about: "linked with -static", flags: external + "-static'", linked: true, percpu: true},
		{name: "static-pie", about: "linked with -static-pie", flags: "-buildmode=pie " + external + "-static-pie'", linked: true},
		{name: "c-shared", about: "in a library that a C program loads", library: true,
			impossible: "musl cannot load a Go library"},
		{name: "c-archive", about: "linked into a C program; runs no other tests", library: true,
			impossible: "a Go archive crashes on musl"},
		{name: "race", about: "with the race detector", flags: "-race", linked: true, percpu: true},
		{name: "tunable-off", about: "GLIBC_TUNABLES=glibc.pthread.rseq=0", env: []string{"GLIBC_TUNABLES=glibc.pthread.rseq=0"}, owner: "self", percpu: true},
		{name: "no-cgo", about: "CGO_ENABLED=0", owner: "none", command: true, percpu: true},
		{name: "enosys", about: "the engine's seccomp profile answers ENOSYS to rseq(2)", options: []string{"--security-opt", "seccomp=" + enosysPath}, owner: "none", command: true, percpu: true},
		{name: "unprivileged", about: "a read-only root, and a user without privileges", options: []string{"--read-only", "--user", "65534:65534"}, command: true},
		{name: "one-cpu", about: "--cpuset-cpus with one CPU", options: []string{"--cpuset-cpus", oneCPU()}, percpu: true},
		{name: "old", about: "test programs and command that were built on " + oldest.Name, special: oldScript(oldest),
			impossible: "musl does not start programs for glibc"},
		{name: "headers", about: "the image's headers agree with the generated ones; runs no tests", special: headersScript,
			impossible: "musl has no header about rseq"},
	}
}

func columnNames(columns []column) (names []string) {
	for _, c := range columns {
		names = append(names, c.name)
	}
	return names
}

// cell is a row in a column.
type cell struct {
	row
	column column
}

// findsOwner reports whether the cell finds out who owns the areas.
func (c cell) findsOwner() bool { return c.column.name != "headers" }

func (c cell) name() string { return c.row.Name + "/" + c.column.name }

// full reports whether the cell runs all tests, without -short.
func (c cell) full() bool { return c.Full && c.column.name == "default" }

// want returns the owner and the size that the areas must have in this cell, on a kernel with
// that feature size.
func (c cell) want(kernel uint32) (owner string, size uint32) {
	owner, size = c.Owner, max(kernel, abi.OriginalFeatureSize) // the kernel says zero before Linux 6.3
	if c.column.owner != "" {
		owner = c.column.owner
	}
	switch {
	case owner == "none":
		size = 0
	case owner == "libc" && c.Size > 0:
		size = min(size, c.Size)
	}
	return owner, size
}

// impossible says why the cell cannot work, or returns "".
func (c cell) impossible() string {
	if c.musl() {
		return c.column.impossible
	}
	return ""
}

// Folders in the container.
const (
	sourceMount = "/src"
	cacheMount  = "/cache" // Go's build cache, shared by all containers
	toolMount   = "/tools" // what was built before: gen, and a folder for each row
	// Not the host's paths, which an unprivileged user may not be able to read.
	gorootMount  = "/goroot"
	modulesMount = "/modules"
)

// script returns the script that the cell's container runs. Lines of its output that begin
// with "step " or have "matrix: " are read by this tool.
func (c cell) script(kernel uint32) string {
	owner, _ := c.want(kernel)
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	b.WriteString(c.prelude())
	p("export RSEQ_WANT_OWNER=%s", owner)
	if c.column.special != nil {
		p("%s", c.column.special(c))
		return b.String()
	}
	dir := built(c.row)
	if c.column.name == "no-cgo" {
		dir += "/no-cgo"
	}
	tests, suite := dir, "-test.short" // the folder of the tests, and which of them run
	if c.column.flags != "" {
		tests = "/tmp"
		packages := ". ./test"
		if c.column.percpu {
			packages += " ./percpu"
		}
		p("echo step build\ngo test -c -vet=off %s -o /tmp/ %s", c.column.flags, packages)
	}
	switch {
	case c.full():
		suite = "-test.skip '" + elsewhere + "'"
	case c.column.name == "c-shared":
		suite = "-test.run '" + ofLibraries + "'"
	case c.column.library:
		suite = "" // no test runs
	}
	p("echo step suite")
	if suite != "" {
		if !c.column.library {
			p("%s/rseq.test %s %s", tests, suite, timeLimit)
		}
		p("(cd test; %s/test.test %s %s)", tests, suite, timeLimit)
	}
	if c.column.percpu {
		p("(cd percpu; %s/percpu.test -test.short %s)", tests, timeLimit)
	}
	if c.column.command {
		p("(cd cmd/rseq; %s/command.test -test.short %s)", dir, timeLimit)
	}
	p("echo step program")
	switch {
	case c.column.linked || c.column.library:
		p("(cd test; %s/test.test -test.v -test.run '^TestBuildModes$/^%s$')", tests, c.column.name)
	case c.column.owner == "none":
		p("echo \"matrix: $(%s/rseq show --json | tr -d '\\n')\"", dir)
	default:
		p("%s/rseq doctor --stress", dir)
		p("echo \"matrix: $(%s/rseq show --json | tr -d '\\n')\"", dir)
	}
	return b.String()
}

// prelude is the beginning of every script: the folder and the C compiler.
func (r row) prelude() string {
	text := "set -e; umask 0; cd " + sourceMount + "\n"
	if r.musl() {
		text += "if command -v musl-gcc >/dev/null; then export CC=musl-gcc; fi\n"
	}
	return text
}

// built returns the folder of what buildScript built in a row's image.
func built(r row) string { return toolMount + "/" + r.Name }

// buildScript builds the tests and the command by the image's compiler, and again without cgo.
const buildScript = `for cgo in 1 0; do
	export CGO_ENABLED=$cgo
	out=/out; [ $cgo = 1 ] || out=/out/no-cgo
	mkdir -p $out
	go test -c -vet=off -o $out/ . ./test ./percpu
	go test -c -vet=off -o $out/command.test ./cmd/rseq
	go build -o $out/rseq ./cmd/rseq
done`

// ofLibraries are the tests of C programs with Go in a library.
const ofLibraries = "TestConstructorCallsGo|TestManyThreadsBeforeDlopen|TestStaticTLS"

// elsewhere are the tests that other columns run, and those that do not depend on the C
// library.
const elsewhere = ofLibraries + "|TestBuildModes|TestCrossBuilds|TestInjected|TestELF|TestTwoVersions"

// headersScript runs gen on the image's own headers.
func headersScript(cell) string {
	return fmt.Sprintf(`echo step headers
glibc=$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)
linux=$(awk '/LINUX_VERSION_CODE/ { print int($3/65536) "." int($3/256)%%256 }' /usr/include/linux/version.h)
grep -q "^$glibc[[:space:]]" gen/versions || { echo "matrix: not recorded"; exit 0; }
%s/gen -check "$glibc/$linux/%s=/"
echo 'matrix: agree'`, toolMount, runtime.GOARCH)
}

// oldScript runs what was built in the oldest image, and compares what it prints with what the
// row's own build prints.
func oldScript(oldest row) func(cell) string {
	return func(c cell) string {
		return fmt.Sprintf(`echo step suite
%[1]s/rseq.test -test.short %[3]s
(cd test; %[1]s/test.test -test.short %[3]s)
(cd percpu; %[1]s/percpu.test -test.short %[3]s)
echo step program
%[1]s/rseq show --json > /tmp/old.json
%[2]s/rseq show --json > /tmp/new.json
for key in owner offset size registered_len; do
	old=$(grep "\"$key\":" /tmp/old.json); new=$(grep "\"$key\":" /tmp/new.json)
	[ "$old" = "$new" ] || { echo "built on the oldest image: $old; built here: $new"; exit 1; }
done
echo "matrix: $(tr -d '\n' < /tmp/old.json)"`, built(oldest), built(c.row), timeLimit)
	}
}
