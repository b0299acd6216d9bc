package rseq

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/rseq-go/rseq/internal/tramp"
)

// found is what discovery says, before the kernel was asked; errFound is why
// there is no area, nil if there is one.
var found, errFound = discover()

func init() {
	if errFound != nil {
		found.Reason = errFound.Error()
		return
	}
	found.Features = featuresOf(found.Size)
	found.AlignRequired = legacyAlign
	enableReaders(found)
}

// enableReaders tells the assembly where the fields are that the area has.
func enableReaders(i Info) {
	field := func(f Features, offset int) uintptr {
		if !i.Features.Has(f) {
			return 0
		}
		return uintptr(i.Offset + offset)
	}
	tramp.SetOffsets(
		field(FeatureCPUID, offsetCPUID),
		field(FeatureNodeID, offsetNode),
		field(FeatureMMCID, offsetMMCID),
	)
}

// confirmed is Query's answer once the kernel gave it.
var (
	confirmed  atomic.Pointer[answer]
	confirming sync.Mutex
)

type answer struct {
	info Info
	err  error
}

// Query describes the rseq area of this process's threads. The first call asks
// the kernel about the calling thread, with system calls that change nothing;
// once it got an answer, later calls make no system call.
//
// The error is nil if there is an area that this package reads. It matches
// [ErrNotSupported] if there is none; Info is then filled as far as things are
// known, and Info.Reason has the error's text. That the kernel could not be
// asked (Info.Confirmed) is not an error.
func Query() (Info, error) {
	if errFound != nil {
		return found, errFound
	}
	if a := confirmed.Load(); a != nil {
		return a.info, a.err
	}
	confirming.Lock()
	defer confirming.Unlock()
	if a := confirmed.Load(); a != nil {
		return a.info, a.err
	}
	info, final := confirm(found)
	a := &answer{info: info}
	if info.Owner == OwnerNone {
		a.err = notSupportedError("%s", info.Reason)
	}
	if final {
		confirmed.Store(a)
	}
	return a.info, a.err
}

// notSupportedError is an ErrNotSupported that says what is missing.
func notSupportedError(format string, args ...any) error {
	return fmt.Errorf("rseq: %w: %s", ErrNotSupported, fmt.Sprintf(format, args...))
}
