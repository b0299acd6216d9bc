//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package main

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rseq-go/rseq"
)

// TestShared runs the program with fewer rounds and holds what it says against what it
// was asked to do. That nothing was lost, or in two places, is run's own answer.
func TestShared(t *testing.T) {
	var out strings.Builder
	if err := run(&out, 4, 64, 50000); errors.Is(err, rseq.ErrNotSupported) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", &out)
	for _, want := range []string{
		"4 goroutines and 4 C threads, 50000 rounds each, 64 blocks",
		"All 64 blocks are on one list, once",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in the output", want)
		}
	}
	// Each took blocks: a number without 0 in the first column.
	for _, side := range []string{"Go", "C"} {
		if !regexp.MustCompile(`(?m)^` + side + ` +[1-9]`).MatchString(out.String()) {
			t.Errorf("%s took no block", side)
		}
	}
}

// Where glibc registers no areas, each thread's first use registers one, C's too.
func TestSharedOwnAreas(t *testing.T) {
	command := exec.Command(os.Args[0], "-test.run=^TestShared$", "-test.v")
	command.Env = append(os.Environ(), "GLIBC_TUNABLES=glibc.pthread.rseq=0")
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// link stores an address in a word of a type of C's, which a test cannot name.
func link[T ~int64](word *T, address int64) { *word = T(address) }

// TestCheck spoils lists, and check says what is wrong with them.
func TestCheck(t *testing.T) {
	// Blocks 0 and 1 on one list, 2 on the other.
	three := func() *shared {
		s := new(shared)
		s.lists, s.blocks = slices.Grow(s.lists, 2)[:2], slices.Grow(s.blocks, 3)[:3]
		link(&s.lists[0].head, s.address(&s.blocks[0]))
		link(&s.blocks[0].next, s.address(&s.blocks[1]))
		link(&s.lists[1].head, s.address(&s.blocks[2]))
		return s
	}
	s := three()
	if found, err := s.check(); found != 3 || err != nil {
		t.Fatalf("3 blocks on 2 lists: %d, %v", found, err)
	}
	for name, test := range map[string]struct {
		spoil func(*shared)
		want  string
	}{
		"lost":  {func(s *shared) { s.lists[1].head = 0 }, "on no list"},
		"twice": {func(s *shared) { s.blocks[1].next = s.lists[1].head }, "on two lists"},
		"loop":  {func(s *shared) { s.blocks[1].next = s.lists[0].head }, "twice"},
		"taken": {func(s *shared) { s.blocks[1].owner = 7 }, "with worker 7"},
		"wrong": {func(s *shared) { s.blocks[1].next = 8 }, "no block"},
	} {
		s := three()
		test.spoil(s)
		if _, err := s.check(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, expected %q", name, err, test.want)
		}
	}
}
