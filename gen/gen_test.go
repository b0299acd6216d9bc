package main

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rseq-go/rseq/internal/testutil"
)

// TestKernelConstants: the headers define what Go code gets from them. Another name would be 0.
func TestKernelConstants(t *testing.T) {
	recorded, err := os.ReadFile(filepath.Base(recordFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range kernelConstants {
		if !strings.Contains(string(recorded), `"Name": "`+c.c+`"`) {
			t.Errorf("no header has %s", c.c)
		}
	}
}

// small is a minimal tree of headers, written for these tests.
var small = map[string]string{
	"features.h":         "#define __GLIBC__ 2\n#define __GLIBC_MINOR__ 44\n",
	"linux/version.h":    "#define LINUX_VERSION_CODE 0x70200\n",
	"linux/auxvec.h":     "#define AT_RSEQ_FEATURE_SIZE 27\n#define AT_RSEQ_ALIGN 28\n",
	"linux/membarrier.h": "enum membarrier_cmd { MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ = 1 << 7 };\n",
	"linux/prctl.h":      "#define PR_RSEQ_SLICE_EXTENSION 79\n",
	"linux/ptrace.h":     "#define PTRACE_GET_RSEQ_CONFIGURATION 0x420f\n",
	"asm/unistd.h":       "#define __NR_read 0\n#define __NR_rseq 334\n",
	"stdint.h": "typedef unsigned char uint8_t;\ntypedef unsigned short uint16_t;\n" +
		"typedef unsigned int uint32_t;\ntypedef unsigned long uint64_t;\n",
	"bits/rseq.h": "#define RSEQ_SIG 0x53053053\n",
	"sys/rseq.h": `#include <stddef.h>
#include <bits/rseq.h>
#if __has_include("linux/rseq.h")
#include <linux/rseq.h>
#endif
extern const ptrdiff_t __rseq_offset;
extern const unsigned int __rseq_size;
extern const unsigned int __rseq_flags;
`,
	"linux/rseq.h": kernelHeader,
}

const kernelHeader = `#ifndef _LINUX_RSEQ_H
#define _LINUX_RSEQ_H
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
enum rseq_cpu_id_state { RSEQ_CPU_ID_UNINITIALIZED = -1, RSEQ_CPU_ID_REGISTRATION_FAILED = -2 };
enum rseq_flags { RSEQ_FLAG_UNREGISTER = 1 << 0 };
struct rseq_cs {
	__u32 version, flags;
	__u64 start_ip;
	__u64 post_commit_offset;
	__u64 abort_ip;
} __attribute__((aligned(4 * sizeof(__u64))));
struct rseq_slice_ctrl {
	union {
		__u32 all;
		struct {
			__u8 request, granted;
			__u16 __reserved;
		};
	};
};
struct rseq {
	__u32 cpu_id_start;
	__u32 cpu_id;
	__u64 rseq_cs;
	__u32 flags;
	__u32 node_id;
	__u32 mm_cid;
	struct rseq_slice_ctrl slice_ctrl;
	__u8 __reserved;
	char end[];
} __attribute__((aligned(32)));
#endif
`

// old is how small differs before glibc 2.35 and Linux 6.3.
var old = map[string]string{
	"features.h":      "#define __GLIBC__ 2\n#define __GLIBC_MINOR__ 31\n",
	"linux/version.h": "#define LINUX_VERSION_CODE 0x50adf\n",
	"sys/rseq.h":      "",
	"bits/rseq.h":     "",
	"linux/rseq.h": "__u32 node_id;\n\t__u32 mm_cid;\n\tstruct rseq_slice_ctrl slice_ctrl;\n" +
		"\t__u8 __reserved;\n\tchar end[];\n => ",
}

// unistd are asm/unistd.h of other architectures.
var unistd = map[string]string{
	"arm64":   "#define __NR_read 63\n#define __NR_rseq 293\n",
	"riscv64": "#define __NR_read 63\n#define __NR_riscv_flush_icache 259\n#define __NR_rseq 293\n",
}

// tree returns small with changes, by file name. A change "old => new" replaces the first old
// text, any other text replaces the file, and an empty one removes it.
func tree(changes map[string]string) *Tree {
	files := fstest.MapFS{}
	all := maps.Clone(small)
	maps.Copy(all, changes)
	for name, text := range all {
		if old, repl, ok := strings.Cut(text, " => "); ok {
			text = strings.Replace(small[name], old, repl, 1)
		}
		if text != "" {
			files["usr/include/"+name] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	return &Tree{Label: Label{"2.44", "7.2", "amd64"}, Dir: "/tree", FS: files, Include: []string{"usr/include"}}
}

func oldTree() *Tree {
	t := tree(old)
	t.Label = Label{"2.31", "5.10", "amd64"}
	return t
}

func TestParse(t *testing.T) {
	l, err := Parse(tree(nil))
	if err != nil {
		t.Fatal(err)
	}
	if l.Area.Size != 64 || l.Area.Align != 32 || l.Area.end() != 33 || l.Area.Flexible == nil || l.Area.Flexible.Offset != 33 {
		t.Errorf("struct rseq: %+v", l.Area)
	}
	got := map[string]int64{}
	for _, f := range l.Area.leaves() {
		got[f.name()] = f.Offset
	}
	want := map[string]int64{"cpu_id_start": 0, "cpu_id": 4, "rseq_cs": 8, "flags": 16, "node_id": 20, "mm_cid": 24, "slice_ctrl": 28,
		"slice_ctrl.all": 28, "slice_ctrl.request": 28, "slice_ctrl.granted": 29, "slice_ctrl.__reserved": 30, "__reserved": 32}
	if !maps.Equal(got, want) {
		t.Errorf("offsets %v, want %v", got, want)
	}
	for name, want := range map[string]int64{"RSEQ_SIG": 0x53053053, "RSEQ_CPU_ID_REGISTRATION_FAILED": -2, "AT_RSEQ_ALIGN": 28, "__NR_rseq": 334} {
		if got, ok := l.constant(name); !ok || got != want {
			t.Errorf("%s is %d, %v, want %d", name, got, ok, want)
		}
	}
	if len(l.Symbols) != 3 || l.Symbols[0] != (Symbol{"__rseq_offset", "const ptrdiff_t", 8}) {
		t.Errorf("symbols %v", l.Symbols)
	}
}

// TestBadHeaders: each error says where the problem is and what was expected.
func TestBadHeaders(t *testing.T) {
	const kernel = "linux/rseq.h"
	for name, c := range map[string]struct {
		file, change string
		want         []string
	}{
		"syntax error":        {kernel, "__u32 cpu_id; => __u32 cpu_id", []string{"linux/rseq.h:27"}},
		"not text":            {kernel, "\x00\xff(((", []string{"linux/rseq.h", "not text in UTF-8"}},
		"not C":               {kernel, "((;", []string{"linux/rseq.h:1"}},
		"cut off":             {kernel, "#include <x", []string{"linux/rseq.h:1"}},
		"unterminated":        {kernel, "#ifndef X\nstruct rseq {", []string{"linux/rseq.h"}},
		"bit-field":           {kernel, "__u32 flags; => __u32 flags : 8;", []string{"linux/rseq.h:28", "bit-field"}},
		"anonymous bit-field": {kernel, "__u32 flags; => __u32 flags; __u32 : 3;", []string{"linux/rseq.h:28", "bit-field"}},
		"union":               {kernel, "__u64 rseq_cs; => union { __u64 ptr; __u32 half; } rseq_cs;", []string{"linux/rseq.h:27", "union", "rseq_cs"}},
		"union of another shape": {kernel, "__u32 all; => __u16 half;",
			[]string{"linux/rseq.h", "union", "first member"}},
		"unknown attribute":    {kernel, "} __attribute__((aligned(32))); => } __attribute__((packed, aligned(32)));", []string{"linux/rseq.h:34", `"packed"`, "expected aligned(n)"}},
		"attribute of a field": {kernel, "__u64 rseq_cs; => __u64 rseq_cs __attribute__((__packed__));", []string{"linux/rseq.h:27", `"__packed__"`}},
		"attribute inside":     {kernel, "__u16 __reserved; => __u16 __reserved __attribute__((mode(QI)));", []string{"linux/rseq.h", `"mode"`}},
		"aligned field":        {kernel, "__u8 __reserved; => __u8 __reserved __attribute__((aligned(16)));", []string{"linux/rseq.h:32", `"aligned"`}},
		"aligned inside":       {kernel, "\t};\n};\nstruct rseq { => \t};\n} __attribute__((aligned(8)));\nstruct rseq {", []string{"linux/rseq.h:23", `"aligned"`}},
		"aligned type":         {kernel, "struct rseq { => typedef __u8 __attribute__((aligned(16))) big;\nstruct rseq { big first;", []string{"linux/rseq.h:25", "first", "attribute"}},
		"tagged union": {kernel, "struct rseq_slice_ctrl {\n\tunion { => union all { __u32 all; struct { __u32 a : 3; } b; };\nstruct rseq_slice_ctrl {\n\tunion all tagged;\n\tunion {",
			[]string{"linux/rseq.h:17", "union all", "in place"}},
		"bare aligned":         {kernel, "} __attribute__((aligned(32))); => } __attribute__((aligned));", []string{"linux/rseq.h:34", "expected aligned(n)"}},
		"pragma pack":          {kernel, "struct rseq { => #pragma pack(1)\nstruct rseq {", []string{"linux/rseq.h:24", "#pragma pack"}},
		"pointer":              {kernel, "__u64 rseq_cs; => void *rseq_cs;", []string{"linux/rseq.h:27", "rseq_cs", "expected an integer"}},
		"array":                {kernel, "__u8 __reserved; => __u8 __reserved[4];", []string{"linux/rseq.h:32", "__reserved"}},
		"missing field":        {kernel, "__u32 mm_cid; => ", []string{"linux/rseq.h:24", "no field mm_cid", "cpu_id_start, cpu_id"}},
		"missing first field":  {kernel, "__u32 cpu_id_start; => ", []string{"linux/rseq.h:24", "no field cpu_id_start"}},
		"order":                {kernel, "__u32 node_id;\n\t__u32 mm_cid; => __u32 mm_cid;\n\t__u32 node_id;", []string{"linux/rseq.h:24", "mm_cid", "in this order"}},
		"descriptor":           {kernel, "__u64 abort_ip; => ", []string{"linux/rseq.h:9", "no field abort_ip"}},
		"another name":         {kernel, "struct rseq { => struct rseq_abi {", []string{"struct rseq", "linux/rseq.h"}},
		"elsewhere":            {"bits/rseq.h", "#define RSEQ_SIG 1\nstruct rseq { int x; };\n", []string{"rseq.h", "rseq"}},
		"includes itself":      {kernel, "#define _LINUX_RSEQ_H => #include <linux/rseq.h>", []string{"linux/rseq.h", "guards"}},
		"no sys/rseq.h":        {"sys/rseq.h", "", []string{"no sys/rseq.h", "/tree", "glibc 2.44"}},
		"no kernel header":     {kernel, "", []string{"no linux/rseq.h", "Linux 7.2"}},
		"wrong architecture":   {"asm/unistd.h", "#define __NR_read 63\n#define __NR_rseq 293\n", []string{"asm/unistd.h:1", "expected 0", "amd64"}},
		"wrong Linux":          {"linux/version.h", "#define LINUX_VERSION_CODE 0x6010a\n", []string{"linux/version.h:1", "Linux 6.1", "expected 7.2"}},
		"wrong glibc":          {"features.h", "#define __GLIBC__ 2\n#define __GLIBC_MINOR__ 36\n", []string{"features.h:2", "glibc 2.36", "expected 2.44"}},
		"another architecture": {"asm/unistd.h", "#define __NR_read 0\n#define __NR_riscv_flush_icache 259\n#define __NR_rseq 293\n", []string{"asm/unistd.h:2", "__NR_riscv_flush_icache", "amd64"}},
		"no signature":         {"bits/rseq.h", "#define RSEQ 1\n", []string{"RSEQ_SIG", "bits/rseq.h"}},
		"signature no number":  {"bits/rseq.h", "#define RSEQ_SIG \"x\"\n", []string{"bits/rseq.h:1", "RSEQ_SIG", "integer"}},
		"no symbol":            {"sys/rseq.h", "extern const unsigned int __rseq_size; => ", []string{"__rseq_size", "sys/rseq.h"}},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := Parse(tree(map[string]string{c.file: c.change}))
			if err == nil {
				t.Fatalf("no error: %+v", l)
			}
			for _, want := range append(c.want, "2.44/7.2/amd64") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func TestTrees(t *testing.T) {
	label := Label{"2.44", "7.2", "amd64"}
	write := func(t *testing.T, root, name, text string) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, prefix := range map[string]string{"sysroot": "usr/include", "multiarch": "usr/include/x86_64-linux-gnu", "include": "."} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range small {
				at := prefix
				if file == "features.h" && name != "include" {
					at = "usr/include"
				}
				write(t, dir, filepath.Join(at, file), text)
			}
			opened, err := openTree(label, dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Parse(opened); err != nil {
				t.Error(err)
			}
			if name == "sysroot" {
				if _, err := openTree(label, filepath.Join(dir, "usr/include")); err != nil {
					t.Error(err)
				}
				// A folder in place of the file cannot be read.
				name := filepath.Join(dir, "usr/include/linux/rseq.h")
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
				if err := os.Mkdir(name, 0o755); err != nil {
					t.Fatal(err)
				}
				if _, err := Parse(opened); err == nil || !strings.Contains(err.Error(), "linux/rseq.h") {
					t.Errorf("unreadable file: %v", err)
				}
			}
		})
	}
	if _, err := os.Stat("/usr/include/features.h"); err == nil {
		if _, err := openTree(Label{"2.44", "7.2", runtime.GOARCH}, "/usr/include"); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct {
		label Label
		dir   string
		want  string
	}{
		{label, t.TempDir(), "has no headers: expected usr/include/features.h"},
		{label, "/does/not/exist", "no such file"},
		{Label{"2.44", "7.2", "mips"}, t.TempDir(), `unknown architecture "mips": expected one of amd64, arm64, riscv64`},
	} {
		if _, err := openTree(c.label, c.dir); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v in %s: error %v, want %q", c.label, c.dir, err, c.want)
		}
	}
}

func TestConsistent(t *testing.T) {
	parse := func(label Label, changes map[string]string) Layout {
		t.Helper()
		tr := tree(changes)
		tr.Label = label
		l, err := Parse(tr)
		if err != nil {
			t.Fatal(err)
		}
		return *l
	}
	label := Label{"2.44", "7.2", "amd64"}
	base := parse(label, nil)
	later := func(change string) Layout {
		l := parse(label, map[string]string{"linux/rseq.h": change})
		l.Glibc = "2.45"
		return l
	}
	first, err := Parse(oldTree())
	if err != nil {
		t.Fatal(err)
	}
	if err := consistent([]Layout{*first, base}); err != nil {
		t.Error(err)
	}
	if err := consistent([]Layout{base, later("__u8 __reserved; => __u64 new_one;")}); err != nil {
		t.Errorf("a new field in place of the reserved byte: %v", err)
	}
	for change, want := range map[string]string{
		"__u32 flags; => __u64 flags;":                                  "flags is uint64_t at offset 16, but",
		"__u32 node_id; => __u32 other; __u32 node_id;":                 "node_id is uint32_t at offset 24, but",
		"RSEQ_CPU_ID_UNINITIALIZED = -1 => RSEQ_CPU_ID_UNINITIALIZED=7": "RSEQ_CPU_ID_UNINITIALIZED is 0x7, but",
	} {
		if err := consistent([]Layout{base, later(change)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", change, err, want)
		}
	}
	other := base
	other.Arch, other.Area.Align = "arm64", 64
	if err := consistent([]Layout{base, other}); err == nil || !strings.Contains(err.Error(), "alignment 64, ") {
		t.Errorf("another alignment on arm64: %v", err)
	}
}

// TestRun generates and checks in a repository of its own, finds a removed field by name, and
// changes no file after an error.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string) {
		t.Helper()
		must(os.MkdirAll(filepath.Dir(name), 0o755))
		must(os.WriteFile(name, []byte(text), 0o644))
	}
	write("gen/versions", "2.31 5.10 -\n2.44 7.2 -\n")
	var args []string
	for _, arch := range architectures {
		for label, changes := range map[string]map[string]string{"2.44/7.2/": nil, "2.31/5.10/": old} {
			if changes != nil && arch == "riscv64" { // there are none
				continue
			}
			dir := filepath.Join("tree", label, arch)
			for name, file := range tree(changes).FS.(fstest.MapFS) {
				text := string(file.Data)
				if name == "usr/include/asm/unistd.h" && arch != "amd64" {
					text = unistd[arch]
				}
				write(filepath.Join(dir, name), text)
			}
			args = append(args, label+arch+"="+dir)
		}
	}
	slices.Sort(args)
	ctx := context.Background()
	if err := run(ctx, false, args[:3]); err == nil || !strings.Contains(err.Error(), "nothing is recorded of 2.44/7.2/arm64") {
		t.Errorf("one architecture alone: %v", err)
	}
	must(run(ctx, false, args))
	state := func() (all string) {
		t.Helper()
		must(filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !strings.HasPrefix(name, "tree") {
				data, _ := os.ReadFile(name)
				all += name + "\n" + string(data)
			}
			return err
		}))
		return all
	}
	generated := state()
	must(run(ctx, false, args))
	if state() != generated {
		t.Error("a second run generates something else")
	}
	must(run(ctx, true, args))
	must(run(ctx, true, args[:1]))

	header := "tree/2.44/7.2/amd64/usr/include/linux/rseq.h"
	for name, c := range map[string]struct {
		text string
		want string
	}{
		"a field removed":   {strings.Replace(kernelHeader, "__u8 __reserved;\n\tchar", "char", 1), "field __reserved is gone: was uint8_t, 1 bytes at offset 32"},
		"a due one removed": {strings.Replace(kernelHeader, "__u32 node_id;", "", 1), "has no field node_id"},
		"a field added":     {strings.Replace(kernelHeader, "char end", "__u8 other;\n\tchar end", 1), "field other is new: uint8_t"},
		"a constant":        {strings.Replace(kernelHeader, "1 << 0", "1 << 3", 1), "RSEQ_FLAG_UNREGISTER: 0x8 in enum rseq_flags, was 0x1"},
		"no struct":         {"", "struct rseq"},
	} {
		write(header, c.text)
		if err := run(ctx, true, args); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
		if name == "a due one removed" || name == "no struct" {
			if err := run(ctx, false, args); err == nil || state() != generated {
				t.Errorf("%s: files were touched, error %v", name, err)
			}
		}
	}
	write(header, kernelHeader)
	write(goTable, "package abi\n")
	if err := run(ctx, true, args); err == nil || !strings.Contains(err.Error(), "+var Signature") {
		t.Errorf("a file changed by hand: %v", err)
	}
	must(run(ctx, false, args))

	const named = "2.44/7.2/amd64=tree/2.44/7.2/amd64"
	for _, c := range []struct{ versions, arg, want string }{
		{"2.44 7.2\n", named, `gen/versions:1: "2.44 7.2": expected glibc, Linux, suite`},
		{"2.44 7.2 -\n2.43 7.1 -\n", named, "gen/versions:2: glibc 2.43 after 2.44"},
		{"2.44 7.2 -\n", "2.44=tree", "expected GLIBC/LINUX/ARCH=DIR"},
		{"2.44 7.2 -\n", named, "the oldest version, glibc 2.44 with Linux 7.2, has the fields"},
		{"2.31 5.10 -\n2.44 7.2 -\n2.45 7.3 -\n", named, "nothing is recorded of 2.45/7.3/amd64"},
		{"2.44 7.2 -\n", "2.45/7.2/amd64=tree/amd64", "gen/versions has no line for glibc 2.45"},
		{"2.44 7.2 -\n", "2.44/7.2/arm64=tree/2.44/7.2/amd64", "asm/unistd.h:1: read(2) has number 0: expected 63"},
		{"2.44 7.2 -\n", "2.44/7.2/riscv64=tree/2.44/7.2/arm64", "asm/unistd.h:1: __NR_riscv_flush_icache is not defined: expected it in headers of architecture riscv64"},
		{"2.31 5.10 -\n", "2.31/5.10/riscv64=tree", "2.31/5.10/riscv64: expected glibc 2.41 or later: Debian has no older one for riscv64"},
	} {
		write("gen/versions", c.versions)
		if err := run(ctx, false, []string{c.arg}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("versions %q, %s: error %v, want %q", c.versions, c.arg, err, c.want)
		}
	}
}

// TestHeadersCompile: each generated header compiles in each language without a warning, also
// if it is included twice.
func TestHeadersCompile(t *testing.T) {
	headers, err := filepath.Glob("../include/*.h")
	if err != nil || len(headers) == 0 {
		t.Fatal("no headers", err)
	}
	compilers := map[string][]string{"gcc": {"c99", "c11"}, "g++": {"c++11", "c++17"}, "clang": {"c99", "c11"}, "clang++": {"c++17"},
		"musl-gcc": {"c99", "c11"}, "aarch64-linux-gnu-gcc": {"c99", "c11"}, "aarch64-linux-gnu-g++": {"c++17"},
		"riscv64-linux-gnu-gcc": {"c99", "c11"}}
	compiled := 0
	for compiler, standards := range compilers {
		if _, err := exec.LookPath(compiler); err != nil {
			t.Logf("left out: no %s here", compiler)
			continue
		}
		for _, standard := range standards {
			language := "c"
			if strings.HasPrefix(standard, "c++") {
				language = "c++"
			}
			for _, header := range append(headers, "../abi.h", "../glibc.h") {
				testutil.Run(t, nil, compiler, "-std="+standard, "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only",
					"-include", header, "-x", language, header)
				compiled++
			}
		}
	}
	if compiled == 0 {
		t.Skip("no C compiler here")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(kernelHeader))
	for _, change := range [][2]string{
		{"__u32 flags;", "__u32 flags : 8;"}, {"__u64 rseq_cs;", "union { __u64 ptr; } rseq_cs;"},
		{"aligned(32)", "packed"}, {"aligned(32)", "aligned(1 << 31)"}, {"char end[];", "char end[0];"},
		{"struct rseq {", "struct rseq *"}, {"struct rseq {", "struct rseq { struct rseq r;"},
		{"#define _LINUX_RSEQ_H", "#include <linux/rseq.h>"}, {"1 << 0", "1 / 0"}, {"1 << 0", "RSEQ_FLAG_UNREGISTER"},
		{"typedef unsigned int __u32;", "#define __u32 __u32 __u32"}, {"__u8 __reserved;", "__u8 __reserved[1UL << 62];"},
		{"#endif", ""}, {"typedef unsigned int __u32;", "typedef struct { int x; } __u32;"},
	} {
		f.Add([]byte(strings.Replace(kernelHeader, change[0], change[1], 1)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		hangs := time.AfterFunc(10*time.Second, func() { panic("Parse does not end") })
		defer hangs.Stop()
		l, err := Parse(tree(map[string]string{"linux/rseq.h": string(data) + "\n"}))
		if err != nil {
			return
		}
		// Outputs can be generated from headers that Parse accepts.
		first, err := Parse(oldTree())
		if err != nil {
			t.Fatal(err)
		}
		all := []Layout{*first, *first, *l, *l, *l}
		all[1].Arch, all[3].Arch, all[4].Arch = "arm64", "arm64", "riscv64"
		if _, err := outputs(all); err != nil && !strings.Contains(err.Error(), "which Linux brought it") {
			t.Error(err)
		}
	})
}
