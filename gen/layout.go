package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/rseq-go/rseq/internal/debian"
)

// Label is the version and architecture of a tree of headers.
type Label struct {
	Glibc, Linux, Arch string
}

func (l Label) String() string { return l.Glibc + "/" + l.Linux + "/" + l.Arch }

// compare orders labels by the version of glibc, then of Linux, then by architecture.
func (l Label) compare(m Label) int {
	return cmp.Or(debian.CompareVersions(l.Glibc, m.Glibc), debian.CompareVersions(l.Linux, m.Linux), cmp.Compare(l.Arch, m.Arch))
}

// Layout is what the headers of one tree define.
type Layout struct {
	Label
	// Packages are the Debian packages that were read, as "libc6-dev 2.36-9". There are none
	// if a directory was named.
	Packages []string
	SysRseq  bool // the headers include sys/rseq.h, as from glibc 2.35 on
	Area     Struct
	CS       Struct
	// Constants are the macros and enumerators with rseq in their names, sorted.
	Constants []Constant
	// Symbols are glibc's __rseq_offset, __rseq_size and __rseq_flags.
	Symbols []Symbol `json:",omitempty"`
}

// Struct is a struct type in the kernel's headers.
type Struct struct {
	Name        string
	Size, Align int64
	Fields      []Field
	Flexible    *Field `json:",omitempty"` // the flexible array member at its end
}

// Field is a member of a struct. Its offset is from the outermost struct.
type Field struct {
	Name         string // empty for an anonymous struct or union
	Type         string
	Offset, Size int64
	Fields       []Field `json:",omitempty"` // of a struct or union
}

// Constant is a macro or an enumerator with an integer value.
type Constant struct {
	Name  string
	Value int64
	Enum  string `json:",omitempty"` // the enum that it belongs to
}

// Symbol is a variable that glibc exports.
type Symbol struct {
	Name, Type string
	Size       int64
}

// constant returns the value of a constant, and whether it is defined.
func (l *Layout) constant(name string) (int64, bool) {
	for _, c := range l.Constants {
		if c.Name == name {
			return c.Value, true
		}
	}
	return 0, false
}

// end returns how many bytes the fields take, without padding and the flexible member: the
// kernel's feature size.
func (s *Struct) end() (end int64) {
	for _, f := range s.Fields {
		end = max(end, f.Offset+f.Size)
	}
	return end
}

// leaf is a named field, with the names of the fields that it is part of.
type leaf struct {
	Field
	Path []string // in the system's headers
	Ours []string // in ours, which have no anonymous members
}

// leaves returns all named fields. The members of a struct or union come after it.
func (s *Struct) leaves() (all []leaf) {
	var walk func(path, ours []string, fields []Field)
	walk = func(path, ours []string, fields []Field) {
		for _, f := range fields {
			p, o := path, append(slices.Clip(ours), cName(f))
			if f.Name != "" {
				p = append(slices.Clip(path), f.Name)
				all = append(all, leaf{f, p, o})
			}
			walk(p, o, f.Fields)
		}
	}
	walk(nil, nil, s.Fields)
	return all
}

// fields returns the struct's own fields.
func (s *Struct) fields() (all []leaf) {
	for _, f := range s.leaves() {
		if len(f.Path) == 1 {
			all = append(all, f)
		}
	}
	return all
}

// usable returns the struct's own fields without the reserved ones.
func (s *Struct) usable() []leaf {
	return slices.DeleteFunc(s.fields(), func(f leaf) bool { return f.Name == reserved })
}

// names returns the names of the struct's own fields.
func (s *Struct) names() (names []string) {
	for _, f := range s.fields() {
		names = append(names, f.Name)
	}
	return names
}

func (l leaf) name() string { return strings.Join(l.Path, ".") }
func (l leaf) ours() string { return strings.Join(l.Ours, ".") }

// history has the Linux version that added each field of struct rseq, in order.
var history = []struct{ field, linux string }{
	{"cpu_id_start", "4.18"}, {"cpu_id", "4.18"}, {"rseq_cs", "4.18"}, {"flags", "4.18"}, // d7822b1e24f2
	{"node_id", "6.3"}, // cbae6bac29a8
	{"mm_cid", "6.3"},  // f7b01bb0b57f
	{"slice_ctrl", "7.0"},
}

// expectedFields returns the fields, in order, that struct rseq must have in the headers of a
// Linux version. More fields may follow.
func expectedFields(linux string) (fields []string) {
	for _, h := range history {
		if h.linux == history[0].linux || debian.CompareVersions(linux, h.linux) >= 0 {
			fields = append(fields, h.field)
		}
	}
	return fields
}

// since returns the Linux version that added a field of struct rseq, or "" if history does not
// have the field.
func since(field string) string {
	for _, h := range history {
		if h.field == field {
			return h.linux
		}
	}
	return ""
}

// consistent checks that the trees describe one ABI: a field has the same offset and type in
// all of them, later versions only add fields at the end, and a constant keeps its value on
// each architecture.
func consistent(layouts []Layout) error {
	type where struct {
		leaf
		in Label
	}
	fields := map[string]where{}
	constants := map[string]struct {
		Constant
		in Label
	}{}
	var before *Layout
	for i := range layouts {
		l := &layouts[i]
		for _, s := range []*Struct{&l.Area, &l.CS} {
			for _, f := range s.leaves() {
				key := "struct " + s.Name + ": " + f.name()
				was, seen := fields[key]
				if !seen {
					fields[key] = where{f, l.Label}
				} else if was.Offset != f.Offset || was.Size != f.Size || was.Type != f.Type {
					return fmt.Errorf("%s: %s is %s at offset %d, but in %s it is %s at offset %d: expected one ABI",
						l.Label, key, f.Type, f.Offset, was.in, was.Type, was.Offset)
				}
			}
		}
		for _, c := range l.Constants {
			key := l.Arch + " " + c.Name
			was, seen := constants[key]
			if !seen {
				was.Constant, was.in = c, l.Label
				constants[key] = was
			} else if was.Value != c.Value {
				return fmt.Errorf("%s: %s is %#x, but in %s it is %#x: expected one ABI", l.Label, c.Name, c.Value, was.in, was.Value)
			}
		}
		if before != nil && before.Arch == l.Arch {
			for _, f := range before.Area.Fields {
				if f.Name != reserved && !slices.ContainsFunc(l.Area.Fields, func(g Field) bool { return g.Name == f.Name }) {
					return fmt.Errorf("%s: struct rseq has no field %s, which %s has: expected later versions to add only",
						l.Label, f.Name, before.Label)
				}
			}
		}
		before = l
	}
	// In one version everything but constants is equal on all architectures.
	for i := range layouts {
		for j := range layouts[:i] {
			a, b := layouts[i], layouts[j]
			if a.Glibc != b.Glibc || a.Linux != b.Linux {
				continue
			}
			if d := difference(a.structure(), b.structure()); d != "" {
				return fmt.Errorf("%s and %s differ, expected one struct rseq on every architecture: %s", b.Label, a.Label, d)
			}
		}
	}
	return nil
}

// reserved is the byte after slice_ctrl. A later field may replace it.
const reserved = "__reserved"

// structure returns l without the parts that may differ between architectures.
func (l Layout) structure() Layout {
	return Layout{SysRseq: l.SysRseq, Area: l.Area, CS: l.CS, Symbols: l.Symbols}
}

// difference describes how b differs from a, "" if it does not. It ignores the packages.
func difference(a, b Layout) string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if a.SysRseq != b.SysRseq {
		say("sys/rseq.h: %s, was %s", present(b.SysRseq), present(a.SysRseq))
	}
	for _, s := range [][2]*Struct{{&a.Area, &b.Area}, {&a.CS, &b.CS}} {
		differ(say, "struct "+s[0].Name+": field ", s[0].leaves(), s[1].leaves(), leaf.name, func(f leaf) string {
			return fmt.Sprintf("%s, %d bytes at offset %d", f.Type, f.Size, f.Offset)
		})
		whole := func(s *Struct) string {
			flexible := "no flexible array member"
			if s.Flexible != nil {
				flexible = fmt.Sprintf("flexible %s %s[] at offset %d", s.Flexible.Type, s.Flexible.Name, s.Flexible.Offset)
			}
			return fmt.Sprintf("%d bytes, alignment %d, %s", s.Size, s.Align, flexible)
		}
		if x, y := whole(s[0]), whole(s[1]); x != y {
			say("struct %s: %s, was %s", s[0].Name, y, x)
		}
	}
	differ(say, "", a.Constants, b.Constants, func(c Constant) string { return c.Name },
		func(c Constant) string { return fmt.Sprintf("%#x", c.Value) + inEnum(c) })
	differ(say, "", a.Symbols, b.Symbols, func(s Symbol) string { return s.Name },
		func(s Symbol) string { return fmt.Sprintf("%s, %d bytes", s.Type, s.Size) })
	return strings.Join(lines, "\n")
}

func inEnum(c Constant) string {
	if c.Enum == "" {
		return ""
	}
	return " in enum " + c.Enum
}

func present(yes bool) string {
	if yes {
		return "there"
	}
	return "not there"
}

// differ calls say for each thing that is gone, changed or new.
func differ[T any](say func(string, ...any), what string, a, b []T, name, text func(T) string) {
	find := func(in []T, n string) (string, bool) {
		i := slices.IndexFunc(in, func(t T) bool { return name(t) == n })
		if i < 0 {
			return "", false
		}
		return text(in[i]), true
	}
	for _, x := range a {
		is, there := find(b, name(x))
		switch {
		case !there:
			say("%s%s is gone: was %s", what, name(x), text(x))
		case is != text(x):
			say("%s%s: %s, was %s", what, name(x), is, text(x))
		}
	}
	for _, y := range b {
		if _, there := find(a, name(y)); !there {
			say("%s%s is new: %s", what, name(y), text(y))
		}
	}
}
