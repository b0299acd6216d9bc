package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rseq-go/rseq/internal/tool"
)

func TestRows(t *testing.T) {
	rows, err := parseRows(rowsFile)
	if err != nil || len(rows) < 6 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for text, want := range map[string]string{
		"a glibc-2.41 i s libc":                                            "docker/rows:1: 5 fields: expected row, libc, image, suite, owner, size, tests",
		"\n# x\na uclibc i s libc any short":                               `docker/rows:3: libc "uclibc": expected glibc-VERSION or musl`,
		"a glibc- i s libc any short":                                      `libc "glibc-"`,
		"a musl i s kernel any short":                                      `owner "kernel": expected libc or self`,
		"a musl i s self 32 long":                                          `tests "long": expected full or short`,
		"a musl i s self 12 short":                                         `size "12": expected any or bytes from 20`,
		"a glibc-2.41 i s libc any short\nb glibc-2.36 i s libc any short": "expected the oldest glibc first",
		"a musl i s self any short\na musl i s self 32 short":              "docker/rows:2: row a is there twice",
	} {
		if _, err := parseRows(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

func TestRowNames(t *testing.T) {
	for _, c := range []struct {
		libc, is string
		want     bool
	}{
		{"glibc-2.43+", "glibc-2.43", true}, {"glibc-2.43+", "glibc-2.44", true}, {"glibc-2.43+", "glibc-2.41", false},
		{"glibc-2.36", "glibc-2.36", true}, {"glibc-2.36", "glibc-2.37", false}, {"glibc-2.43+", "musl", false},
		{"musl", "musl", true}, {"musl", "glibc-2.43", false},
	} {
		if (row{Libc: c.libc}).names(c.is) != c.want {
			t.Errorf("%s names %s: %v", c.libc, c.is, !c.want)
		}
	}
}

func TestWant(t *testing.T) {
	all := columns(row{Name: "oldest"})
	column := func(name string) column {
		for _, c := range all {
			if c.name == name {
				return c
			}
		}
		t.Fatal("no column", name)
		panic(name)
	}
	glibc, newer, musl := row{Owner: "libc", Size: 32}, row{Owner: "libc"}, row{Owner: "self", Libc: "musl"}
	for _, c := range []struct {
		row    row
		column string
		kernel uint32
		owner  string
		size   uint32
	}{
		{glibc, "default", 0, "libc", 20}, {glibc, "default", 28, "libc", 28}, {glibc, "default", 33, "libc", 32},
		{newer, "static", 33, "libc", 33}, {glibc, "tunable-off", 33, "self", 33}, {musl, "pie", 28, "self", 28},
		{newer, "enosys", 28, "none", 0}, {musl, "no-cgo", 28, "none", 0},
	} {
		if owner, size := (cell{c.row, column(c.column)}).want(c.kernel); owner != c.owner || size != c.size {
			t.Errorf("%+v: %s %d", c, owner, size)
		}
	}
	if (cell{musl, column("c-shared")}).impossible() == "" || (cell{glibc, column("c-shared")}).impossible() != "" {
		t.Error("c-shared is impossible on musl alone")
	}
}

func TestSelect(t *testing.T) {
	rows, _ := parseRows(rowsFile)
	all := columns(rows[0])
	for only, want := range map[string]int{"": len(rows) * len(all), "musl": len(all), "pie": len(rows), "musl/pie,musl/race": 2, "musl/pie,musl": len(all)} {
		if cells, err := selectCells(rows, all, only); err != nil || len(cells) != want {
			t.Errorf("-only %q: %d cells, %v, want %d", only, len(cells), err, want)
		}
	}
	for _, only := range []string{"woody", "musl/woody", "pie/musl"} {
		if _, err := selectCells(rows, all, only); err == nil || !strings.Contains(err.Error(), only) || !strings.Contains(err.Error(), "bullseye") {
			t.Errorf("-only %s: %v", only, err)
		}
	}
	if _, err := required(rows, "musl,woody"); err == nil || !strings.Contains(err.Error(), "woody") {
		t.Errorf("-require: %v", err)
	}
}

func TestREADME(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/matrix.md")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("../docs/matrix.json")
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	if r.rows, err = parseRows(rowsFile); err != nil {
		t.Fatal(err)
	}
	r.columns = columns(r.rows[0])
	if r.page() != string(page) {
		t.Error("docs/matrix.md is not what docs/matrix.json says: go run ./docker")
	}
	if changed, err := tool.Between(string(readme), tableBegin, r.table(), tableEnd); err != nil || changed != string(readme) {
		t.Errorf("README.md's table is not what docs/matrix.json says (%v): go run ./docker", err)
	}
}

// fakeEngine puts a docker command into PATH that does what the script says; the
// functions cell, base and so on are what it is asked. It returns a log of calls.
func fakeEngine(t *testing.T, script string) (log func() string) {
	t.Helper()
	dir := t.TempDir()
	calls := filepath.Join(dir, "calls")
	full := "#!/bin/sh\necho \"$*\" >> " + calls + "\n" +
		"version() { echo 27.0; }; image() { :; }; ps() { :; }; rm() { :; }; pull() { echo 'no such host' >&2; exit 1; }\n" +
		"base() { echo 'glibc 2.36'; }; build() { :; }; cell() { echo 'step suite'; echo 'matrix: {\"owner\":\"libc\",\"size\":'$SIZE'}'; }\n" +
		script + "\n" +
		"case \"$*\" in run*getconf*) base;; run*/out*) build;; run*) cell \"$@\";; *) \"$@\";; esac\n"
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(full), 0o755); err != nil {
		t.Fatal(err)
	}
	mmdebstrap := "#!/bin/sh\nyes | head -c 1000000\n[ -z \"" + map[bool]string{true: "1"}[strings.Contains(script, "MMDEBSTRAP")] + "\" ] || exit 3\n"
	if err := os.WriteFile(filepath.Join(dir, "mmdebstrap"), []byte(mmdebstrap), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("RSEQ_DEBIAN_MIRROR", "none")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	_, size := (cell{row: row{Owner: "libc", Size: 32}}).want(kernelSize())
	t.Setenv("SIZE", fmt.Sprint(size))
	return func() string {
		data, _ := os.ReadFile(calls)
		return string(data)
	}
}

func TestRun(t *testing.T) {
	t.Chdir("..")
	for name, c := range map[string]struct {
		script, only, require string
		passed                bool
		err, says             string
	}{
		"passes":            {"", "bookworm/pie", "bookworm", true, "", "bookworm/pie"},
		"wrong owner":       {`cell() { echo 'matrix: {"owner":"self","size":28}'; }`, "bookworm/pie", "", false, "", "failed: bookworm/pie: bookworm/pie: owner self with 28 bytes: expected libc with "},
		"wrong size":        {"SIZE=99", "bookworm/pie", "", false, "", "owner libc with 99 bytes: expected libc with "},
		"program crashes":   {"cell() { echo 'matrix: '; }", "bookworm/enosys", "", false, "", "bookworm/enosys: owner  with 0 bytes: expected none"},
		"nothing said":      {"cell() { :; }", "bookworm/pie", "", false, "", "expected libc"},
		"tests fail":        {"cell() { echo step suite; echo '--- FAIL: TestX'; exit 1; }", "bookworm/pie", "", false, "", "bookworm/pie: step suite: exit status 1"},
		"wrong libc":        {"base() { echo 'glibc 2.41'; }", "bookworm/pie", "", false, "", "row bookworm, base image: rseq-matrix-bookworm"},
		"cannot be built":   {"build() { echo 'gcc: no space left on device' >&2; exit 1; }", "bookworm/pie", "", false, "", "row bookworm, build: docker run: the disk is full"},
		"not available":     {"image() { exit 1; }", "almalinux9/pie", "", true, "", "not available"},
		"required":          {"image() { exit 1; }", "almalinux9/pie", "almalinux9", false, "", "required, and not there: row almalinux9: row almalinux9: not available: almalinux:9 cannot be pulled"},
		"required, not run": {"", "bookworm/pie", "trixie", false, "", "required, and not there: row trixie: no cell of it was to run"},
		"setup fails":       {"image() { exit 1; }; pull() { :; }; cell() { echo 'no package manager' >&2; exit 1; }", "almalinux9/pie", "", false, "", "row almalinux9, installing a compiler: docker run"},
		"import fails":      {"image() { exit 1; }; import() { echo 'write: no space left on device' >&2; exit 1; }", "musl/pie", "", false, "", "row musl, base image: docker import: the disk is full"},
		"bootstrap fails":   {"MMDEBSTRAP=1; image() { exit 1; }; import() { cat >/dev/null; }; rmi() { :; }", "musl/race", "", false, "", "row musl, base image: mmdebstrap: exit status 3"},
		"no such cell":      {"", "woody", "", false, "-only woody: no such row or column", ""},
		"no permission":     {"version() { echo 'permission denied while trying to connect to the docker daemon socket' >&2; exit 1; }", "bookworm/pie", "", false, "no permission on the engine's socket", ""},
		"no engine":         {"version() { echo 'Cannot connect to the Docker daemon' >&2; exit 1; }", "bookworm/pie", "", false, "no Docker Engine answers: start it", ""},
		"dies in the middle": {`D=$(dirname "$0"); cell() { touch $D/dead; echo 'error during connect: EOF' >&2; exit 125; }; version() { [ ! -e $D/dead ] && echo 27 || { echo 'Cannot connect to the Docker daemon' >&2; exit 1; }; }`,
			"bookworm/pie", "", false, "the engine died; the results so far are above", "bookworm/pie"},
	} {
		t.Run(name, func(t *testing.T) {
			log := fakeEngine(t, c.script)
			var out, progress bytes.Buffer
			passed, err := run(context.Background(), options{only: c.only, require: c.require, jobs: 1}, nil, &out, &progress)
			if passed != c.passed || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("passed %v, error %v; want %v, %q", passed, err, c.passed, c.err)
			}
			if !strings.Contains(out.String()+progress.String(), c.says) {
				t.Errorf("it says\n%s%s\nand not %q", out.String(), progress.String(), c.says)
			}
			if strings.Contains(log(), "getconf") && !strings.Contains(log(), "ps --all --quiet --filter label=rseq-matrix=") {
				t.Errorf("it did not look for containers that are left:\n%s", log())
			}
		})
	}
}

// TestInterrupted: the results so far are shown, and no container is left.
func TestInterrupted(t *testing.T) {
	t.Chdir("..")
	log := fakeEngine(t, "cell() { exec sleep 60; }; ps() { echo abc; }")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for ctx.Err() == nil && !strings.Contains(log(), "-bookworm-pie ") {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	}()
	var out, progress bytes.Buffer
	passed, err := run(ctx, options{only: "bookworm/pie,bookworm/race", jobs: 2}, nil, &out, &progress)
	if passed || err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("passed %v, error %v", passed, err)
	}
	if !strings.Contains(log(), "rm --force abc") {
		t.Errorf("the containers stay:\n%s", log())
	}
	if !strings.Contains(out.String(), "bookworm") {
		t.Errorf("no results so far:\n%s", out.String())
	}
}

func TestNoDocker(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := serverVersion(context.Background()); err == nil || !strings.Contains(err.Error(), "there is no docker command: install a Docker Engine") {
		t.Error(err)
	}
}
