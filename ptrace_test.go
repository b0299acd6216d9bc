//go:build linux && cgo && (amd64 || arm64)

package rseq_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/inspect"
	"github.com/rseq-go/rseq/internal/testutil"
)

// TestKernelAgrees starts a program with many threads that prints where it
// believes each one's area to be, and asks the kernel from outside.
func TestKernelAgrees(t *testing.T) {
	info, _ := rseq.Query()
	if info.Owner == rseq.OwnerNone {
		t.Skip(info.Reason)
	}
	child := exec.Command(testutil.GoBuild(t, "./testdata/threads", nil))
	child.Stderr = os.Stderr
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer stdin.Close()

	believed := map[int]uint64{}
	var length uint32
	for lines := bufio.NewScanner(stdout); lines.Scan() && lines.Text() != "ready"; {
		var tid int
		var area uint64
		if _, err := fmt.Sscan(lines.Text(), &tid, &area, &length); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		believed[tid] = area
	}
	threads, err := inspect.Process(context.Background(), child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	met := 0
	for _, th := range threads {
		if th.Address == 0 || th.Length != length || th.Signature != info.Signature || th.Flags != info.Flags {
			t.Errorf("the kernel says %+v; this program: %+v", th, info)
		}
		if area, ok := believed[th.TID]; ok {
			met++
			if area != th.Address {
				t.Errorf("thread %d: area at %#x, the kernel says %#x", th.TID, area, th.Address)
			}
		}
	}
	if met != len(believed) || met == 0 {
		t.Errorf("%d of %d threads were met", met, len(believed))
	}
}
