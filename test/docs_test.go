// Package test holds the tests of behaviour: those that build programs of test/testdata, look
// at ELF files, run storms on the critical sections, or read the documents.
package test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rseq-go/rseq/internal/testutil"
)

// pages returns the repository's Markdown pages, by path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(name, ".") && name != "." && name != ".github" {
			return fs.SkipDir
		}
		if err == nil && strings.HasSuffix(name, ".md") {
			data, err := os.ReadFile(name)
			all[name] = string(data)
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 5 {
		t.Skipf("%d pages: this is not the repository", len(all)) // but a guest
	}
	return all
}

// sources returns the text of all files with the suffix.
func sources(t *testing.T, suffix string) (all string) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, suffix) || strings.HasPrefix(name, ".cache") {
			return err
		}
		data, err := os.ReadFile(name)
		all += string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var (
	mdLink   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	mdCode   = regexp.MustCompile("`([^`\n]+)`")
	mdHead   = regexp.MustCompile(`(?m)^#+ (.*)$`)
	testName = regexp.MustCompile(`^((?:Test|Benchmark|Fuzz|Example)[A-Z]\w*)\*?(?:/|$)`)
	commit   = regexp.MustCompile(`[\[(\s]([0-9a-f]{10,12})[\]),.;:\s]`)
	goRun    = regexp.MustCompile(`go (?:run|test|build|vet)\b[^|#\n]*?(\./[\w./-]*)`)
	fileName = regexp.MustCompile(`^\.?[\w./-]+\.(?:go|c|h|s|S|md|json|txtar|sh|config|yml)$`)
)

// anchor returns the fragment that GitHub makes from a heading.
func anchor(heading string) string {
	heading = regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(heading, " ", "-")
}

// TestDocs: the targets of links, the tests and files that pages name, and the packages in their
// commands exist. A commit that a page names has an address.
func TestDocs(t *testing.T) {
	t.Chdir("..")
	all := pages(t)
	tests := sources(t, "_test.go")
	names := map[string]bool{} // names of files, without folders
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if name == ".cache" { // its files come and go
			return fs.SkipDir
		}
		names[path.Base(name)] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	exists := func(page, name string) bool {
		for _, dir := range []string{path.Dir(page), "."} {
			if _, err := os.Stat(path.Join(dir, name)); err == nil {
				return true
			}
		}
		return false
	}
	found := map[string]int{}
	for page, text := range all {
		for _, m := range mdLink.FindAllStringSubmatch(text, -1) {
			target, fragment, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, ":") {
				continue // an address outside of the repository
			}
			found["links"]++
			to := path.Join(path.Dir(page), target)
			if target == "" {
				to = page
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
				continue
			}
			there := fragment == ""
			for _, h := range mdHead.FindAllStringSubmatch(all[to], -1) {
				there = there || anchor(h[1]) == fragment
			}
			if !there {
				t.Errorf("%s links to %s, where no heading makes that", page, m[1])
			}
		}
		for _, m := range mdCode.FindAllStringSubmatch(text, -1) {
			if n := testName.FindStringSubmatch(m[1]); n != nil {
				found["tests"]++
				end := `\(`
				if strings.HasPrefix(m[1], n[1]+"*") {
					end = ""
				}
				if !regexp.MustCompile(`func ` + n[1] + end).MatchString(tests) {
					t.Errorf("%s names %s, which is no test", page, m[1])
				}
				_, body, _ := strings.Cut(tests, "func "+n[1]+"(")
				body, _, _ = strings.Cut(body, "\n}\n")
				for _, part := range strings.Split(m[1], "/")[1:] {
					spaced := strings.ReplaceAll(part, "_", " ")
					there := strings.Contains(body, part) || strings.Contains(body, spaced) ||
						strings.Contains(tests, `"`+part) || strings.Contains(tests, `"`+spaced) || names[part+".txtar"]
					if part != "*" && !there {
						t.Errorf("%s names %s: no test has %s", page, m[1], part)
					}
				}
			}
			if fileName.MatchString(m[1]) && !strings.HasPrefix(m[1], "sys/") {
				found["files"]++
				if !exists(page, m[1]) && !(path.Base(m[1]) == m[1] && names[m[1]]) {
					t.Errorf("%s names the file %s, which is not there", page, m[1])
				}
			}
		}
		for _, m := range commit.FindAllStringSubmatch(text, -1) {
			found["commits"]++
			if !regexp.MustCompile(`https://\S+[/=]` + m[1]).MatchString(text) {
				t.Errorf("%s names commit %s: expected an address with it", page, m[1])
			}
		}
		for _, m := range goRun.FindAllStringSubmatch(text, -1) {
			found["commands"]++
			if dir := strings.TrimSuffix(m[1], "..."); !exists(".", dir) {
				t.Errorf("%s has the command %q: there is no %s", page, m[0], dir)
			}
		}
	}
	t.Log(found)
	for _, what := range []string{"links", "tests", "files", "commands", "commits"} {
		if found[what] < 5 {
			t.Errorf("only %d %s found: the pages are not read rightly", found[what], what)
		}
	}
}

// TestImports: packages import what the table in docs/architecture.md says, in every build,
// and the library needs nothing besides but the standard library and x/sys.
func TestImports(t *testing.T) {
	testutil.NeedCompilers(t)
	const module = "github.com/rseq-go/rseq"
	t.Chdir("..")
	_, table, _ := strings.Cut(pages(t)["docs/architecture.md"], "\n## Which package imports which\n")
	table, _, _ = strings.Cut(table, "\n## ")
	allowed := map[string]map[string]bool{} // by package and import, whether a build needs it
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		imports := map[string]bool{}
		for _, name := range mdCode.FindAllStringSubmatch(cells[2], -1) {
			imports[name[1]] = false
		}
		allowed[strings.Trim(cells[1], " `")] = imports
	}
	name := func(path string) (name string, ours bool) {
		if path == module {
			return "rseq", true
		}
		return strings.CutPrefix(path, module+"/")
	}
	found := map[string]bool{}
	for _, build := range []string{"CGO_ENABLED=1", "CGO_ENABLED=0", "GOOS=darwin"} {
		for line := range strings.Lines(testutil.Run(t, []string{build}, "go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "./...", "./vm/...")) {
			paths := strings.Fields(line)
			from, ours := name(paths[0])
			if !ours {
				t.Fatalf("%s: %q", build, line)
			}
			found[from] = true
			for _, path := range paths[1:] {
				to, ours := name(path)
				if _, ok := allowed[from][to]; ok {
					allowed[from][to] = true
				} else if ours {
					t.Errorf("%s: %s imports %s, which the table in docs/architecture.md does not have", build, from, to)
				}
			}
		}
	}
	for from := range found {
		if allowed[from] == nil {
			t.Errorf("the table in docs/architecture.md has no row for %s", from)
		}
	}
	for from, imports := range allowed {
		if !found[from] {
			t.Errorf("the table in docs/architecture.md has a row for %s, which is no package", from)
		}
		for to, needed := range imports {
			if !needed {
				t.Errorf("the table in docs/architecture.md has %s import %s, which no build does", from, to)
			}
		}
	}
	deps := strings.Fields(testutil.Run(t, nil, "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".", "./percpu", "./cmd/rseq"))
	if len(deps) < 5 {
		t.Errorf("only %v", deps)
	}
	for _, path := range deps {
		if _, ours := name(path); !ours && !strings.HasPrefix(path, "golang.org/x/sys/") {
			t.Errorf("the library imports %s", path)
		}
	}
}

// TestReadme: the program in README.md is test/testdata/readme, and it works.
func TestReadme(t *testing.T) {
	t.Chdir("..")
	_, rest, _ := strings.Cut(pages(t)["README.md"], "```go\npackage main\n")
	program, _, _ := strings.Cut(rest, "```")
	source, err := os.ReadFile("test/testdata/readme/main.go")
	if err != nil {
		t.Fatal(err)
	}
	if want := "package main\n" + program; string(source) != want {
		t.Errorf("test/testdata/readme/main.go is not README.md's program:\n%s", want)
	}
	out := testutil.Run(t, nil, testutil.GoBuild(t, "./test/testdata/readme", nil))
	if out != "64000000\n" {
		t.Errorf("it says %q: expected that nothing was lost, 64000000", out)
	}
}
