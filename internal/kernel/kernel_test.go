//go:build linux

package kernel

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq/internal/abi"
)

// TestMayMissThreads: where membarrier(2) may miss threads it fences only on a kernel that is
// known to be mended.
func TestMayMissThreads(t *testing.T) {
	was, wasMiss := membarrier, mayMissThreads
	defer func() { membarrier, mayMissThreads = was, wasMiss }()
	const all = 0x3ff
	for _, c := range []struct {
		may      bool
		query    uintptr
		e        unix.Errno
		commands []uintptr // that are called
		want     error
	}{
		{false, 0, 0, []uintptr{abi.MembarrierRseq}, nil},
		{true, all, 0, []uintptr{membarrierQuery, abi.MembarrierRseq}, nil},
		{true, all &^ membarrierSyncCore, 0, []uintptr{membarrierQuery}, unix.EINVAL},
		{true, 0, unix.ENOSYS, []uintptr{membarrierQuery}, unix.ENOSYS},
	} {
		var commands []uintptr
		membarrier = func(command, _, _ uintptr) (uintptr, unix.Errno) {
			if commands = append(commands, command); command == membarrierQuery {
				return c.query, c.e
			}
			return 0, 0
		}
		mayMissThreads = c.may
		if err := Membarrier(-1); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
		if !slices.Equal(commands, c.commands) {
			t.Errorf("%+v: called %v", c, commands)
		}
	}
}

func TestLastOf(t *testing.T) {
	for list, last := range map[string]int{"0\n": 0, "0-1\n": 1, "0,2-5": 5, "0-3,8": 8, "": -1, "x": -1, "0-": -1} {
		if got := lastOf(list); got != last {
			t.Errorf("%q: %d, want %d", list, got, last)
		}
	}
	if n := PossibleCPUs(); n < 1 {
		t.Error(n)
	}
}
