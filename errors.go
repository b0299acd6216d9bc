package rseq

import "errors"

// ErrNotSupported is what an error matches, by [errors.Is], when this build,
// C library or kernel cannot do what was asked; the error around it says what
// is missing and which version brings it. It matches [errors.ErrUnsupported].
// Such an answer is final, for the process, or for the thread that it names. Any
// other error (a filter's EPERM, say) may go away and is asked again.
var ErrNotSupported error = notSupported{}

type notSupported struct{}

func (notSupported) Error() string { return "not supported" }

func (notSupported) Is(target error) bool { return target == errors.ErrUnsupported }
