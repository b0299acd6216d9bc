package main

import (
	"strings"
	"testing"
)

func chosen(t *testing.T, name string) []operation {
	t.Helper()
	for _, op := range operations {
		if op.name == name {
			return []operation{op}
		}
	}
	t.Fatalf("no operation %s", name)
	return nil
}

func root(t *testing.T) string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// TestRight: all schedules of two operations are right, and their number is the recorded one.
func TestRight(t *testing.T) {
	for _, a := range arches {
		i, err := build(a, root(t), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"load_add_store", "read_index"} {
			total, err := checkAll([]*image{i}, chosen(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(recorded, total.text) {
				t.Errorf("%q is not in schedules.txt", total.text)
			}
		}
	}
}

// TestMutantNotFound: a mutant that changes nothing is reported as not found.
func TestMutantNotFound(t *testing.T) {
	same := func(source string) string { return source }
	m := mutant{name: "no fault", edit: each(same, same, same)}
	for _, a := range arches {
		text, err := m.find(a, root(t), t.TempDir()+"/mutant", chosen(t, "load_add_store"))
		if err == nil || !strings.Contains(err.Error(), "not found in cs_load_add_store_cpu_id, cs_load_add_store_mm_cid") || text != "" {
			t.Errorf("%s: %q, %v", a.name, text, err)
		}
	}
}

// TestUncovered: an instruction that no scenario reaches is reported.
func TestUncovered(t *testing.T) {
	i, err := build(arches[0], root(t), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSession(i)
	if err != nil {
		t.Fatal(err)
	}
	defer s.e.close()
	for _, sc := range chosen(t, "spin")[0].scenarios(i) {
		if _, _, err := s.check(sc, false, 1); err != nil {
			t.Fatal(err)
		}
	}
	never := strings.Join(i.uncovered(s.covered), " ")
	if strings.Contains(never, "cs_spin") || !strings.Contains(never, "cs_add_cpu_id+0x0") {
		t.Errorf("never ran: %s", never)
	}
}
