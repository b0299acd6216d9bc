//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/testutil"
)

// sectionOps are the sections that a program must have, for both kinds of index.
var sectionOps = []string{"add", "count", "count_float", "observe", "read_lock", "push", "pop", "push_batch", "pop_batch", "load_cbne_store", "load_add_store", "load_cbeq_store_add_load_store",
	"load_add_load_load_add_store", "load_cbne_load_cbne_store", "load_cbne_store_store", "load_cbne_memcpy_store"}

func sectionNames(machine elf.Machine) (names []string) {
	ops := sectionOps
	if machine != elf.EM_X86_64 { // there every store releases
		ops = append(slices.Clone(ops), "load_cbne_store_store_release", "load_cbne_memcpy_store_release")
	}
	for _, op := range ops {
		names = append(names, op+"_cpu_id", op+"_mm_cid")
	}
	return append(names, "spin")
}

// ordering is how many instructions of a function, up to its commit, order memory: a load that
// acquires, a store that releases, and on riscv64 a fence between two stores.
type ordering struct{ acquire, release, stores int }

// wantOrdering has what arm64 and riscv64 need; docs/architecture.md says why. No emulator
// reorders, so no other test notices that one is missing.
var wantOrdering = map[string]ordering{
	"count":                          {acquire: 1},
	"count_float":                    {acquire: 1},
	"observe":                        {acquire: 2, release: 1, stores: 1},
	"read_lock":                      {acquire: 1},
	"push":                           {acquire: 1},
	"pop":                            {acquire: 1},
	"push_batch":                     {acquire: 1},
	"pop_batch":                      {acquire: 1},
	"load_cbne_store":                {acquire: 1},
	"load_cbeq_store_add_load_store": {acquire: 1},
	"load_cbne_load_cbne_store":      {acquire: 2},
	"load_cbne_store_store":          {acquire: 1},
	"load_cbne_store_store_release":  {acquire: 1, release: 1},
	"load_cbne_memcpy_store":         {acquire: 1},
	"load_cbne_memcpy_store_release": {acquire: 1, release: 1},
}

// ordering counts them in an image for arm64 or riscv64.
func (i *image) ordering(t *testing.T, from, commit uint64) (n ordering) {
	t.Helper()
	for instruction := range slices.Chunk(i.bytes(t, from, int(commit-from)), 4) {
		switch code := i.ByteOrder.Uint32(instruction); {
		case i.Machine == elf.EM_AARCH64 && code&^0x3ff == 0xc8dffc00: // ldar
			n.acquire++
		case i.Machine == elf.EM_AARCH64 && code&^0x3ff == 0xc89ffc00: // stlr
			n.release++
		case i.Machine == elf.EM_RISCV && code == 0x0230000f: // fence r, rw
			n.acquire++
		case i.Machine == elf.EM_RISCV && code == 0x0310000f: // fence rw, w
			n.release++
		case i.Machine == elf.EM_RISCV && code == 0x0110000f: // fence w, w
			n.stores++
		}
	}
	return n
}

// TestELF reads linked programs: the metadata of each critical section is complete and right, in
// each way of linking, for each architecture. So are its instructions that order memory.
func TestELF(t *testing.T) {
	testutil.NeedCompilers(t)
	for arch, cc := range map[string]string{"amd64": "x86_64-linux-gnu-gcc", "arm64": "aarch64-linux-gnu-gcc", "riscv64": "riscv64-linux-gnu-gcc"} {
		env := []string{"GOARCH=" + arch, "CGO_ENABLED=1"}
		if arch != runtime.GOARCH {
			if _, err := exec.LookPath(cc); err != nil {
				t.Logf("%s not linked: %v", arch, err)
				continue
			}
			env = append(env, "CC="+cc)
		}
		for name, args := range map[string][]string{
			"default":  nil,
			"pie":      {"-buildmode=pie"},
			"static":   {"-ldflags=-linkmode=external -extldflags=-static"},
			"c-shared": {"-buildmode=c-shared"},
		} {
			t.Run(arch+"/"+name, func(t *testing.T) {
				path := "../cmd/rseq"
				if name == "c-shared" {
					path = "./testdata/lib"
				}
				checkELF(t, testutil.GoBuild(t, path, env, args...))
			})
		}
	}
}

// image is a linked file.
type image struct {
	*elf.File
	symbols map[string]elf.Symbol
	words   map[uint64]uint64 // by address, the word after relocation
}

func openImage(t *testing.T, path string) *image {
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	i := &image{file, map[string]elf.Symbol{}, map[uint64]uint64{}}
	symbols, err := file.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		i.symbols[s.Name] = s
	}
	if s := file.Section(".rela.dyn"); s != nil {
		data, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		for rela := (elf.Rela64{}); len(data) > 0; data = data[24:] {
			if _, err := binary.Decode(data, file.ByteOrder, &rela); err != nil {
				t.Fatal(err)
			}
			kind := elf.R_TYPE64(rela.Info)
			if file.Machine == elf.EM_X86_64 && kind == uint32(elf.R_X86_64_RELATIVE) ||
				file.Machine == elf.EM_AARCH64 && kind == uint32(elf.R_AARCH64_RELATIVE) ||
				file.Machine == elf.EM_RISCV && kind == uint32(elf.R_RISCV_RELATIVE) {
				i.words[rela.Off] = uint64(rela.Addend)
			}
		}
	}
	return i
}

// bytes returns n bytes of the file, at an address.
func (i *image) bytes(t *testing.T, at uint64, n int) []byte {
	t.Helper()
	for _, p := range i.Progs {
		if p.Type == elf.PT_LOAD && at >= p.Vaddr && at+uint64(n) <= p.Vaddr+p.Filesz {
			data := make([]byte, n)
			if _, err := p.ReadAt(data, int64(at-p.Vaddr)); err != nil {
				t.Fatal(err)
			}
			return data
		}
	}
	t.Fatalf("no %d bytes at %#x", n, at)
	return nil
}

func (i *image) word(t *testing.T, at uint64) uint64 {
	t.Helper()
	if w, ok := i.words[at]; ok {
		return w
	}
	return i.ByteOrder.Uint64(i.bytes(t, at, 8))
}

// signature returns RSEQ_SIG of the image's architecture.
func (i *image) signature() uint32 {
	return abi.Signature[map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_RISCV: "riscv64"}[i.Machine]]
}

// array returns the words of a section.
func (i *image) array(t *testing.T, section string) (words []uint64) {
	t.Helper()
	s := i.Section(section)
	if s == nil {
		t.Fatalf("no section %s", section)
	}
	for at := s.Addr; at < s.Addr+s.Size; at += 8 {
		words = append(words, i.word(t, at))
	}
	return words
}

func checkELF(t *testing.T, path string) {
	i := openImage(t, path)
	signature := i.signature()
	framed := i.frames(t)
	var descriptors []uint64
	functions := map[uint64]elf.Symbol{} // by the section's start
	for _, name := range sectionNames(i.Machine) {
		op := strings.TrimSuffix(strings.TrimSuffix(name, "_cpu_id"), "_mm_cid")
		name = "rseqgo_v1_cs_" + name
		symbol := func(suffix string) elf.Symbol {
			s, ok := i.symbols[name+suffix]
			if !ok {
				t.Fatalf("no symbol %s%s", name, suffix)
			}
			if elf.ST_BIND(s.Info) != elf.STB_LOCAL && elf.ST_VISIBILITY(s.Other) != elf.STV_HIDDEN {
				t.Errorf("%s%s is not hidden", name, suffix)
			}
			return s
		}
		f, d := symbol(""), symbol("_descriptor")
		start, commit, abort := symbol("_start").Value, symbol("_commit").Value, symbol("_abort").Value
		end := f.Value + f.Size
		descriptors = append(descriptors, d.Value)
		functions[start] = f
		switch {
		case elf.ST_TYPE(f.Info) != elf.STT_FUNC || f.Size == 0:
			t.Errorf("%s: type %v, size %d", name, elf.ST_TYPE(f.Info), f.Size)
		case elf.ST_TYPE(d.Info) != elf.STT_OBJECT || d.Size != 32 || d.Value%32 != 0:
			t.Errorf("%s: descriptor of type %v, size %d, at %#x", name, elf.ST_TYPE(d.Info), d.Size, d.Value)
		case f.Value >= start || start >= commit || commit >= end || abort <= commit || abort >= end:
			t.Errorf("%s: function %#x to %#x, start %#x, commit %#x, abort %#x", name, f.Value, end, start, commit, abort)
		case i.word(t, d.Value) != 0: // version and flags
			t.Errorf("%s: version and flags %#x", name, i.word(t, d.Value))
		case i.word(t, d.Value+8) != start || i.word(t, d.Value+16) != commit-start || i.word(t, d.Value+24) != abort:
			t.Errorf("%s: the descriptor says start %#x, length %#x, abort %#x", name,
				i.word(t, d.Value+8), i.word(t, d.Value+16), i.word(t, d.Value+24))
		case i.ByteOrder.Uint32(i.bytes(t, abort-4, 4)) != signature:
			t.Errorf("%s: %x in front of the abort address", name, i.bytes(t, abort-4, 4))
		case framed[f.Value] != f.Size:
			t.Errorf("%s: %d bytes, unwind information for %d", name, f.Size, framed[f.Value])
		}
		if i.Machine == elf.EM_X86_64 {
			continue // it keeps the order that sections need
		}
		want := wantOrdering[op]
		if i.Machine == elf.EM_AARCH64 {
			want.stores = 0 // a release and a later acquire are ordered there
		}
		if got := i.ordering(t, f.Value, commit); got != want {
			t.Errorf("%s: instructions that order memory: %+v: expected %+v", name, got, want)
		}
	}
	// The array has the descriptors of all code in the program. The C library has none.
	if got := i.array(t, "__rseq_cs_ptr_array"); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(descriptors))) {
		t.Errorf("__rseq_cs_ptr_array: %#x, want %#x", got, descriptors)
	}
	left := map[uint64]bool{}
	for pair := range slices.Chunk(i.array(t, "__rseq_exit_point_array"), 2) {
		f, ok := functions[pair[0]]
		if !ok || pair[1] < f.Value || pair[1] >= f.Value+f.Size {
			t.Errorf("exit point %#x of the section at %#x, %+v", pair[1], pair[0], f)
		}
		left[pair[0]] = true
	}
	if len(left) != len(descriptors) {
		t.Errorf("%d of %d sections have exit points", len(left), len(descriptors))
	}
	if t.Failed() {
		return
	}
	// own.c: on riscv64 its variable may be at the thread pointer, the area in it may not.
	if own := i.symbols["own"]; i.Machine == elf.EM_RISCV && (elf.ST_TYPE(own.Info) != elf.STT_TLS || own.Size != 128) {
		t.Errorf("thread-local variable own: type %v, %d bytes: expected 64 before the area", elf.ST_TYPE(own.Info), own.Size)
	}
	t.Logf("%v: %d descriptors, all in the pointer array; signature, ranges, exit points, unwind information right", i.Machine, len(descriptors))
	for _, p := range i.Progs {
		if p.Type == elf.PT_GNU_STACK && p.Flags&elf.PF_X != 0 {
			t.Error("the stack is executable")
		}
	}
	dynamic, _ := i.DynamicSymbols()
	for _, s := range dynamic {
		if strings.HasPrefix(s.Name, "rseqgo_") {
			t.Errorf("%s is exported", s.Name)
		}
	}
}

// frames returns the sizes of the functions that .eh_frame describes, by address. The pointers in
// .eh_frame are relative and of 4 bytes, as gcc and gas write them.
func (i *image) frames(t *testing.T) map[uint64]uint64 {
	t.Helper()
	s := i.Section(".eh_frame")
	if s == nil {
		t.Fatal("no .eh_frame")
	}
	data, err := s.Data()
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[uint64]uint64{}
	for at := 0; at+16 <= len(data); {
		length := int(i.ByteOrder.Uint32(data[at:]))
		if length == 0 {
			at += 4
			continue
		}
		if i.ByteOrder.Uint32(data[at+4:]) != 0 { // an FDE, and no CIE
			from := s.Addr + uint64(at) + 8 + uint64(int64(int32(i.ByteOrder.Uint32(data[at+8:]))))
			sizes[from] = uint64(i.ByteOrder.Uint32(data[at+12:]))
		}
		at += 4 + length
	}
	return sizes
}

// TestTwoVersions: every symbol of the C part contains the module's name and major version, so
// that one program can link two major versions.
func TestTwoVersions(t *testing.T) {
	testutil.NeedCompilers(t)
	dir := t.TempDir()
	var objects []string
	root := testutil.Root(t)
	for _, pattern := range []string{"*.h", "*.c", "cs_" + runtime.GOARCH + ".[sS]"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text = bytes.ReplaceAll(text, []byte("rseqgo_v1_"), []byte("rseqgo_v2_"))
			second := filepath.Join(dir, filepath.Base(file))
			if err := os.WriteFile(second, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if pattern != "*.h" {
				objects = append(objects, file, second)
			}
		}
	}
	for n, file := range objects { // the assembler looks for cs_common.h where it runs, before anywhere else
		if strings.EqualFold(filepath.Ext(file), ".s") {
			objects[n] = filepath.Join(dir, strconv.Itoa(n)+".o")
			testutil.Run(t, nil, "env", "-C", filepath.Dir(file), "gcc", "-c", "-o", objects[n], filepath.Base(file))
		}
	}
	i := openImage(t, testutil.CC(t, append([]string{"-shared", "-fPIC"}, append(objects, "-ldl", "-lpthread")...)...))
	for _, version := range []string{"v1", "v2"} {
		if _, ok := i.symbols["rseqgo_"+version+"_cs_add_cpu_id"]; !ok {
			t.Errorf("no %s", version)
		}
	}
}
