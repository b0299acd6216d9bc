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

// multiarch is the folder of an architecture's headers in Debian.
var multiarch = map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu", "riscv64": "riscv64-linux-gnu"}

// Tree is a tree of headers with its label.
type Tree struct {
	Label
	Packages []string
	// Dir is the tree's folder, for messages and the C compiler. FS has the same files.
	Dir string
	FS  fs.FS
	// Include are the folders of FS that are searched for headers.
	Include []string
}

// openTree opens a sysroot, an unpacked package or a folder like /usr/include.
func openTree(label Label, dir string) (*Tree, error) {
	if multiarch[label.Arch] == "" {
		return nil, fmt.Errorf("%s: unknown architecture %q: expected one of %s", label, label.Arch, strings.Join(architectures, ", "))
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	// Headers in an include folder may be links to files outside of it.
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
	return !errors.Is(err, fs.ErrNotExist) // another error is reported when the file is read
}

// found reports whether #include <name> finds a file.
func (t *Tree) found(name string) bool {
	for _, dir := range t.Include {
		if t.has(path.Join(dir, name)) {
			return true
		}
	}
	return false
}

// compilerHeaders is the folder of the headers that a compiler brings, not a C library.
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

// withCompiler has the files of a tree and of the compiler. Each file is read when it is
// opened, since cc loops for ever on a file that fails later, as a folder does, and on a
// header name that is no text or is cut off by the end of the file.
type withCompiler struct {
	fs.FS
	failed *error // the first error but fs.ErrNotExist
	opened *int
}

// maxIncludes bounds how many files are included, for headers without guards that include each
// other. Real trees include about 300.
const maxIncludes = 2000

func (w withCompiler) Open(name string) (fs.File, error) {
	from := w.FS
	if strings.HasPrefix(name, compilerHeaders) {
		from = compilerFS
	}
	data, err := fs.ReadFile(from, name)
	if *w.opened++; *w.opened > maxIncludes {
		// After an error cc would go on with the next file.
		panic(fmt.Errorf("%s: more than %d files are included: expected guards against including a file twice", name, maxIncludes))
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
