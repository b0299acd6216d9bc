package rseq

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// knowledge is what is known of the process's areas at one moment.
type knowledge struct {
	info  Info
	err   error // why there is no owner; nil if there is one
	final bool  // nothing more will be known: err, or the kernel's word, is for good
	// refused: a thread asked for an area and err is what came of it. A reader does
	// not ask again; LockThread and CriticalSections do after a while, Query at once.
	refused bool
	// sections says why critical sections are refused; decided: for good, and nil
	// means that they are not. If it is not nil though nothing is decided, they are
	// decided about again after a while.
	sections error
	decided  bool
}

// known is replaced as a whole, under learning: from discovery, by the first
// thread that asks where the C library registered nothing, by Query.
var (
	known    atomic.Pointer[knowledge]
	learning sync.Mutex
)

// When to ask again what could not be answered: who the owner is, and whether critical
// sections may run. Changed under learning.
var ownerAgain, sectionsAgain backoff

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
// owner, and if that is not to wait.
func (k *knowledge) decideSections() {
	i := &k.info
	if k.err != nil || k.sections != nil && !sectionsAgain.due() {
		return
	}
	sectionsAgain.hold() // who comes meanwhile has the last answer
	k.forgetSections()
	k.sections, k.decided = sectionsRefused(i)
	if !k.decided {
		sectionsAgain.later()
	}
	i.CriticalSections = k.decided && k.sections == nil
	if k.sections != nil && i.Reason == "" {
		i.Reason = k.sections.Error()
	}
}

// forgetSections forgets what was said of critical sections.
func (k *knowledge) forgetSections() {
	if k.sections != nil && k.info.Reason == k.sections.Error() {
		k.info.Reason = ""
	}
	k.sections, k.decided = nil, false
}

// ask is confirm where that cannot end the process.
func (k knowledge) ask() knowledge {
	if err := mayAsk(); err != nil { // on this thread: others may have no filter
		i := &k.info
		i.Confirmed, i.Reason = CouldNotAsk, "the kernel was not asked: "+err.Error()
		i.Signature, i.RegisteredLen, i.Mode, i.AlignRequired = 0, 0, ModeUnknown, 0
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
			k.forgetSections() // the signature is known now
		}
	}
	if !k.decided {
		k.decideSections()
	}
	learn(k)
	if k.final {
		return k, k
	}
	asked.info.CriticalSections = k.info.CriticalSections && asked.info.Confirmed == CouldNotAsk
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
		register(true)
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

// backoff spaces out what is tried again: 50 ms after the first failure, twice as long
// after each further one, a minute at most.
type backoff struct {
	until atomic.Int64 // nanoseconds since loaded
	wait  time.Duration
}

var loaded = time.Now() // has a monotonic reading

// due reports whether it is time to try.
func (b *backoff) due() bool { return int64(time.Since(loaded)) >= b.until.Load() }

// hold has nobody else try until later is called, or it succeeded.
func (b *backoff) hold() { b.until.Store(math.MaxInt64) }

// later says that it failed once more.
func (b *backoff) later() {
	b.wait = min(max(2*b.wait, 50*time.Millisecond), time.Minute)
	b.until.Store(int64(time.Since(loaded) + b.wait))
}

// notSupportedError is an ErrNotSupported that says what is missing.
func notSupportedError(format string, args ...any) error {
	return fmt.Errorf("rseq: %w: %s", ErrNotSupported, fmt.Sprintf(format, args...))
}

func notLinux() error {
	return notSupportedError("restartable sequences are Linux's, this is %s", runtime.GOOS)
}
