package main

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

const prefix = "rseqgo_v1_"

// steps matches the functions of cs_<arch>.s, all of whose instructions are stepped.
var steps = regexp.MustCompile(`^(convention|cs_.*|read_(cpu_id|node_id|mm_cid|index|index_mm_cid))$`)

// image is a linked program: its symbols, and the memory that is loaded.
type image struct {
	arch    *arch
	symbols map[string]elf.Symbol // the symbols of the sections, without the prefix
	loads   []mapping
}

// moduleRoot returns the folder of cs_<arch>.s.
func moduleRoot() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/rseq-go/rseq").Output()
	if err != nil {
		return "", fmt.Errorf("go list -m github.com/rseq-go/rseq: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// build links a program with the sections and reads it.
func build(a *arch, root, dir string) (*image, error) {
	path := filepath.Join(dir, a.name)
	c := exec.Command("go", "build", "-o", path, "./cmd/rseq")
	c.Dir = root
	c.Env = append(os.Environ(), "GOARCH="+a.name, "CGO_ENABLED=1", "GOFLAGS=")
	if a.name != runtime.GOARCH {
		c.Env = append(c.Env, "CC="+a.compiler)
	}
	if out, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("a program for %s: %w\n%s", a.name, err, out)
	}
	return openImage(a, path)
}

func openImage(a *arch, path string) (*image, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Machine != a.machine || f.Type != elf.ET_EXEC {
		return nil, fmt.Errorf("%s: %v, %v: expected %v, %v", path, f.Machine, f.Type, a.machine, elf.ET_EXEC)
	}
	i := &image{arch: a, symbols: map[string]elf.Symbol{}}
	symbols, err := f.Symbols()
	if err != nil {
		return nil, err
	}
	for _, s := range symbols {
		// Go's linker calls functions through jumps of its own, name-tramp0, on riscv64.
		if name, ok := strings.CutPrefix(s.Name, prefix); ok && !strings.Contains(name, "-tramp") {
			i.symbols[name] = s
		}
	}
	var used [][2]uint64 // the addresses of the sections and of what they read
	for name, s := range i.symbols {
		if s.Size > 0 && (steps.MatchString(name) ||
			name == "gate" || strings.HasPrefix(name, "portable_")) {
			used = append(used, [2]uint64{s.Value, s.Value + s.Size})
		}
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		from, to := ^uint64(0), uint64(0)
		for _, u := range used {
			if u[0] >= p.Vaddr && u[1] <= p.Vaddr+p.Memsz {
				from, to = min(from, u[0]), max(to, u[1])
			}
		}
		if from > to {
			continue
		}
		from, to = from&^(page-1), (to+page-1)&^(page-1)
		data := make([]byte, to-from)
		for at := max(from, p.Vaddr); at < min(to, p.Vaddr+p.Filesz); at++ {
			n, err := p.ReadAt(data[at-from:min(to, p.Vaddr+p.Filesz)-from], int64(at-p.Vaddr))
			if err != nil && n == 0 {
				return nil, err
			}
			at += uint64(n)
		}
		i.loads = append(i.loads, mapping{from, data})
	}
	if len(i.loads) == 0 {
		return nil, fmt.Errorf("%s: no sections", path)
	}
	return i, nil
}

// at returns the address of a symbol.
func (i *image) at(name string) (uint64, error) {
	s, ok := i.symbols[name]
	if !ok {
		return 0, fmt.Errorf("%s: no symbol %s%s", i.arch.name, prefix, name)
	}
	return s.Value, nil
}

// where returns an address as a disassembly has it: a function and an offset.
func (i *image) where(pc uint64) string {
	function, where := "", fmt.Sprintf("%#x", pc)
	for name, s := range i.symbols {
		if s.Size == 0 || elf.ST_TYPE(s.Info) != elf.STT_FUNC || pc < s.Value || pc >= s.Value+s.Size ||
			function != "" && len(function) < len(name) { // the shorter of two names
			continue
		}
		function, where = name, fmt.Sprintf("%s+%#x", name, pc-s.Value)
		for _, label := range []string{"start", "commit", "abort"} {
			if l, ok := i.symbols[name+"_"+label]; ok && l.Value == pc {
				where += " (" + label + ")"
			}
		}
	}
	return where
}

// uncovered returns the instructions of the functions that are not in ran.
func (i *image) uncovered(ran map[uint64]uint32) (never []string) {
	aborts := map[uint64]bool{}
	for name, s := range i.symbols {
		if strings.HasSuffix(name, "_abort") {
			aborts[s.Value] = true
		}
	}
	for name, f := range i.symbols {
		if !steps.MatchString(name) || elf.ST_TYPE(f.Info) != elf.STT_FUNC || f.Size == 0 {
			continue
		}
		gap := false
		for pc := f.Value; pc < f.Value+f.Size; {
			if n := ran[pc]; n > 0 {
				pc += uint64(n)
				gap = false
				continue
			}
			if !gap && !aborts[pc+i.arch.signature] {
				never = append(never, i.where(pc))
			}
			gap = true
			pc++
		}
	}
	slices.Sort(never)
	return never
}
