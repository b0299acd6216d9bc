package percpu

import (
	"errors"
	"sync/atomic"

	"github.com/rseq-go/rseq"
)

// Status returns nil if critical sections run on the thread that the calling goroutine runs
// on, so that the operations of this package take their fast path, or an error that says why
// not. See [rseq.CriticalSections].
func Status() error { return rseq.CriticalSections(rseq.ByCPU) }

// SlowPaths returns how many operations took their slow path in a process in which critical
// sections run: the first ones on a thread, on a CPU or of an object, those on threads that
// have no area, and those that were interrupted again and again. Where sections do not run at
// all, as [Status] says, every operation does without them, and none is counted. Nor is what a
// type does without sections by design: a lock that is not open, a free list that is full or
// empty.
func SlowPaths() (n uint64) {
	for share := range slowPaths.made() {
		n += share.Load()
	}
	return n
}

var slowPaths stripes[atomic.Uint64]

// maySection returns nil if a section that did not do its work may be tried again on the
// calling thread, or says why not. It counts the operation for SlowPaths.
func maySection(x rseq.Index) error {
	err := rseq.CriticalSections(x)
	if !errors.Is(err, rseq.ErrNotSupported) {
		slowPaths.own().Add(1)
	}
	return err
}

// retry reports whether a section that answered with a status may be tried again: its only
// failure was that the thread had not been set up yet.
func retry(status uint32, x rseq.Index) bool {
	return maySection(x) == nil && rseq.Status(status) == rseq.NotRegistered
}
