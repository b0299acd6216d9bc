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

// TestPage: the page is what was recorded.
func TestPage(t *testing.T) {
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
}

// fakeEngine puts a docker command into PATH that runs the script, whose functions cell, base
// and so on stand for the calls. It returns a log of the calls.
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
		"wrong owner":       {`cell() { echo 'matrix: {"owner":"self","size":28}'; }`, "bookworm/pie", "", false, "", "failed: bookworm/pie: bookworm/pie: owner self with 28 bytes of fields: expected libc with "},
		"wrong size":        {"SIZE=99", "bookworm/pie", "", false, "", "owner libc with 99 bytes of fields: expected libc with "},
		"program crashes":   {"cell() { echo 'matrix: '; }", "bookworm/enosys", "", false, "", "bookworm/enosys: owner  with 0 bytes of fields: expected none"},
		"nothing said":      {"cell() { :; }", "bookworm/pie", "", false, "", "expected libc"},
		"tests fail":        {"cell() { echo step suite; echo '--- FAIL: TestX'; exit 1; }", "bookworm/pie", "", false, "", "bookworm/pie: step suite: exit status 1"},
		"wrong libc":        {"base() { echo 'glibc 2.41'; }", "bookworm/pie", "", false, "", "row bookworm, base image: rseq-matrix-bookworm"},
		"cannot be built":   {"build() { echo 'gcc: no space left on device' >&2; exit 1; }", "bookworm/pie,bookworm/race", "", false, "", "row bookworm, build: docker run: the disk is full"},
		"not available":     {"image() { exit 1; }", "almalinux9/pie", "", false, "", "\nrow almalinux9: not available: almalinux:9 is not here, and cannot be pulled, and docker/rows names no Debian suite to build it of; docker pull: exit status 1; no such host\n"},
		"required":          {"image() { exit 1; }", "almalinux9/pie", "almalinux9", false, "", "row almalinux9 is required and was not tried: row almalinux9: not available: almalinux:9 is not here, and cannot be pulled"},
		"is here":           {`image() { case "$*" in *almalinux:9) ;; *) exit 1 ;; esac; }; commit() { :; }; base() { echo 'glibc 2.34'; }`, "almalinux9/pie", "", true, "", "row almalinux9: almalinux:9 is here\n"},
		"no compiler":       {`image() { case "$*" in *debian:bookworm) ;; *) exit 1 ;; esac; }; cell() { echo 'no network' >&2; exit 1; }; import() { cat >/dev/null; }`, "bookworm/pie", "", false, "", "row bookworm: building the base image of Debian's bookworm (no compiler can be installed in debian:bookworm; docker run: exit status 1; no network)\n"},
		"time is out":       {"cell() { echo step suite; printf 'panic: test timed out after 1h0m0s\n\trunning tests:\n\t\tTestSlow (59m0s)\n'; seq 100; exit 2; }", "bookworm/pie", "", false, "", "bookworm/pie: step suite: exit status 2\n\tpanic: test timed out after 1h0m0s\n\t\trunning tests:\n\t\t\tTestSlow (59m0s)\n\t[...]\n\t61\n"},
		"a test's words":    {"cell() { echo step suite; echo 'permission denied: sock'; exit 1; }", "bookworm/pie", "", false, "", "step suite: exit status 1\n\tstep suite\n\tpermission denied: sock"},
		"required, not run": {"", "bookworm/pie", "trixie", false, "", "row trixie is required and was not tried: no cell of it was to run"},
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
			if strings.Contains(c.says, " is here") && strings.Contains(log(), "\npull ") {
				t.Errorf("it pulls:\n%s", log())
			}
			if n := strings.Count(progress.String(), "no space left"); n > 1 {
				t.Errorf("the same %d times:\n%s", n, progress.String())
			}
			if strings.Contains(log(), "getconf") && !strings.Contains(log(), "ps --all --quiet --filter label=rseq-matrix=") {
				t.Errorf("it did not look for containers that are left:\n%s", log())
			}
		})
	}
}

// TestInterrupted: an interrupted run shows the results so far, and removes its containers.
func TestInterrupted(t *testing.T) {
	t.Chdir("..")
	for name, script := range map[string]string{
		"cells": "cell() { exec sleep 1000; }", "the build": "build() { exec sleep 1000; }",
		// The docker command may get the signal, and end, before this tool.
		"no group": `cell() { [ "$(cut -d ' ' -f 5 /proc/$$/stat)" = $$ ] || exit 130; exec sleep 1000; }`,
	} {
		t.Run(name, func(t *testing.T) {
			log := fakeEngine(t, script+"; ps() { echo abc; }")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				for ctx.Err() == nil && !strings.Contains(log(), map[bool]string{true: "-bookworm-build ", false: "-bookworm-pie "}[name == "the build"]) {
					time.Sleep(10 * time.Millisecond)
				}
				cancel()
			}()
			var out, progress bytes.Buffer
			passed, err := run(ctx, options{only: "bookworm/pie,bookworm/race", jobs: 2}, nil, &out, &progress)
			if passed || tool.ExitStatus(passed, err) != 130 || !strings.Contains(err.Error(), "interrupted: the containers are removed") {
				t.Errorf("passed %v, error %v", passed, err)
			}
			if !strings.Contains(log(), "rm --force abc") {
				t.Errorf("the containers stay:\n%s", log())
			}
			if all := out.String() + progress.String(); !strings.Contains(out.String(), "| bookworm | glibc 2.36 | interrupted |") ||
				!strings.Contains(out.String(), " 0 failed") || strings.Contains(all, "FAILED") {
				t.Errorf("results:\n%s", all)
			}
		})
	}
}

// when is a writer that calls do once a text was written.
type when struct {
	bytes.Buffer
	text string
	do   func()
}

func (w *when) Write(data []byte) (int, error) {
	n, err := w.Buffer.Write(data)
	if w.do != nil && strings.Contains(w.String(), w.text) {
		w.do()
		w.do = nil
	}
	return n, err
}

// TestProgress: a task is printed when it begins, and not when it ends.
func TestProgress(t *testing.T) {
	t.Chdir("..")
	for _, c := range []struct{ says, waits, script string }{
		{"row bookworm: starts\n", "base", "base() { hold; echo 'glibc 2.36'; }"},
		{"row bookworm: building the tests and the command in rseq-matrix-bookworm", "build", "build() { hold; }"},
		{"bookworm/pie: starts\n", "cell", `cell() { hold; echo 'matrix: {"owner":"libc","size":'$SIZE'}'; }`},
		{"row almalinux9: pulling almalinux:9\n", "pull", "image() { exit 1; }; pull() { hold; exit 1; }"},
	} {
		file := filepath.Join(t.TempDir(), "told")
		// A task ends only after its line was printed.
		log := fakeEngine(t, "hold() { n=0; until [ -e "+file+" ]; do sleep 0.1; n=$((n+1)); [ $n -lt 300 ] || exit 9; done; }\n"+c.script)
		var out bytes.Buffer
		progress := &when{text: c.says, do: func() { os.WriteFile(file, nil, 0o666) }}
		only := "bookworm/pie"
		if c.waits == "pull" {
			only = "almalinux9/pie"
		}
		passed, err := run(t.Context(), options{only: only, jobs: 1}, nil, &out, progress)
		if passed != (c.waits != "pull") || err != nil || progress.do != nil {
			t.Errorf("%s: passed %v, %v\n%s\n%s", c.waits, passed, err, progress.String(), log())
		}
	}
}

// TestNamed: a row without an image fails a run that names the row. Every run prints the row
// with the reason.
func TestNamed(t *testing.T) {
	rows, _ := parseRows(rowsFile)
	r := &report{rows: rows, columns: columns(rows[0]), Cells: []result{
		{Row: "musl", Column: "pie", Status: ok}, {Row: "alpine", Column: "pie", Status: unavailable, Detail: "row alpine: no\nmore"},
		{Row: "alpine", Column: "race", Status: unavailable, Detail: "row alpine: no\nmore"}}}
	for only, want := range map[string]bool{"": true, "pie": true, "musl": true, "alpine": false, "musl,alpine/pie": false} {
		var said strings.Builder
		if got := r.passed(rowsNamed(rows, only), nil, &said); got != want || said.String() != "row alpine: no; more\n" {
			t.Errorf("-only %s: passed %v, %q", only, got, said.String())
		}
	}
	// The cell old lacks the image of another row: musl stays in the table.
	r.Cells = append(r.Cells, result{Row: "musl", Column: "old", Status: unavailable})
	if table := r.table(); !strings.Contains(table, "| musl | musl |  |  | not available |\n") || !strings.Contains(table, "since there was no image: alpine (musl).\n") {
		t.Errorf("the table:\n%s", table)
	}
}

func TestNoDocker(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := serverVersion(context.Background()); err == nil || !strings.Contains(err.Error(), "there is no docker command: install a Docker Engine") {
		t.Error(err)
	}
}
