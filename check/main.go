// Check steps through every instruction of every critical section of cs_<arch>.s in an
// emulator. At each boundary between two instructions it tries every event that may
// happen to the thread, and compares the outcome with the operation's pseudocode.
// docs/architecture.md says what this shows and what it cannot show.
//
//	go run ./check             try all schedules; their number must be that of schedules.txt
//	go run ./check -write      the same, but write schedules.txt
//	go run ./check -mutants    make faults in the sections: each must be found
//	go run ./check -only push  check one operation
//	go run ./check -arch arm64 check one architecture
package main

import (
	"bytes"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

//go:embed schedules.txt
var recorded string

func main() {
	write := flag.Bool("write", false, "write schedules.txt")
	mutate := flag.Bool("mutants", false, "make faults, each of which must be found")
	arch := flag.String("arch", "", "one `architecture`")
	only := flag.String("only", "", "one `operation`")
	flag.Parse()
	err := errors.New("arguments: expected none")
	if flag.NArg() == 0 {
		err = run(*arch, *only, *write, *mutate)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(1)
	}
}

func run(name, only string, write, mutate bool) error {
	dir, err := os.MkdirTemp("", "check")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var chosen []operation
	for _, op := range operations {
		if only == "" || only == op.name {
			chosen = append(chosen, op)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no operation %s", only)
	}
	if name != "" {
		arches = slices.DeleteFunc(arches, func(a *arch) bool { return a.name != name })
		if len(arches) == 0 {
			return fmt.Errorf("no architecture %s", name)
		}
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	if mutate {
		return mutants(root, dir, chosen)
	}
	begin := time.Now()
	var images []*image
	for _, a := range arches {
		i, err := build(a, root, dir)
		if err != nil {
			return err
		}
		images = append(images, i)
	}
	t, err := checkAll(images, chosen)
	if err != nil {
		return err
	}
	fmt.Print(t.text)
	fmt.Printf("%d schedules, %d states, %d instructions, in %v\n", t.schedules, t.states, t.steps, time.Since(begin).Round(time.Second))
	text := withOthers(t.text)
	switch {
	case only != "":
	case write:
		return os.WriteFile(filepath.Join(root, "check", "schedules.txt"), []byte(text), 0o666)
	case text != recorded:
		return fmt.Errorf("the numbers of schedules differ from check/schedules.txt: if that is intended, go run ./check -write\n%s", differences(recorded, text))
	}
	return nil
}

// withOthers returns text with the recorded lines of the architectures that were not checked.
func withOthers(text string) string {
	lines := slices.Collect(strings.Lines(text))
	name := func(line string) string { name, _, _ := strings.Cut(line, " "); return name }
	for l := range strings.Lines(recorded) {
		if !slices.ContainsFunc(arches, func(a *arch) bool { return a.name == name(l) }) {
			lines = append(lines, l)
		}
	}
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(name(a), name(b)) })
	return strings.Join(lines, "")
}

// differences returns the lines that only one of two texts has.
func differences(a, b string) string {
	var out strings.Builder
	for _, l := range strings.SplitAfter(a, "\n") {
		if !strings.Contains(b, l) {
			out.WriteString("-" + l)
		}
	}
	for _, l := range strings.SplitAfter(b, "\n") {
		if !strings.Contains(a, l) {
			out.WriteString("+" + l)
		}
	}
	return out.String()
}

type total struct {
	text                     string
	schedules, states, steps uint64
}

// task is a scenario on an image and a kind of kernel.
type task struct {
	image    *image
	op       int
	scenario *scenario
	v2       bool
}

// checkAll tries all schedules of the operations, on all processors.
func checkAll(images []*image, chosen []operation) (t total, err error) {
	var tasks []task
	for n, op := range chosen {
		for _, i := range images {
			for _, s := range op.scenarios(i) {
				for _, v2 := range []bool{false, true} {
					if v2 || !s.onlyV2 {
						tasks = append(tasks, task{i, n, s, v2})
					}
				}
			}
		}
	}
	type sum struct {
		image *image
		op    int
	}
	var mu sync.Mutex
	next := 0
	sums := map[sum]uint64{}
	covered := map[*image]map[uint64]uint32{}
	var failed []error
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			sessions := map[*image]*session{}
			for {
				mu.Lock()
				if next == len(tasks) || len(failed) > 0 {
					for i, s := range sessions {
						if covered[i] == nil {
							covered[i] = map[uint64]uint32{}
						}
						for at, n := range s.covered {
							covered[i][at] = n
						}
						t.steps += s.steps
						s.e.close()
					}
					mu.Unlock()
					return
				}
				k := tasks[next]
				next++
				mu.Unlock()
				s, err := sessions[k.image], error(nil)
				if s == nil {
					s, err = newSession(k.image)
				}
				var schedules, states uint64
				if err == nil {
					sessions[k.image] = s
					schedules, states, err = s.check(k.scenario, k.v2, k.scenario.events)
				}
				mu.Lock()
				if err != nil {
					failed = append(failed, fmt.Errorf("%s: %w", k.image.arch.name, err))
				}
				sums[sum{k.image, k.op}] += schedules
				t.schedules += schedules
				t.states += states
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(failed) > 0 {
		return t, errors.Join(failed...)
	}
	var text bytes.Buffer
	for _, i := range images {
		for n, op := range chosen {
			fmt.Fprintf(&text, "%s %s %d\n", i.arch.name, op.name, sums[sum{i, n}])
		}
		if len(chosen) == len(operations) {
			if never := i.uncovered(covered[i]); len(never) > 0 {
				return t, fmt.Errorf("%s: these instructions never ran: is there a file op_*.go for them?\n%s", i.arch.name, strings.Join(never, "\n"))
			}
		}
	}
	t.text = text.String()
	return t, nil
}
