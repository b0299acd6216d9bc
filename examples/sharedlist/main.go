//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

// Program sharedlist is Go code and C code that take blocks of C memory from, and give
// them to, the same lists, one for each CPU, by critical sections on the same rseq
// areas. list.h tells how.
package main

// #cgo CFLAGS: -I${SRCDIR}/../..
// #include "list.h"
import "C"

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/rseq-go/rseq"
)

type (
	block = C.struct_block
	tally = C.struct_tally
)

// shared is Go's view of a C.struct_shared.
type shared struct {
	lists  []C.struct_list
	blocks []block
}

// address returns what a block is named by in a list.
func (s *shared) address(b *block) int64 { return int64(uintptr(unsafe.Pointer(b))) }

// block returns the block at an address, which a list has.
func (s *shared) block(address int64) *block {
	return (*block)(unsafe.Add(unsafe.Pointer(&s.blocks[0]), address-s.address(&s.blocks[0])))
}

// here returns the head of the list of the CPU that the goroutine runs on, or nil and
// says in t why not.
func (s *shared) here(t *tally) (head *int64, cpu int) {
	cpu, err := rseq.ByCPU.Current()
	switch {
	case err != nil:
		t.failed = C.int64_t(rseq.NotRegistered)
	case cpu >= len(s.lists):
		t.failed = C.int64_t(rseq.OutOfRange)
	default:
		return (*int64)(&s.lists[cpu].head), cpu
	}
	return nil, -1
}

// again reports whether a section that was not done may be: it was disturbed, or this
// thread had no area but has one now.
func again(status rseq.Status, t *tally) bool {
	if status == rseq.Raced || status == rseq.NotRegistered && rseq.CriticalSections(rseq.ByCPU) == nil {
		t.raced++
		return true
	}
	t.failed = C.int64_t(status)
	return false
}

// take returns a block, or nil if there is none on this CPU or t.failed.
func (s *shared) take(t *tally) *block {
	for {
		head, cpu := s.here(t)
		if head == nil {
			return nil
		}
		address, status := rseq.ByCPU.LoadCBEQStoreAddLoadStore(head, 0, unsafe.Offsetof(block{}.next), cpu)
		switch {
		case status == rseq.Done:
			t.taken++
			return s.block(address)
		case status == rseq.CompareFailed:
			t.empty++
			return nil
		case !again(status, t):
			return nil
		}
	}
}

// give puts a block on this CPU's list, unless it sets t.failed.
func (s *shared) give(b *block, t *tally) {
	for {
		head, cpu := s.here(t)
		if head == nil {
			return
		}
		first := atomic.LoadInt64(head)
		b.next = C.int64_t(first) // still this goroutine's block
		status := rseq.ByCPU.LoadCBNEStore(head, first, s.address(b), cpu)
		if status == rseq.Done {
			t.given++
			return
		}
		if status == rseq.CompareFailed { // another thread's section was between
			status = rseq.Raced
		}
		if !again(status, t) {
			return
		}
	}
}

// work brings blocks, and takes and gives so many rounds.
func (s *shared) work(blocks []block, owner, rounds int) (t tally) {
	for i := range blocks {
		if s.give(&blocks[i], &t); t.failed != 0 {
			return t
		}
	}
	var has [C.BATCH]*block
	for round := 0; round < rounds && t.failed == 0; round++ {
		n := 0
		for n < len(has) {
			b := s.take(&t)
			if b == nil {
				break
			}
			if b.owner != 0 {
				t.doubly++
			}
			b.owner = C.int64_t(owner)
			b.uses++
			has[n] = b
			n++
		}
		if n == 0 {
			runtime.Gosched()
		}
		for n--; n >= 0; n-- {
			if has[n].owner != C.int64_t(owner) {
				t.doubly++
			}
			has[n].owner = 0
			s.give(has[n], &t)
		}
	}
	return t
}

// sum adds up what workers did, or says why one ended early.
func sum(side string, tallies []tally) (all tally, err error) {
	for _, t := range tallies {
		if t.failed != 0 {
			return all, fmt.Errorf("a section of %s's ended with %q: see rseq.Status; rseq.CriticalSections says more", side, rseq.Status(t.failed))
		}
		all.taken += t.taken
		all.given += t.given
		all.raced += t.raced
		all.empty += t.empty
		all.doubly += t.doubly
	}
	return all, nil
}

// check walks the lists, which nobody uses any more, and returns how many blocks they
// have together, or what is wrong with them.
func (s *shared) check() (found int, err error) {
	seen := make([]bool, len(s.blocks))
	for cpu := range s.lists {
		for address := int64(s.lists[cpu].head); address != 0; found++ {
			at := address - s.address(&s.blocks[0])
			i := at / int64(unsafe.Sizeof(block{}))
			switch {
			case at < 0 || i >= int64(len(seen)) || at%int64(unsafe.Sizeof(block{})) != 0:
				return found, fmt.Errorf("the list of CPU %d has %#x, which is no block", cpu, address)
			case seen[i]:
				return found, fmt.Errorf("block %d is on two lists, or twice on that of CPU %d", i, cpu)
			case s.blocks[i].owner != 0:
				return found, fmt.Errorf("block %d is on a list and with worker %d", i, s.blocks[i].owner)
			}
			seen[i] = true
			address = int64(s.blocks[i].next)
		}
	}
	if found != len(seen) {
		return found, fmt.Errorf("%d of %d blocks are on no list", len(seen)-found, len(seen))
	}
	return found, nil
}

// run runs so many goroutines and as many C threads for so many rounds each and writes
// what they did. It returns an error if a block was lost or in two places, and what
// rseq.CriticalSections says if sections cannot run.
func run(out io.Writer, workers, blocks, rounds int) error {
	// Until then every section answers that nothing is registered, C's too.
	if err := rseq.CriticalSections(rseq.ByCPU); err != nil {
		return err
	}
	lists := C.shared_new(C.int64_t(rseq.PossibleCPUs()), C.int64_t(blocks))
	if lists == nil {
		return errors.New("no memory for the lists")
	}
	defer C.shared_free(lists)
	s := &shared{unsafe.Slice(lists.lists, lists.cpus), unsafe.Slice(lists.blocks, lists.count)}
	ofGo, ofC := s.blocks[:blocks/2], s.blocks[blocks/2:]

	goTallies, cTallies := make([]tally, workers), make([]tally, workers)
	var errno C.int
	var all sync.WaitGroup
	all.Go(func() {
		errno = C.shared_run(lists, &ofC[0], C.int64_t(len(ofC)), C.int64_t(workers+1), C.int64_t(rounds), &cTallies[0], C.int(workers))
	})
	for i := range workers {
		all.Go(func() {
			goTallies[i] = s.work(ofGo[len(ofGo)*i/workers:len(ofGo)*(i+1)/workers], i+1, rounds)
		})
	}
	all.Wait()
	if errno != 0 {
		return fmt.Errorf("the C threads: %w", syscall.Errno(errno))
	}

	ofGoSum, err := sum("Go", goTallies)
	if err != nil {
		return err
	}
	ofCSum, err := sum("C", cTallies)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d goroutines and %[1]d C threads, %d rounds each, %d blocks, %d CPUs\n\n", workers, rounds, blocks, len(s.lists))
	fmt.Fprintf(out, "%-4s%12s%12s%12s%12s\n", "", "taken", "given", "raced", "empty")
	for _, side := range []struct {
		name string
		tally
	}{{"Go", ofGoSum}, {"C", ofCSum}} {
		fmt.Fprintf(out, "%-4s%12d%12d%12d%12d\n", side.name, side.taken, side.given, side.raced, side.empty)
	}
	var uses int64
	for i := range s.blocks {
		uses += int64(s.blocks[i].uses)
	}
	found, err := s.check()
	switch doubly, taken := ofGoSum.doubly+ofCSum.doubly, int64(ofGoSum.taken+ofCSum.taken); {
	case err != nil:
		return err
	case doubly != 0:
		return fmt.Errorf("blocks were with two workers at once, seen %d times", doubly)
	case uses != taken:
		return fmt.Errorf("blocks were used %d times but taken %d times", uses, taken)
	}
	fmt.Fprintf(out, "\nAll %d blocks are on one list, once, and counted as many uses as takes.\n", found)
	return nil
}

func main() {
	log.SetFlags(0)
	workers := flag.Int("workers", 4, "how many goroutines, and as many C threads")
	blocks := flag.Int("blocks", 512, "how many blocks they share")
	rounds := flag.Int("rounds", 1000000, "how often each takes up to 4 blocks and gives them back")
	flag.Parse()
	if *workers < 1 || *blocks < 2 || *rounds < 0 || flag.NArg() > 0 {
		log.Fatal("sharedlist: expected at least 1 worker, 2 blocks and 0 rounds, and no arguments")
	}
	if err := run(os.Stdout, *workers, *blocks, *rounds); err != nil {
		log.Fatal("sharedlist: ", err)
	}
}
