package main

import (
	"errors"
	"fmt"
	"io"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"modernc.org/cc/v4"

	"github.com/rseq-go/rseq/internal/debian"
)

// predefined has the macros and types of a compiler that the headers use.
const predefined = `
#define __STDC__ 1
#define __STDC_VERSION__ 199901L
#define __STDC_HOSTED__ 1
#define __GNUC__ 12
#define __GNUC_MINOR__ 2
#define __linux__ 1
#define __LP64__ 1
#define _LP64 1
#define __CHAR_BIT__ 8
#define __SIZEOF_INT__ 4
#define __SIZEOF_LONG__ 8
#define __SIZEOF_LONG_LONG__ 8
#define __SIZEOF_POINTER__ 8
#define __SIZEOF_SIZE_T__ 8
#define __SIZEOF_PTRDIFF_T__ 8
#define __SIZEOF_WCHAR_T__ 4
#define __SIZEOF_INT128__ 16
#define __SIZE_TYPE__ unsigned long
#define __PTRDIFF_TYPE__ long
#define __WCHAR_TYPE__ int
#define __INTMAX_TYPE__ long
#define __UINTMAX_TYPE__ unsigned long
#define __ORDER_LITTLE_ENDIAN__ 1234
#define __ORDER_BIG_ENDIAN__ 4321
#define __BYTE_ORDER__ 1234
#define __extension__
int __predefined_declarator;
typedef void *__builtin_va_list;
typedef unsigned long __predefined_size_t;
typedef int __predefined_wchar_t;
typedef long __predefined_ptrdiff_t;
`

var predefinedArch = map[string]string{
	"amd64":   "#define __x86_64__ 1\n#define __amd64__ 1\n",
	"arm64":   "#define __aarch64__ 1\n#define __AARCH64EL__ 1\n",
	"riscv64": "#define __riscv 1\n#define __riscv_xlen 64\n#define __riscv_float_abi_double 1\n",
}

// headers are the headers that define something of rseq, or the versions of the tree.
var headers = []string{
	"sys/rseq.h", "linux/rseq.h", "linux/auxvec.h", "linux/membarrier.h", "linux/prctl.h", "linux/ptrace.h",
	"asm/unistd.h", "linux/version.h", "features.h",
}

// The variables by which the parser finds the two structs.
const areaVariable, csVariable = "__gen_area", "__gen_cs"

// firstSyscall is the number of read(2), which tells the architecture. riscvSyscall tells
// riscv64 from others with the same number.
var firstSyscall = map[string]int64{"amd64": 0, "arm64": 63, "riscv64": 63}

const riscvSyscall = "__NR_riscv_flush_icache"

// Parse reads a tree's headers. An error names the file and the line, what was found and what
// was expected.
func Parse(t *Tree) (l *Layout, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: the C parser gave up on the headers in %s: %v", t.Label, t.Dir, r)
		}
	}()
	l = &Layout{Label: t.Label, Packages: t.Packages, SysRseq: t.found("sys/rseq.h")}
	var missing []error
	source := ""
	for _, name := range headers {
		switch {
		case t.found(name):
			source += "#include <" + name + ">\n"
		case name == "sys/rseq.h" && debian.CompareVersions(t.Glibc, "2.35") < 0:
		default:
			missing = append(missing, fmt.Errorf("%s: no %s in %s of %s: expected the headers of glibc %s and Linux %s for %s",
				t.Label, name, strings.Join(t.Include, ", "), t.Dir, t.Glibc, t.Linux, t.Arch))
		}
	}
	if len(missing) > 0 {
		return nil, errors.Join(missing...)
	}
	source += "struct rseq " + areaVariable + ";\nstruct rseq_cs " + csVariable + ";\n"

	ast, err := t.translate(source)
	if err != nil {
		return nil, err
	}
	p := &parser{tree: t, ast: ast, specifiers: map[string]*cc.StructOrUnionSpecifier{}}
	walk(ast.TranslationUnit, func(n cc.Node) {
		if s, ok := n.(*cc.StructOrUnionSpecifier); ok && s.StructDeclarationList != nil && s.Token.SrcStr() != "" {
			p.specifiers[s.Token.SrcStr()] = s
		}
	})
	if err := p.labels(); err != nil {
		return nil, err
	}
	if l.Area, err = p.structType("rseq", areaVariable, expectedFields(t.Linux)); err != nil {
		return nil, err
	}
	if l.CS, err = p.structType("rseq_cs", csVariable, []string{"version", "flags", "start_ip", "post_commit_offset", "abort_ip"}); err != nil {
		return nil, err
	}
	if l.Constants, err = p.constants(l.SysRseq); err != nil {
		return nil, err
	}
	if l.SysRseq {
		l.Symbols, err = p.symbols()
	}
	return l, err
}

// translate parses and checks source with the tree's headers, and no header of this machine.
func (t *Tree) translate(source string) (*cc.AST, error) {
	abi, err := cc.NewABI("linux", t.Arch)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.Label, err)
	}
	include := append([]string{compilerHeaders}, t.Include...)
	var unread, pragma error
	opened := 0
	cfg := &cc.Config{
		ABI:            abi,
		FS:             withCompiler{t.FS, &unread, &opened},
		FSOnly:         true,
		EvalAllMacros:  true,
		ExpansionLimit: 10_000_000,
		// Without "@" sys/rseq.h does not find linux/rseq.h by __has_include ("...").
		IncludePaths:    append([]string{"@"}, include...),
		SysIncludePaths: include,
		PragmaHandler: func(tokens []cc.Token) error {
			for _, tok := range tokens {
				if tok.SrcStr() == "pack" && pragma == nil {
					pragma = t.errorf(tok, "#pragma pack, which the parser ignores: expected none")
				}
			}
			return nil
		},
	}
	sources := []cc.Source{
		{Name: "<predefined>", Value: predefined + predefinedArch[t.Arch]},
		{Name: "<gen>", Value: source},
	}
	// An error of the preprocessor cuts the parser's input off, and there the parser may loop
	// for ever, as after "enum".
	var ast *cc.AST
	if err = cc.Preprocess(cfg, sources, io.Discard); err == nil {
		ast, err = cc.Translate(cfg, sources)
	}
	switch {
	case unread != nil:
		return nil, fmt.Errorf("%s: %w (in %s): expected a file that can be read", t.Label, unread, t.Dir)
	case err != nil:
		return nil, fmt.Errorf("%s: %w (in %s)", t.Label, err, t.Dir)
	case pragma != nil:
		return nil, pragma
	}
	return ast, nil
}

// errorf returns an error with the file and line of n.
func (t *Tree) errorf(n cc.Node, format string, args ...any) error {
	at := n.Position()
	return fmt.Errorf("%s: %s:%d: %s", t.Label, path.Join(t.Dir, at.Filename), at.Line, fmt.Sprintf(format, args...))
}

type parser struct {
	tree       *Tree
	ast        *cc.AST
	specifiers map[string]*cc.StructOrUnionSpecifier // by tag
}

// labels checks that the tree has the versions and the architecture of its label.
func (p *parser) labels() error {
	t := p.tree
	value := func(macro string) (int64, *cc.Macro, error) {
		m := p.ast.Macros[macro]
		if m == nil {
			return 0, nil, fmt.Errorf("%s: no header in %s defines %s", t.Label, t.Dir, macro)
		}
		v, ok := integer(m.Value())
		if !ok {
			return 0, nil, t.errorf(m, "%s is no integer", macro)
		}
		return v, m, nil
	}
	read, at, err := value("__NR_read")
	if err != nil {
		return err
	}
	if want := firstSyscall[t.Arch]; read != want {
		return t.errorf(at, "read(2) has number %d: expected %d, headers of architecture %s", read, want, t.Arch)
	}
	if riscv := p.ast.Macros[riscvSyscall]; riscv != nil && t.Arch != "riscv64" {
		return t.errorf(riscv, "%s is defined: expected headers of architecture %s", riscvSyscall, t.Arch)
	} else if riscv == nil && t.Arch == "riscv64" {
		return t.errorf(at, "%s is not defined: expected it in headers of architecture riscv64", riscvSyscall)
	}
	code, at, err := value("LINUX_VERSION_CODE")
	if err != nil {
		return err
	}
	if is := fmt.Sprintf("%d.%d", code>>16, code>>8&0xff); is != t.Linux {
		return t.errorf(at, "these are headers of Linux %s: expected %s", is, t.Linux)
	}
	major, _, err := value("__GLIBC__")
	if err != nil {
		return err
	}
	minor, at, err := value("__GLIBC_MINOR__")
	if err != nil {
		return err
	}
	if is := fmt.Sprintf("%d.%d", major, minor); is != t.Glibc {
		return t.errorf(at, "these are headers of glibc %s: expected %s", is, t.Glibc)
	}
	return nil
}

// declarator returns the declarator of a name at file scope.
func (p *parser) declarator(name string) *cc.Declarator {
	for _, n := range p.ast.Scope.Nodes[name] {
		if d, ok := n.(*cc.Declarator); ok {
			return d
		}
	}
	return nil
}

// structType returns the type of a variable, which is struct name of linux/rseq.h.
func (p *parser) structType(name, variable string, fields []string) (Struct, error) {
	t := p.tree
	s := Struct{Name: name}
	spec := p.specifiers[name]
	if spec == nil {
		return s, fmt.Errorf("%s: no header in %s defines struct %s: expected it in linux/rseq.h", t.Label, t.Dir, name)
	}
	if file := spec.Position().Filename; !strings.HasSuffix(file, "linux/rseq.h") {
		return s, t.errorf(spec, "struct %s is defined here: expected it in linux/rseq.h", name)
	}
	if err := p.plain(spec, name); err != nil {
		return s, err
	}
	typ, ok := p.declarator(variable).Type().(*cc.StructType)
	if !ok || typ.IsIncomplete() {
		return s, t.errorf(spec, "%s is %v: expected a struct", name, p.declarator(variable).Type())
	}
	s.Size, s.Align = typ.Size(), int64(typ.Align())
	for i := range typ.NumFields() {
		f := typ.FieldByIndex(i)
		if f.IsFlexibleArrayMember() {
			s.Flexible = &Field{Name: f.Name(), Type: typeName(f.Type().(*cc.ArrayType).Elem()), Offset: f.Offset()}
			continue
		}
		field, err := p.field(spec, f, 0)
		if err != nil {
			return s, err
		}
		s.Fields = append(s.Fields, field)
	}
	at := 0
	for _, want := range fields {
		i := slices.IndexFunc(s.Fields[at:], func(f Field) bool { return f.Name == want })
		if i < 0 {
			return s, t.errorf(spec, "struct %s has no field %s where it is due: expected %s in this order, as in Linux %s",
				name, want, strings.Join(fields, ", "), t.Linux)
		}
		at += i + 1
	}
	return s, nil
}

// plain returns an error for C that cc or the outputs would silently get wrong.
func (p *parser) plain(spec *cc.StructOrUnionSpecifier, name string) (err error) {
	fail := func(at cc.Node, format string, args ...any) {
		if err == nil {
			err = p.tree.errorf(at, "struct %s: "+format, append([]any{name}, args...)...)
		}
	}
	own := map[cc.Node]bool{} // the struct's own attributes
	for _, list := range []*cc.AttributeSpecifierList{spec.AttributeSpecifierList, spec.AttributeSpecifierList2} {
		walk(list, func(n cc.Node) { own[n] = name == "rseq" || name == "rseq_cs" })
	}
	walk(spec, func(n cc.Node) {
		switch n := n.(type) {
		case *cc.AttributeValue:
			attribute := strings.Trim(n.Token.SrcStr(), "_")
			if attribute != "aligned" || n.Case != cc.AttributeValueExpr || !own[n] {
				fail(n, "unknown attribute %q: expected aligned(n) alone, of struct rseq or rseq_cs", n.Token.SrcStr())
			}
		case *cc.AlignmentSpecifier:
			fail(n, "an alignment specifier: expected the attribute aligned(n) alone")
		case *cc.StructDeclarator:
			if n.Case == cc.StructDeclaratorBitField {
				fail(n, "a bit-field: expected none")
			}
		}
	})
	return err
}

// field describes f. base is the offset of the struct that it is in.
func (p *parser) field(spec cc.Node, f *cc.Field, base int64) (Field, error) {
	typ := f.Type()
	out := Field{Name: f.Name(), Type: typeName(typ), Offset: base + f.Offset(), Size: typ.Size()}
	if d := f.Declarator(); d != nil && d.Position().Line > 0 {
		spec = d
	}
	if a := typ.Attributes(); f.IsBitfield() || a != nil && (a.Aligned() > 0 || a.IsAttrSet("packed") || a.IsAttrSet("__packed__")) {
		return out, p.tree.errorf(spec, "field %s is a bit-field or its type has an attribute: expected neither", f.Name())
	}
	var members interface {
		NumFields() int
		FieldByIndex(int) *cc.Field
	}
	switch x := typ.(type) {
	case *cc.StructType:
		members = x
		if spec := p.specifiers[tag(x)]; spec != nil {
			if err := p.plain(spec, tag(x)); err != nil {
				return out, err
			}
		} else if x.Typedef() != nil {
			return out, p.tree.errorf(spec, "field %s has a struct type without a name of its own: expected struct and a name", f.Name())
		}
	case *cc.UnionType:
		members = x
		// The time slice extension has a union in a struct of its own. The first member of
		// the union is as large as the union.
		if base == 0 {
			return out, p.tree.errorf(spec, "a union, %q, directly in the struct: expected none", f.Name())
		}
		if tag(x) != "" || x.Typedef() != nil {
			return out, p.tree.errorf(spec, "a union that has a name of its own, %v: expected it to be declared in place", x)
		}
		if x.NumFields() == 0 || !cc.IsIntegerType(x.FieldByIndex(0).Type()) || x.FieldByIndex(0).Type().Size() != x.Size() {
			return out, p.tree.errorf(spec, "a union, %q, whose first member is not an integer of its size", f.Name())
		}
	default:
		if !cc.IsIntegerType(typ) {
			return out, p.tree.errorf(spec, "field %s is %v: expected an integer or a struct", f.Name(), typ)
		}
		return out, nil
	}
	for i := range members.NumFields() {
		member, err := p.field(spec, members.FieldByIndex(i), out.Offset)
		if err != nil {
			return out, err
		}
		out.Fields = append(out.Fields, member)
	}
	return out, nil
}

// typeName returns the name of a type without typedefs.
func typeName(t cc.Type) string {
	switch {
	case t.Kind() == cc.Char:
		return "char"
	case cc.IsIntegerType(t) && cc.IsSignedInteger(t):
		return fmt.Sprintf("int%d_t", 8*t.Size())
	case cc.IsIntegerType(t):
		return fmt.Sprintf("uint%d_t", 8*t.Size())
	}
	switch x := t.(type) {
	case *cc.StructType:
		return strings.TrimSpace("struct " + tag(x))
	case *cc.UnionType:
		return strings.TrimSpace("union " + tag(x))
	}
	return t.String()
}

var (
	namesRseq = regexp.MustCompile(`(^|_)(RSEQ|NR_rseq)(_|$)`)
	guard     = regexp.MustCompile(`^_.*_H$`)
)

// constants returns the macros and enumerators with rseq in their names.
func (p *parser) constants(sysRseq bool) ([]Constant, error) {
	t := p.tree
	found := map[string]Constant{}
	for name, m := range p.ast.Macros {
		if !namesRseq.MatchString(name) || guard.MatchString(name) || m.IsFnLike || len(m.ReplacementList()) == 0 || name == "__GLIBC_HAVE_KERNEL_RSEQ" {
			continue
		}
		v, ok := integer(m.Value())
		if !ok {
			return nil, t.errorf(m, "macro %s has no integer value: expected a number, or teach gen to leave it out", name)
		}
		found[name] = Constant{Name: name, Value: v}
	}
	walk(p.ast.TranslationUnit, func(n cc.Node) {
		spec, ok := n.(*cc.EnumSpecifier)
		if !ok || spec.Case != cc.EnumSpecifierDef {
			return
		}
		for list := spec.EnumeratorList; list != nil; list = list.EnumeratorList {
			name := list.Enumerator.Token.SrcStr()
			if v, ok := integer(list.Enumerator.Value()); ok && namesRseq.MatchString(name) {
				found[name] = Constant{name, v, spec.Token2.SrcStr()}
			}
		}
	})
	for _, want := range []string{"RSEQ_FLAG_UNREGISTER", "RSEQ_CPU_ID_UNINITIALIZED", "RSEQ_CPU_ID_REGISTRATION_FAILED", "__NR_rseq"} {
		if _, ok := found[want]; !ok {
			return nil, fmt.Errorf("%s: no header in %s defines %s: expected it since Linux 4.18", t.Label, t.Dir, want)
		}
	}
	if _, ok := found["RSEQ_SIG"]; sysRseq && !ok {
		return nil, fmt.Errorf("%s: no header in %s defines RSEQ_SIG: expected it in bits/rseq.h", t.Label, t.Dir)
	}
	var all []Constant
	for _, c := range found {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Constant) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// symbols returns the variables that glibc exports.
func (p *parser) symbols() (all []Symbol, err error) {
	for _, name := range []string{"__rseq_offset", "__rseq_size", "__rseq_flags"} {
		d := p.declarator(name)
		if d == nil {
			return nil, fmt.Errorf("%s: no header in %s declares %s: expected it in sys/rseq.h", p.tree.Label, p.tree.Dir, name)
		}
		typ := d.Type()
		text := typ.String()
		if def := typ.Typedef(); def != nil {
			text = def.Name()
		}
		if a := typ.Attributes(); a != nil && a.IsConst() && !strings.Contains(text, "const") {
			text = "const " + text
		}
		all = append(all, Symbol{name, text, typ.Size()})
	}
	return all, nil
}

// tag returns the name after "struct" or "union", "" if there is none.
func tag(t interface{ Tag() cc.Token }) string {
	name := t.Tag()
	return name.SrcStr()
}

func integer(v cc.Value) (int64, bool) {
	switch v := v.(type) {
	case cc.Int64Value:
		return int64(v), true
	case cc.UInt64Value:
		return int64(v), true
	}
	return 0, false
}

// walk calls f for n and every node below it.
func walk(n cc.Node, f func(cc.Node)) {
	v := reflect.ValueOf(n)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return
	}
	f(n)
	for i := range v.Elem().NumField() {
		if field := v.Elem().Field(i); field.CanInterface() {
			if child, ok := field.Interface().(cc.Node); ok {
				walk(child, f)
			}
		}
	}
}
