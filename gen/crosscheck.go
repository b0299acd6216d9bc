package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// crossCheck lets a C compiler compare the system's headers in a tree with our header of that
// version, as a check on the parser. note says why there was no compiler to ask.
func crossCheck(ctx context.Context, t *Tree, l *Layout, header []byte) (note string, err error) {
	compiler, err := exec.LookPath(compilerFor(t.Arch))
	if err != nil {
		return fmt.Sprintf("%s: not checked by a compiler: no %s here", t.Label, compilerFor(t.Arch)), nil
	}
	own, err := exec.CommandContext(ctx, compiler, "-print-file-name=include").Output()
	if err != nil {
		return "", fmt.Errorf("%s: %s: %w", t.Label, compiler, err)
	}
	dir, err := os.MkdirTemp("", "rseq-gen-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	for name, data := range map[string][]byte{"abi.h": header, "check.c": crossCheckSource(t, l)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return "", err
		}
	}
	// GNU C, since the kernel's headers have anonymous members.
	args := []string{"-std=gnu11", "-Wall", "-Werror", "-fsyntax-only", "-nostdinc", "-isystem", strings.TrimSpace(string(own))}
	for _, include := range t.Include {
		args = append(args, "-isystem", filepath.Join(t.Dir, include))
	}
	cmd := exec.CommandContext(ctx, compiler, append(args, filepath.Join(dir, "check.c"))...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %s finds that our header and the headers in %s disagree: %w\n%s", t.Label, compiler, t.Dir, err, out.Bytes())
	}
	return "", nil
}

// compilerFor returns the name of the C compiler for an architecture.
func compilerFor(arch string) string {
	if arch != runtime.GOARCH {
		return multiarch[arch] + "-gcc"
	}
	if cc := os.Getenv("CC"); cc != "" && !strings.Contains(cc, "musl") {
		return cc
	}
	return "gcc"
}

// crossCheckSource is a program that compiles if and only if the two headers agree.
func crossCheckSource(t *Tree, l *Layout) []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	for _, name := range headers {
		if t.found(name) {
			p("#include <%s>", name)
		}
	}
	p("#include \"abi.h\"\n")
	p("#define SAME(x, y) _Static_assert((x) == (y), #x \" is not \" #y)")
	for _, s := range []struct {
		system, ours string
		Struct
	}{{"struct rseq", "struct rseqgo_area", l.Area}, {"struct rseq_cs", "struct rseqgo_cs", l.CS}} {
		p("SAME(sizeof(%s), sizeof(%s));", s.system, s.ours)
		p("SAME(_Alignof(%s), _Alignof(%s));", s.system, s.ours)
		for _, f := range s.leaves() {
			p("SAME(offsetof(%s, %s), offsetof(%s, %s));", s.system, f.name(), s.ours, f.ours())
			p("SAME(sizeof(((%s *)0)->%s), sizeof(((%s *)0)->%s));", s.system, f.name(), s.ours, f.ours())
		}
	}
	for _, f := range l.Area.leaves() {
		p("SAME(offsetof(struct rseq, %s), RSEQGO_OFFSETOF_%s);", f.name(), f.upper())
		p("SAME(offsetof(struct rseq, %s) + %d, RSEQGO_ENDOF_%s);", f.name(), f.Size, f.upper())
	}
	if l.Area.Flexible != nil {
		p("SAME(offsetof(struct rseq, %s), %d);", l.Area.Flexible.Name, l.Area.end())
	}
	for _, c := range l.Constants {
		p("SAME(%s, %s);", c.Name, cMacro(c.Name))
	}
	for _, s := range l.Symbols {
		p("_Static_assert(__builtin_types_compatible_p(__typeof__(&%s), %s *), \"%s\");", s.Name, s.Type, s.Name)
	}
	return b.Bytes()
}
