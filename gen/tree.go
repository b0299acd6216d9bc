package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing/fstest"
	"unicode/utf8"
)

// multiarch is the folder that Debian keeps an architecture's headers in.
var multiarch = map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu", "riscv64": "riscv64-linux-gnu"}

// Tree is a tree of headers with its label.
type Tree struct {
	Label
	Packages []string
	// Dir is where it was found, for messages and the C compiler; FS has the
	// same files and nothing else.
	Dir string
	FS  fs.FS
	// Include are the folders of FS that headers are looked for in.
	Include []string
}

// openTree opens a sysroot, an unpacked package or a folder as /usr/include.
func openTree(label Label, dir string) (*Tree, error) {
	if multiarch[label.Arch] == "" {
		return nil, fmt.Errorf("%s: unknown architecture %q: expected one of %s", label, label.Arch, strings.Join(architectures, ", "))
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	// Headers of an include folder may be links to others beside it.
	dir = cmp.Or(strings.TrimSuffix(dir, "/usr/include"), "/")
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", label, err)
	}
	t := &Tree{Label: label, Dir: dir, FS: root.FS()}
	base := "usr/include"
	if t.has("features.h") {
		base = "."
	}
	t.Include = []string{base}
	if m := path.Join(base, multiarch[label.Arch]); t.has(m) {
		t.Include = []string{m, base}
	}
	for arch, other := range multiarch {
		if arch != label.Arch && t.has(path.Join(base, other, "bits")) && !t.has(path.Join(base, multiarch[label.Arch], "bits")) {
			return nil, fmt.Errorf("%s: %s has the headers of %s, in %s: expected %s", label, dir, arch, path.Join(base, other), label.Arch)
		}
	}
	if !t.found("features.h") {
		return nil, fmt.Errorf("%s: %s has no headers: expected usr/include/features.h or features.h in it", label, dir)
	}
	return t, nil
}

func (t *Tree) has(name string) bool {
	_, err := fs.Stat(t.FS, name)
	return !errors.Is(err, fs.ErrNotExist) // what cannot be read says so when it is
}

// found reports whether #include <name> finds something.
func (t *Tree) found(name string) bool {
	for _, dir := range t.Include {
		if t.has(path.Join(dir, name)) {
			return true
		}
	}
	return false
}

// compilerHeaders are those that come with a compiler, not with a C library.
const compilerHeaders = ".compiler"

var compilerFS = fstest.MapFS{
	compilerHeaders + "/stddef.h": {Data: []byte(`
#ifndef _STDDEF_H
#define _STDDEF_H
typedef __PTRDIFF_TYPE__ ptrdiff_t;
typedef __SIZE_TYPE__ size_t;
typedef __WCHAR_TYPE__ wchar_t;
#define NULL ((void *)0)
#endif
`)},
	compilerHeaders + "/stdarg.h": {Data: []byte(`
#ifndef _STDARG_H
#define _STDARG_H
typedef __builtin_va_list va_list;
#endif
`)},
}

// withCompiler is a tree's files and the compiler's. Each is read as a whole when
// it is opened: cc never ends on a file that fails later, a folder for one, nor on
// a header's name that is no text or is cut off by the file's end.
type withCompiler struct {
	fs.FS
	failed *error // the first error that is not that a file does not exist
	opened *int
}

// maxIncludes bounds what headers that include each other without guards cost;
// real trees need some 300.
const maxIncludes = 2000

func (w withCompiler) Open(name string) (fs.File, error) {
	from := w.FS
	if strings.HasPrefix(name, compilerHeaders) {
		from = compilerFS
	}
	data, err := fs.ReadFile(from, name)
	if *w.opened++; *w.opened > maxIncludes {
		// An error would only have cc go on with the next.
		panic(fmt.Errorf("%s: more than %d files are included: expected guards against including twice", name, maxIncludes))
	}
	if err == nil && (!utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0) {
		err = fmt.Errorf("%s: not text in UTF-8", name)
	}
	if err != nil {
		if *w.failed == nil && !errors.Is(err, fs.ErrNotExist) {
			*w.failed = err
		}
		return nil, err
	}
	return fstest.MapFS{name: {Data: append(data, '\n')}}.Open(name)
}
