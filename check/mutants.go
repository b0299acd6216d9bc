package main

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// mutant is a fault in the sections, made in their source or in the descriptors of the linked
// program. It must be found in each section.
type mutant struct {
	name string
	// edit changes cs_<arch>.s. It panics if the source lacks the text that it replaces.
	edit map[string]func(source string) string
	// patches returns changes of the program, which are made one at a time. ran has the
	// instructions.
	patches func(i *image, section string, ran map[uint64]uint32) []patch
	// in reports whether a section has the fault. nil: all have it.
	in func(op string, x index) bool
}

// patch replaces the bytes at an address.
type patch struct {
	name  string
	at    uint64
	bytes []byte
}

// replace returns an edit that replaces text, which the source must have.
func replace(pairs ...string) func(string) string {
	return func(source string) string {
		for i := 0; i < len(pairs); i += 2 {
			if !strings.Contains(source, pairs[i]) {
				panic("cs_<arch>.s has not the text that a mutant of check/mutants.go changes:\n" + pairs[i])
			}
			source = strings.ReplaceAll(source, pairs[i], pairs[i+1])
		}
		return source
	}
}

// each is an edit for each architecture.
func each(amd64, arm64, riscv64 func(string) string) map[string]func(string) string {
	return map[string]func(string) string{"amd64": amd64, "arm64": arm64, "riscv64": riscv64}
}

var committing = regexp.MustCompile(`(?m)^((?:\d:)?\t[^.\n]*\n)((?:\tCOMMIT\t|\tHIDDEN\t\\name\\\(\)_commit\n))`)

// twice doubles the committing instructions.
func twice(source string) string {
	if n := len(committing.FindAllString(source, -1)); n < 10 {
		panic(fmt.Sprintf("cs_<arch>.s: %d commits found", n))
	}
	return committing.ReplaceAllString(source, "$1$1$2")
}

func onOwn(op string, _ index) bool { return onList(op, 0) || onCells(op, 0) }
func onCells(op string, _ index) bool {
	return op == "add" || strings.HasPrefix(op, "count") || op == "observe" || op == "read_lock"
}
func onList(op string, _ index) bool {
	return strings.HasPrefix(op, "push") || strings.HasPrefix(op, "pop")
}
func named(op string, _ index) bool    { return strings.HasPrefix(op, "load_") }
func slowPath(op string, _ index) bool { return onOwn(op, 0) && op != "add" || reads(op, 0) }
func reads(op string, _ index) bool {
	return strings.HasPrefix(op, "read_") && op != "read_lock"
}
func gated(op string, _ index) bool   { return started(op, 0) || reads(op, 0) }
func started(op string, _ index) bool { return onOwn(op, 0) || named(op, 0) }

var allMutants = []mutant{{
	name: "the index is not compared", in: started,
	edit: each(replace("\tcmpl\t\\i, %fs:RSEQ_INDEX_\\index(%rdx)\n\tjne\t\\elsewhere\n", ""),
		replace("\tcmp\tw17, \\i\n\tb.ne\t\\elsewhere\n", ""),
		replace("\tbne\tt0, \\i, \\elsewhere\n", "")),
}, {
	name: "cpu_id < 0 is not asked by mm_cid",
	in:   func(op string, x index) bool { return started(op, x) && x == mmCID },
	edit: each(replace("\tcmpl\t$0, %fs:RSEQ_CPU_ID(%rdx)\n\tjs\t.L\\name\\()_unregistered\n\tEXIT", "\tEXIT"),
		replace("\t.ifc\t\\index, mm_cid\n\tREGISTERED \\name\n\t.endif\n", ""),
		replace("\t.ifc\t\\index, mm_cid\n\tREGISTERED \\name\n\t.endif\n", "")),
}, {
	name: "armed after the index is loaded", in: started,
	edit: each(replace("\tleaq\t\\name\\()_descriptor(%rip), %r11\n\tINJECT\t1\n\tmovq\t%r11, %fs:RSEQ_RSEQ_CS(%rdx)\n\tHIDDEN\t\\name\\()_start\n", "",
		"\tEXIT_POINT \\name, \\elsewhere\n\tINJECT\t3\n", "\tEXIT_POINT \\name, \\elsewhere\n"+
			"\tleaq\t\\name\\()_descriptor(%rip), %r11\n\tmovq\t%r11, %fs:RSEQ_RSEQ_CS(%rdx)\n\tHIDDEN\t\\name\\()_start\n"),
		replace("\tadrp\tx17, \\name\\()_descriptor\n\tadd\tx17, x17, :lo12:\\name\\()_descriptor\n\tINJECT\t1\n\tstr\tx17, [x16, #RSEQ_RSEQ_CS]\n\tHIDDEN\t\\name\\()_start\n", "",
			"\tEXIT_POINT \\name, \\elsewhere\n\tINJECT\t3\n", "\tEXIT_POINT \\name, \\elsewhere\n"+
				"\tadrp\tx17, \\name\\()_descriptor\n\tadd\tx17, x17, :lo12:\\name\\()_descriptor\n\tstr\tx17, [x16, #RSEQ_RSEQ_CS]\n\tHIDDEN\t\\name\\()_start\n"),
		replace("\tlla\tt0, \\name\\()_descriptor\n\tINJECT\t1\n\tsd\tt0, RSEQ_RSEQ_CS(t6)\n\tHIDDEN\t\\name\\()_start\n", "",
			"\tEXIT_POINT \\name, \\elsewhere\n\tINJECT\t3\n", "\tEXIT_POINT \\name, \\elsewhere\n"+
				"\tlla\tt0, \\name\\()_descriptor\n\tsd\tt0, RSEQ_RSEQ_CS(t6)\n\tHIDDEN\t\\name\\()_start\n")),
}, {
	name: "armed after the block is loaded", in: onList,
	edit: each(replace("\tSTART\t\\name, \\index, %r8d, \\name\\()_abort\n\tmovq\t(%r10), %r9\n", "\tmovq\t(%r10), %r9\n\tSTART\t\\name, \\index, %r8d, \\name\\()_abort\n"),
		replace("\tSTART\t\\name, \\index, w8, \\name\\()_abort\n\tldar\tx11, [x10]\n", "\tldar\tx11, [x10]\n\tSTART\t\\name, \\index, w8, \\name\\()_abort\n"),
		replace("\tSTART\t\\name, \\index, t1, \\name\\()_abort\n\tACQUIRE\tt4, (t3)\n", "\tACQUIRE\tt4, (t3)\n\tSTART\t\\name, \\index, t1, \\name\\()_abort\n")),
}, {
	name: "another section's descriptor", in: started,
	edit: each(replace("leaq\t\\name\\()_descriptor(%rip)", "leaq\trseqgo_v1_cs_spin_descriptor(%rip)"),
		replace("adrp\tx17, \\name\\()_descriptor", "adrp\tx17, rseqgo_v1_cs_spin_descriptor", ":lo12:\\name\\()_descriptor", ":lo12:rseqgo_v1_cs_spin_descriptor"),
		replace("lla\tt0, \\name\\()_descriptor", "lla\tt0, rseqgo_v1_cs_spin_descriptor")),
}, {
	name: "a reader does not ask whether the thread is registered", in: reads,
	edit: each(replace("\ttestl\t%ecx, %ecx\n\tjs\t.L\\name\\()_unregistered\n", ""), replace("\ttbnz\tw17, #31, .L\\name\\()_unregistered\n\t.ifnc", "\t.ifnc"),
		replace("\tbltz\tt0, .L\\name\\()_unregistered\n\t.ifnc", "\t.ifnc")),
}, {
	name: "not armed", in: started,
	edit: each(replace("\tmovq\t%r11, %fs:RSEQ_RSEQ_CS(%rdx)\n", ""), replace("\tstr\tx17, [x16, #RSEQ_RSEQ_CS]\n", ""),
		replace("\tsd\tt0, RSEQ_RSEQ_CS(t6)\n", "")),
}, {
	name: "two commits", in: started,
	edit: each(twice, twice, twice),
}, {
	name: "commit an instruction early", in: started,
	patches: func(i *image, section string, ran map[uint64]uint32) []patch {
		commit := i.symbols[section+"_commit"].Value
		for pc, n := range ran {
			if pc+uint64(n) == commit {
				return i.commitAt(section, pc)
			}
		}
		return nil
	},
}, {
	name: "commit an instruction late", in: started,
	patches: func(i *image, section string, ran map[uint64]uint32) []patch {
		commit := i.symbols[section+"_commit"].Value
		return i.commitAt(section, commit+uint64(ran[commit]))
	},
}, {
	name: "an instruction is left out", in: gated, // nothing commits in spin
	patches: func(i *image, section string, ran map[uint64]uint32) (list []patch) {
		f := i.symbols[section]
		for _, pc := range slices.Sorted(maps.Keys(ran)) {
			if pc >= f.Value && pc < f.Value+f.Size && !i.fence(pc) {
				list = append(list, patch{i.where(pc), pc, bytes.Repeat(i.arch.nop, int(ran[pc])/len(i.arch.nop))})
			}
		}
		return list
	},
}, {
	name: "no signature", in: func(op string, _ index) bool { return !reads(op, 0) },
	edit: each(replace("\t.long\tRSEQ_SIG\n", "\t.long\t0\n"), replace("\t.inst\tRSEQ_SIG\n", "\t.inst\t0xd503201f\n"),
		replace("\t.4byte\tRSEQ_SIG\n", "\tnop\n")),
}, {
	name: "tries without end", in: onOwn,
	edit: each(replace("\tcmpl\t$TRIES, \\tries\n\tjb\t", "\tjmp\t"), replace("\tcmp\t\\tries, #TRIES\n\tb.lo\t", "\tb\t"),
		replace("\tli\tt0, TRIES\n\tbltu\t\\tries, t0, ", "\tj\t")),
}, {
	name: "tries are not counted from zero", in: onCells,
	edit: each(replace("\txorl\t\\tries, \\tries\n", ""), replace("\tmov\t\\tries, #0\n", ""),
		replace("\tli\t\\tries, 0\n", "")),
}, {
	name: "an index that cannot be is not refused", in: named,
	edit: each(replace("\tjae\t.L\\name\\()_range\n", "", ".L\\name\\()_range:", ""), replace("\tb.hs\t.L\\name\\()_range\n", ""),
		replace("\tbgeu\t\\i, t0, .L\\name\\()_range\n", "")),
}, {
	name: "an index beyond the struct is not refused", in: onOwn,
	edit: each(replace("\tjge\t.L\\name\\()_beyond\n", ""), replace("\tb.ge\t.L\\name\\()_beyond\n", ""),
		replace("\tbge\tt1, t2, .L\\name\\()_beyond\t", "\t")),
}, {
	name: "the gate is not asked", in: gated,
	edit: each(replace("\ttestq\t%rdx, %rdx\n\tjz\t.L\\name\\()_closed\n", ""), replace("\tcbz\tx16, .L\\name\\()_closed\n", ""),
		replace("\tbeqz\tt6, .L\\name\\()_closed\n", "")),
}, {
	name: "a register changes before the gate is asked", in: gated,
	edit: each(replace("\tmovq\trseqgo_v1_gate + \\word(%rip), %rdx\n", "\tmovl\t$0, %r11d\n\tmovq\trseqgo_v1_gate + \\word(%rip), %rdx\n"),
		replace("\tadrp\tx16, rseqgo_v1_gate + \\word\n", "\tmov\tx15, #0\n\tadrp\tx16, rseqgo_v1_gate + \\word\n"),
		replace("\tld\tt6, rseqgo_v1_gate + \\word\n", "\tli\ts7, 0\n\tld\tt6, rseqgo_v1_gate + \\word\n")),
}, {
	name: "the slow path does not get the gate", in: slowPath,
	edit: each(replace("\tleaq\trseqgo_v1_gate(%rip), \\slow\n", ""), replace("\tadrp\t\\slow, rseqgo_v1_gate\n\tadd\t\\slow, \\slow, :lo12:rseqgo_v1_gate\n\tldr\tx27", "\tldr\tx27"),
		replace("\tlla\t\\slow, rseqgo_v1_gate\n", "")),
}, {
	name: "the slow path gets another context", in: slowPath,
	edit: each(replace("\tmovq\t\\slow, %rdx\n\tleaq\trseqgo_v1_gate(%rip), \\slow\n\tjmp\t*(%rdx)\n", "\tmovq\t\\slow, %r11\n\tleaq\trseqgo_v1_gate(%rip), \\slow\n\tjmp\t*(%r11)\n"),
		replace("\tmov\tx26, \\slow\n", "\tmov\tx27, \\slow\n", "\tldr\tx27, [x26]\n", "\tldr\tx27, [x27]\n"),
		replace("\tmv\ts10, \\slow\n", "\tmv\ts9, \\slow\n", "\tld\tt6, (s10)\n", "\tld\tt6, (s9)\n")),
}, {
	name: "the slow path gets another status", in: onList,
	edit: each(replace("\tmovl\t$\\status, \\result\n", "\tmovl\t$(\\status + 1) % 5, \\result\n"), replace("\tmov\t\\result, #\\status\n", "\tmov\t\\result, #(\\status + 1) % 5\n"),
		replace("\tli\t\\result, \\status\n", "\tli\t\\result, (\\status + 1) % 5\n")),
}, {
	name: "a register that Go keeps is used", in: started,
	edit: each(replace("\tINJECT\t3\n", "\tmovl\t$0, %r14d\n"), replace("\tINJECT\t3\n", "\tmov\tx28, #0\n"),
		replace("\tINJECT\t3\n", "\tli\ts11, 0\n")),
}, {
	name: "the vector register is not zero", in: started,
	edit: map[string]func(string) string{"amd64": replace("\tINJECT\t3\n", "\tpcmpeqd\t%xmm15, %xmm15\n")},
}, {
	name: "the stack is used", in: started,
	edit: each(replace("\tINJECT\t3\n", "\tmovq\t%r11, -8(%rsp)\n"), replace("\tINJECT\t3\n", "\tstr\tx17, [sp, #-8]\n"),
		replace("\tINJECT\t3\n", "\tsd\tt0, -8(sp)\n")),
}, {
	name: "another field of the area is written", in: started,
	edit: each(replace("\tINJECT\t3\n", "\tmovl\t$0, %fs:RSEQ_FLAGS(%rdx)\n"), replace("\tINJECT\t3\n", "\tstr\twzr, [x16, #RSEQ_FLAGS]\n"),
		replace("\tINJECT\t3\n", "\tsw\tzero, RSEQ_FLAGS(t6)\n")),
}}

// harmless says why leaving out an instruction changes nothing, or returns "".
func harmless(arch, instruction string) string {
	for _, h := range []struct{ arch, instruction, why string }{
		{"amd64", `(count|float|observe)_mm_cid\+0xc$`, "xor: the function for cpu_id has done it"},
		{"arm64", `(count|float|observe)_mm_cid\+0x14$`, "mov: the function for cpu_id has done it"},
		{"arm64", `(count|float|observe|push|pop|batch|store|release|index|lock)_mm_cid\+0xc$`, "mrs: the function for cpu_id has done it"},
		{"amd64", `read_lock_mm_cid\+0x(c|f|12|14)$`, "mov, test, jz, xor: the function for cpu_id has done it"},
		{"arm64", `read_lock_mm_cid\+0x(14|18|1c)$`, "ldr, cbz, mov: the function for cpu_id has done it"},
		{"arm64", `cs_pop_mm_cid\+0x18$`, "ldr: the function for cpu_id has done it, and nothing changes the register"},
		{"amd64", `memcpy_store_(cpu_id\+0x4d|mm_cid\+0x4c)$`, "jae: bytes are copied where words could be"},
		{"arm64", `memcpy_store_(release_)?(cpu_id|mm_cid)\+0x64$`, "b.hs: bytes are copied where words could be"},
		{"riscv64", `(count|float|observe)_mm_cid\+0x10$`, "li: the function for cpu_id has done it"},
		{"riscv64", `read_lock_mm_cid\+0x(10|14|18)$`, "ld, beqz, li: the function for cpu_id has done it"},
		{"riscv64", `memcpy_store_(release_)?(cpu_id|mm_cid)\+0x(44|48|4c|50|6c)$`, "or, andi, bnez, li, j: bytes are copied where words could be, or words where bytes are faster"},
	} {
		if arch == h.arch && regexp.MustCompile(h.instruction).MatchString(instruction) {
			return h.why
		}
	}
	return ""
}

// fence reports whether an instruction only orders memory, which the emulator's is always.
func (i *image) fence(pc uint64) bool {
	for _, l := range i.loads {
		if pc >= l.at && pc-l.at < uint64(len(l.bytes)) {
			return i.arch.fence != nil && i.arch.fence(l.bytes[pc-l.at:])
		}
	}
	return false
}

// commitAt returns the patch that moves the end of a section's range in its descriptor.
func (i *image) commitAt(section string, pc uint64) []patch {
	n := pc - i.symbols[section+"_start"].Value
	return []patch{{"", i.symbols[section+"_descriptor"].Value + csLen, binary.LittleEndian.AppendUint64(nil, n)}}
}

// with returns a copy of the image with a patch.
func (i *image) with(p patch) *image {
	patched := *i
	patched.loads = nil
	for _, l := range i.loads {
		b := slices.Clone(l.bytes)
		if p.at >= l.at && p.at-l.at < uint64(len(b)) {
			copy(b[p.at-l.at:], p.bytes)
		}
		patched.loads = append(patched.loads, mapping{l.at, b})
	}
	return &patched
}

// mutants makes all faults. For each section it prints the schedule that found the fault; a fault
// that is not found is an error.
func mutants(root, dir string, chosen []operation) error {
	type job struct {
		m *mutant
		a *arch
	}
	var jobs []job
	for n := range allMutants {
		for _, a := range arches {
			if m := &allMutants[n]; m.patches != nil || m.edit[a.name] != nil {
				jobs = append(jobs, job{m, a})
			}
		}
	}
	texts, errs := make([]string, len(jobs)), make([]error, len(jobs))
	var mu sync.Mutex
	next := 0
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				mu.Lock()
				n := next
				next++
				mu.Unlock()
				if n >= len(jobs) {
					return
				}
				path := filepath.Join(dir, fmt.Sprint("mutant", n))
				texts[n], errs[n] = jobs[n].m.find(jobs[n].a, root, path, chosen)
			}
		})
	}
	wg.Wait()
	found, spared := 0, 0
	for n, j := range jobs {
		fmt.Printf("== %s: %s\n%s", j.a.name, j.m.name, texts[n])
		found += strings.Count(texts[n], "\n\t")
		spared += strings.Count(texts[n], ": harmless\n")
	}
	fmt.Printf("%d faults in sections, of %d kinds, found; %d harmless\n", found-spared, len(allMutants), spared)
	return errors.Join(errs...)
}

// find looks for the mutant in each section that has it.
func (m *mutant) find(a *arch, root, path string, chosen []operation) (text string, err error) {
	source, err := os.ReadFile(filepath.Join(root, a.source))
	if err != nil {
		return "", err
	}
	changed := string(source)
	if m.edit != nil {
		changed = m.edit[a.name](changed)
	}
	i, err := assemble(a, root, path, changed)
	if err != nil {
		return "", err
	}
	var missed []string
	lastSection := ""
	for _, op := range chosen {
		for _, x := range []index{cpuID, mmCID} {
			if m.in != nil && !m.in(op.name, x) {
				continue
			}
			section := op.name
			switch {
			case op.name == "spin":
				section = "cs_spin"
			case !reads(op.name, x):
				section = "cs_" + op.name + "_" + x.String()
			case x == mmCID:
				section += "_mm_cid"
			}
			if _, ok := i.symbols[section]; !ok || section == lastSection {
				continue
			}
			if _, ok := i.symbols[section+"_descriptor"]; !ok && !reads(op.name, x) {
				continue // the name of another section
			}
			lastSection = section
			scenarios := op.scenarios(i)
			slices.SortStableFunc(scenarios, func(a, b *scenario) int { // the section's own scenarios first
				return cmp.Compare(a.index^x, b.index^x)
			})
			list := []patch{{}}
			if m.patches != nil {
				ran, _, err := tryScenarios(i, scenarios, 1)
				if err != nil {
					return text, err
				}
				if list = m.patches(i, section, ran); len(list) == 0 {
					return text, fmt.Errorf("%s: %q cannot be made in %s", a.name, m.name, section)
				}
			}
			for _, p := range list {
				name := cmp.Or(p.name, section)
				if why := harmless(a.name, name); why != "" {
					text += name + ": harmless\n\t" + why + "\n"
					continue
				}
				var f *failure
				for events := 0; events < 3 && f == nil; events++ {
					if _, f, err = tryScenarios(i.with(p), scenarios, events); err != nil {
						return text, err
					}
				}
				if f == nil {
					missed = append(missed, name)
				} else {
					text += name + ": " + strings.TrimPrefix(f.Error(), section+", ") + "\n"
				}
			}
		}
	}
	if missed != nil {
		return text, fmt.Errorf("%s: %q is not found in %s", a.name, m.name, strings.Join(missed, ", "))
	}
	return text, nil
}

// tryScenarios returns the instructions that ran, and the first failure.
func tryScenarios(i *image, scenarios []*scenario, events int) (ran map[uint64]uint32, f *failure, err error) {
	s, err := newSession(i)
	if err != nil {
		return nil, nil, err
	}
	defer s.e.close()
	for _, sc := range scenarios {
		for _, v2 := range []bool{false, true} {
			if _, _, err := s.check(sc, v2, events); err != nil && !errors.As(err, &f) {
				return nil, nil, err
			} else if f != nil {
				return s.covered, f, nil
			}
		}
	}
	return s.covered, nil, nil
}

// assemble links a program that has the sections alone.
func assemble(a *arch, root, path, source string) (*image, error) {
	file := path + filepath.Ext(a.source)
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		return nil, err
	}
	cc := a.compiler
	if a.name == runtime.GOARCH {
		cc = "gcc"
	}
	c := exec.Command(cc, "-nostdlib", "-static", "-no-pie", "-Wl,-e,0", "-o", path, file)
	c.Dir = root // for .include
	if out, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), err, out)
	}
	return openImage(a, path)
}
