package rseq

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// knowledge is what is known of the process's areas at one moment.
type knowledge struct {
	info  Info
	err   error // why there is no owner; nil if there is one
	final bool  // nothing more will be known: err, or the kernel's word, is for good
	// refused: a thread asked for an area and err is what came of it. Who reads
	// in passing does not ask again, LockThread and Query do.
	refused bool
	// sections says why critical sections are refused; decided: for good, and nil
	// means that they are not.
	sections error
	decided  bool
}

// known is replaced as a whole, under learning: from discovery, by the first
// thread that asks where the C library registered nothing, by Query.
var (
	known    atomic.Pointer[knowledge]
	learning sync.Mutex
)

func init() { learn(discover()) }

// learn makes k known and sets the gates to it.
func learn(k knowledge) {
	i := &k.info
	if k.err != nil {
		i.Reason = k.err.Error()
	} else {
		i.Features = featuresOf(i.Size)
	}
	setGates(i)
	known.Store(&k)
}

// decideSections finds out whether critical sections may run, if there is an
// owner.
func (k *knowledge) decideSections() {
	i := &k.info
	if k.err != nil {
		return
	}
	if k.sections != nil && i.Reason == k.sections.Error() {
		i.Reason = "" // what could not be decided an earlier time
	}
	k.sections, k.decided = sectionsRefused(i)
	i.CriticalSections = k.decided && k.sections == nil
	if k.sections != nil && i.Reason == "" {
		i.Reason = k.sections.Error()
	}
}

// ask is confirm where that cannot end the process.
func (k knowledge) ask() knowledge {
	if !mayAsk() { // on this thread: others may have no filter
		k.info.Confirmed = CouldNotAsk
		k.info.Reason = "the kernel was not asked: a seccomp filter kills whoever calls rseq(2), or forbids to find out"
		return k
	}
	return confirm(k)
}

// settle has the kernel say what it can of the calling thread, to which the goroutine is
// locked, decides whether critical sections may run, and learns what is for good, which
// is the first result. The second is also what was said for now: another thread, or this
// one later, may be told more, and sections do not wait for that. learning is held.
func (k knowledge) settle() (settled, asked knowledge) {
	asked = k
	if !k.final {
		if asked = k.ask(); asked.final { // areas may pretend to be registered
			k = asked
			k.decided = false // the signature is known now
		}
	}
	if !k.decided {
		k.decideSections()
	}
	if k.final || k.decided {
		learn(k)
	}
	if k.final {
		return k, k
	}
	asked.info.CriticalSections = k.info.CriticalSections
	return k, asked
}

// mayRegister reports whether register can give a thread an area.
func (k *knowledge) mayRegister() bool {
	return !k.final && k.info.Owner == OwnerNone || k.info.Owner == OwnerSelf
}

// Query describes the rseq areas of this process's threads. It may be called from
// any goroutine. The first call asks the kernel about the calling thread, with system
// calls that change nothing, and where the C library registered none, registers one
// first, as [CPU] does. Under a seccomp filter a child process calls rseq(2) first, and
// if that is killed for it, this process does not. Once the kernel answered, later
// calls make no system call. It also finds out whether critical sections may run, as
// [CriticalSections] does.
//
// The error is nil if there is an owner. It matches [ErrNotSupported] if there
// cannot be one, and is what the kernel or a filter answered otherwise; Info is
// then filled as far as things are known, and Info.Reason has the error's text.
// That the kernel could not be asked (Info.Confirmed) is not an error.
func Query() (Info, error) {
	if k := known.Load(); k.final {
		return k.info, k.err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if known.Load().mayRegister() {
		register()
	}
	learning.Lock()
	defer learning.Unlock()
	k := *known.Load()
	if k.final || k.err != nil {
		return k.info, k.err
	}
	_, asked := k.settle()
	return asked.info, asked.err
}

// notSupportedError is an ErrNotSupported that says what is missing.
func notSupportedError(format string, args ...any) error {
	return fmt.Errorf("rseq: %w: %s", ErrNotSupported, fmt.Sprintf(format, args...))
}

func notLinux() error {
	return notSupportedError("restartable sequences are Linux's, this is %s", runtime.GOOS)
}
