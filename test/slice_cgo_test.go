//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package test

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/testutil"
)

// TestSliceNotRegistered: on an unregistered thread the error says that it is not registered.
func TestSliceNotRegistered(t *testing.T) {
	info, err := rseq.Query()
	if err != nil || info.Owner != rseq.OwnerLibc {
		t.Skipf("owner %v: a thread that is not registered would register", info.Owner)
	}
	testutil.OnThread(func() {
		testutil.Unregister(t)
		th, err := rseq.LockThread()
		if err != nil {
			t.Error(err)
			return
		}
		defer th.Unlock()
		err = th.EnableSliceExtension()
		if !errors.Is(err, rseq.ErrNotSupported) || !strings.Contains(err.Error(), "the calling thread is not registered") {
			t.Error(err)
		}
		// A kernel with the extension says the same.
		if err := unix.Prctl(unix.PR_RSEQ_SLICE_EXTENSION, unix.PR_RSEQ_SLICE_EXTENSION_SET, unix.PR_RSEQ_SLICE_EXT_ENABLE, 0, 0); err == nil {
			t.Error("the kernel enabled it")
		} else if info.KernelFeatureSize >= abi.NeedsSliceCtrl && err != unix.ENXIO && err != unix.Errno(524) {
			t.Error(err)
		}
	})
}
