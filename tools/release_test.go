// Package tools tests the module as others get it. Its go.mod has the tools that check
// this repository.
package tools

import (
	"archive/zip"
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
)

const (
	path    = "github.com/rseq-go/rseq"
	version = "v0.1.0"
)

// What a download may weigh, in bytes: unpacked, packed, and one file of it.
const mostUnpacked, mostPacked, mostFile = 2000 << 10, 700 << 10, 100 << 10

// run runs a program in dir and returns its standard output.
func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, &stdout, &stderr)
	}
	return strings.TrimSpace(stdout.String())
}

// release lays out a module proxy in a folder, with this tree as the one version, and
// returns the zip file and the environment that has the go command use it. What the module
// depends on comes from this machine's module cache, or as always.
func release(t *testing.T) (archive string, env []string) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds programs; not with -short")
	}
	tree, proxy := t.TempDir(), t.TempDir()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	files := run(t, root, nil, "git", "ls-files", "-coz", "--exclude-standard", "--deduplicate")
	for name := range strings.SplitSeq(strings.TrimSuffix(files, "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		to := filepath.Join(tree, name)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(to, data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	at := filepath.Join(proxy, path, "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(tree, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"list": version + "\n", version + ".mod": string(mod),
		version + ".info": fmt.Sprintf(`{"Version": %q, "Time": "2026-01-01T00:00:00Z"}`, version),
	} {
		if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	archive = filepath.Join(at, version+".zip")
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	if err := modzip.CreateFromDir(f, module.Version{Path: path, Version: version}, tree); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	goEnv := func(name string) string { return run(t, ".", nil, "go", "env", name) }
	return archive, []string{
		"GOPROXY=file://" + proxy + ",file://" + goEnv("GOMODCACHE") + "/cache/download," + goEnv("GOPROXY"),
		"GOMODCACHE=" + t.TempDir(), "GOFLAGS=-modcacherw", "GOSUMDB=off", "GOWORK=off",
	}
}

// TestDownload: what is downloaded is small, and has the headers that C code includes.
func TestDownload(t *testing.T) {
	archive, _ := release(t)
	z, err := zip.OpenReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	slices.SortFunc(z.File, func(a, b *zip.File) int { return cmp.Compare(b.UncompressedSize64, a.UncompressedSize64) })
	var unpacked, packed uint64
	has := map[string]bool{}
	for i, f := range z.File {
		name := strings.TrimPrefix(f.Name, path+"@"+version+"/")
		has[name] = true
		unpacked += f.UncompressedSize64
		packed += f.CompressedSize64
		if i < 8 {
			t.Logf("%7d %7d %s", f.UncompressedSize64, f.CompressedSize64, name)
		}
		if f.UncompressedSize64 > mostFile {
			t.Errorf("%s has %d bytes: expected %d at most", name, f.UncompressedSize64, mostFile)
		}
	}
	t.Logf("%7d %7d in %d files", unpacked, packed, len(z.File))
	if unpacked > mostUnpacked || packed > mostPacked {
		t.Errorf("%d bytes, packed %d: expected %d and %d at most", unpacked, packed, mostUnpacked, mostPacked)
	}
	for _, name := range []string{"go.mod", "LICENSE", "README.md", "glibc.h", "rseqgo.h", "abi.h", "cs_amd64.s", "cs_arm64.s", "cs_riscv64.S"} {
		if !has[name] {
			t.Errorf("there is no %s", name)
		}
	}
}

// TestInstall: go install of the newest version works from the download, with cgo and
// without.
func TestInstall(t *testing.T) {
	_, env := release(t)
	for _, cgo := range []string{"CGO_ENABLED=1", "CGO_ENABLED=0"} {
		t.Run(cgo, func(t *testing.T) {
			bin := t.TempDir()
			env := append(slices.Clone(env), cgo, "GOBIN="+bin)
			run(t, bin, env, "go", "install", path+"/cmd/rseq@latest")
			program := filepath.Join(bin, "rseq")
			if out := run(t, bin, env, "go", "version", "-m", program); !strings.Contains(out, "mod\t"+path+"\t"+version) {
				t.Errorf("it is another version than %s:\n%s", version, out)
			}
			if out := run(t, bin, env, program, "help"); !strings.Contains(out, "doctor") {
				t.Errorf("rseq help says\n%s", out)
			}
		})
	}
}

// The program that TestImporter builds, in two files.
const (
	goMain = `package main

import (
	"fmt"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/percpu"
)

// CFLAGS
// #include "rseqgo.h"
// static int add(int64_t *word, int cpu) { return rseqgo_load_add_store(RSEQGO_BY_CPU, word, 1, cpu); }
import "C"

var hits percpu.Counter

func main() {
	hits.Add(3)
	err := rseq.CriticalSections(rseq.ByCPU)
	words := make([]C.int64_t, rseq.PossibleCPUs())
	for err == nil {
		cpu, _ := rseq.CPU()
		if rseq.Status(C.add(&words[cpu], C.int(cpu))) == rseq.Done {
			break
		}
	}
	var sum C.int64_t
	for _, word := range words {
		sum += word
	}
	fmt.Println(hits.Value(), err == nil, sum)
}
`
	goMod = "module example.com/user\n\ngo 1.26.0\n\nrequire " + path + " " + version + "\n"
)

// TestImporter builds another module's program, whose C code includes rseqgo.h in the ways
// that docs/c.md names. Its list of modules has none that only this repository's tools need.
func TestImporter(t *testing.T) {
	_, env := release(t)
	dir := t.TempDir()
	build := func(t *testing.T, cflags string, env []string) {
		t.Helper()
		for name, text := range map[string]string{"main.go": strings.Replace(goMain, "// CFLAGS", cflags, 1), "go.mod": goMod} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		run(t, dir, env, "go", "mod", "tidy")
		if strings.Contains(cflags, "vendor") {
			run(t, dir, env, "go", "mod", "vendor")
		} else {
			env = append(env, "CGO_CFLAGS=-O2 -I"+run(t, dir, env, "go", "list", "-m", "-f", "{{.Dir}}", path))
		}
		run(t, dir, env, "go", "build", "-o", "user")
		if out := run(t, dir, env, "./user"); out != "3 true 1" && out != "3 false 0" {
			t.Errorf("it says %q: expected %q, or %q where sections cannot run", out, "3 true 1", "3 false 0")
		}
	}
	env = append(env, "CGO_ENABLED=1")
	t.Run("module cache", func(t *testing.T) { build(t, "//", slices.Clone(env)) })
	for line := range strings.Lines(run(t, dir, env, "go", "list", "-m", "all")) {
		t.Log(strings.TrimSpace(line))
		for _, tool := range []string{"honnef.co", "gonum.org", "prometheus", "cpio"} {
			if strings.Contains(line, tool) {
				t.Errorf("an importer has %s in its list of modules", line)
			}
		}
	}
	t.Run("vendor", func(t *testing.T) {
		build(t, "// #cgo CFLAGS: -I${SRCDIR}/vendor/"+path, slices.Clone(env))
	})
}
