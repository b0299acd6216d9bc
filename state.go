package rseq

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/section"
)

// A state is what is known, at one moment, of the areas of this process's threads and of
// critical sections. docs/architecture.md draws which phase leads to which.
type state struct {
	areas areasPhase
	info  Info
	err   error // why there is no owner; nil if areas is unconfirmed or confirmed

	sections    sectionsPhase
	sectionsErr error // why they are refused, or could not be decided about
}

// areasPhase says what is known of the areas.
type areasPhase uint8

const (
	// areasUnasked: the C library registered none, and no thread has asked for one.
	areasUnasked areasPhase = iota
	// areasFailed: a thread asked, and there is no owner for now. Readers do not ask
	// again. LockThread and CriticalSections do after a while, Query at once.
	areasFailed
	// areasUnconfirmed: there is an owner. The kernel has not confirmed it.
	areasUnconfirmed
	// areasConfirmed: the kernel confirmed it.
	areasConfirmed
	// areasUnavailable: there is no owner, and will be none.
	areasUnavailable
)

var areasPhaseNames = []string{"unasked", "failed", "unconfirmed", "confirmed", "unavailable"}

func (p areasPhase) String() string { return name(p, areasPhaseNames...) }

// sectionsPhase says whether critical sections may run.
type sectionsPhase uint8

const (
	// sectionsUndecided: nobody asked, or, with an error, it could not be decided and is
	// tried again after a while.
	sectionsUndecided sectionsPhase = iota
	sectionsAllowed
	sectionsRefused // for the life of the process
)

var sectionsPhaseNames = []string{"undecided", "allowed", "refused"}

func (p sectionsPhase) String() string { return name(p, sectionsPhaseNames...) }

// final reports whether the kernel need not be asked again: it confirmed the areas, or
// there never will be any.
func (s *state) final() bool { return s.areas == areasConfirmed || s.areas == areasUnavailable }

// hasOwner reports whether there are areas.
func (s *state) hasOwner() bool { return s.areas == areasUnconfirmed || s.areas == areasConfirmed }

// mayRegister reports whether register can give a thread an area.
func (s *state) mayRegister() bool {
	return s.areas == areasUnasked || s.areas == areasFailed || s.info.Owner == OwnerSelf
}

// answered is the transition when the kernel answered about the calling thread: i is Info
// with the answer. stale says that the area reads as registered, and the kernel says that
// the thread is not. Any other answer but Confirmed may be different on another thread or
// later, so it changes only reported.
func (s state) answered(i Info, stale bool) (next, reported state) {
	if stale {
		s = state{areas: areasUnavailable, info: i,
			err: notSupportedError("the area (owner: %v) says that it is registered, the kernel says that it is not: "+
				"was this process restored without its registrations?", s.info.Owner)}
		return s, s
	}
	reported = s
	reported.info = i
	if i.Confirmed != Confirmed {
		return s, reported
	}
	reported.areas = areasConfirmed
	reported = reported.forgetSections() // the signature is known now
	return reported, reported
}

// decided is the transition when it was decided whether critical sections may run: err
// says why not. If the answer is not final, it will be decided again.
func (s state) decided(err error, final bool) state {
	s = s.forgetSections()
	switch {
	case !final:
	case err == nil:
		s.sections = sectionsAllowed
	default:
		s.sections = sectionsRefused
	}
	s.sectionsErr = err
	s.info.CriticalSections = s.sections == sectionsAllowed
	if err != nil && s.info.Reason == "" {
		s.info.Reason = err.Error()
	}
	return s
}

// forgetSections returns s with critical sections undecided.
func (s state) forgetSections() state {
	if s.sectionsErr != nil && s.info.Reason == s.sectionsErr.Error() {
		s.info.Reason = ""
	}
	s.sections, s.sectionsErr, s.info.CriticalSections = sectionsUndecided, nil, false
	return s
}

// The state of the process. mu guards its changes, all of which are in this file; current
// may be read without mu, and is replaced as a whole.
var (
	mu      sync.Mutex
	current atomic.Pointer[state]

	// gates are those of the host and of plugins, which have copies of the sections. The
	// first is the one of this code.
	gates = []*section.Gate{&section.Here}

	// When to ask again who the owner is, and whether critical sections may run.
	ownerRetry, sectionsRetry kernel.Backoff
)

func init() {
	section.Adopt = adopt
	publish(discover())
}

// publish makes s the current state and opens the gates as far as s allows. mu is held.
func publish(s state) {
	i := &s.info
	if s.err != nil {
		i.Reason = s.err.Error()
	} else {
		i.Features = featuresOf(i.Size)
	}
	for _, g := range gates {
		setGate(g, i)
	}
	current.Store(&s)
}

// setGate stores where readers and critical sections find the areas. Zero keeps them
// from looking.
func setGate(g *section.Gate, i *Info) {
	area := func(open bool) uintptr {
		if !open || section.Convention() != nil {
			return 0
		}
		return uintptr(i.Offset)
	}
	set := atomic.StoreUintptr
	if i.CriticalSections { // first, and it stays: see _range in cs_arm64.s and cs_riscv64.S
		atomic.StoreUint64(&g.Possible, uint64(PossibleCPUs()))
	}
	set(&g.ReadNodeID, area(i.Features.Has(FeatureNodeID)))
	set(&g.ReadMMCID, area(i.Features.Has(FeatureMMCID)))
	set(&g.ReadCPUID, area(i.Owner != OwnerNone))
	set(&g.CSMMCID, area(i.CriticalSections && i.Features.Has(FeatureMMCID)))
	set(&g.CSCPUID, area(i.CriticalSections))
}

// adopt opens the gate of a plugin's copy of the sections as far as the host's is open.
func adopt(g *section.Gate) {
	if g == nil || g == &section.Here || section.Convention() != nil {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Contains(gates, g) {
		setGate(g, &current.Load().info)
		gates = append(gates, g)
	}
}

// register gives the calling thread, to which the goroutine is locked, an area if it can
// have one, and returns its CPU number, negative if it has none. The first thread that
// asks decides who the owner is, and the others wait for that. An earlier thread's answer
// that may change is asked for again after a while, or, with insist, at once.
func register(insist bool) int32 {
	if current.Load().info.Owner == OwnerNone {
		mu.Lock()
		defer mu.Unlock()
		if s := current.Load(); s.areas == areasUnavailable || s.areas == areasFailed && !insist && !ownerRetry.Due() {
			return section.Uninitialized
		}
	}
	cpu := registerThread()
	if s := current.Load(); s.areas == areasUnasked || s.areas == areasFailed {
		found := discover()
		if found.areas == areasFailed {
			ownerRetry.Later()
		}
		publish(found)
	}
	return cpu
}

// ask asks the kernel about the calling thread, to which the goroutine is locked, unless
// that may end the process. mu is held.
func (s state) ask() (next, reported state) {
	i, stale := s.info, false
	if err := mayAsk(); err != nil { // on this thread: others may have no filter
		i.Confirmed, i.Reason = CouldNotAsk, "the kernel was not asked: "+err.Error()
	} else {
		i, stale = confirm(i)
	}
	if i.Confirmed != Confirmed {
		// What is registered is not known of this thread.
		i.Signature, i.RegisteredLen, i.Mode, i.AlignRequired = 0, 0, ModeUnknown, 0
	}
	return s.answered(i, stale)
}

// askAndDecide asks the kernel about the calling thread, to which the goroutine is locked,
// and decides whether critical sections may run, unless that is known. It publishes the
// next state and returns it; reported also has the answers that hold for this call only.
// mu is held.
func (s state) askAndDecide() (next, reported state) {
	next, reported = s, s
	if !s.final() {
		next, reported = s.ask()
	}
	if next.hasOwner() && next.sections == sectionsUndecided && (next.sectionsErr == nil || sectionsRetry.Due()) {
		sectionsRetry.Hold() // meanwhile other threads have the last answer
		err, final := refusal(&next.info)
		if !final {
			sectionsRetry.Later()
		}
		next = next.decided(err, final)
	}
	publish(next)
	if next.final() {
		return next, next
	}
	reported.info.CriticalSections = next.info.CriticalSections && reported.info.Confirmed == CouldNotAsk
	return next, reported
}

// confirmThread asks the kernel about the calling thread, to which the goroutine is
// locked, and reports whether there is an owner still.
func confirmThread() (_ Confirmation, owner bool) {
	mu.Lock()
	defer mu.Unlock()
	s := current.Load()
	if !s.hasOwner() {
		return NotAsked, false
	}
	next, reported := s.ask()
	if !next.hasOwner() {
		publish(next)
	}
	return reported.info.Confirmed, next.hasOwner()
}

// Query describes the rseq areas of this process's threads. It may be called from
// any goroutine. The first call asks the kernel about the calling thread, with system
// calls that change nothing. Where the C library registered no area, this package
// registers one before, as in [CPU]. Under a seccomp filter a child process calls rseq(2)
// first; if the filter kills the child, this process does not call it. Once the kernel
// has confirmed an area, later calls make no system call. Query also decides whether
// critical sections may run, as [CriticalSections] does.
//
// The error is nil if there is an owner. It matches [ErrNotSupported] if there can be no
// owner. Any other error may go away: a filter's answer, a limit that was reached, or
// another library's registration that cannot be used. Info is then filled as
// far as things are known, and Info.Reason has the error's text. It is not an error that
// the kernel could not be asked: see Info.Confirmed.
func Query() (Info, error) {
	if s := current.Load(); s.final() {
		return s.info, s.err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if current.Load().mayRegister() {
		register(true)
	}
	mu.Lock()
	defer mu.Unlock()
	s := *current.Load()
	if s.final() || s.err != nil {
		return s.info, s.err
	}
	_, reported := s.askAndDecide()
	return reported.info, reported.err
}

// CriticalSections makes critical sections that are indexed by x work on the thread
// that the calling goroutine runs on, and returns nil, or says why they cannot. Until it
// or [Query] was first called in a process, every operation answers NotRegistered.
//
// The first call decides for the process whether the kernel and the owner of the areas
// permit sections. It has the kernel confirm the calling thread's area, as Query does.
// Where this package registers the areas (OwnerSelf), each thread's first call registers
// that thread.
//
// On arm64, Linux 6.19 to 7.0.13 do not abort a section when its thread is preempted
// or migrated, so updates would be lost. There the first call watches, for some
// milliseconds, what the kernel does, whatever its version is said to be.
//
// The error matches [ErrNotSupported] if the answer is final. Any other error may go
// away. What could not be decided is decided again 50 ms later at first, and a minute
// later at most; that this thread is not registered is found at each call. A debugger that
// steps a thread through a section aborts it at each step; then the error says so.
func CriticalSections(x Index) error { return criticalSections(x, &section.Here) }

// criticalSections is CriticalSections for the sections behind a gate: in code that was
// inlined into a plugin, the plugin's.
func criticalSections(x Index, gate *section.Gate) error {
	adopt(gate)
	if s := current.Load(); s.areas == areasUnavailable || s.areas == areasFailed && !ownerRetry.Due() {
		return s.err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := current.Load()
	if s.info.Owner == OwnerNone || s.mayRegister() && atomic.LoadInt32(field(abi.OffsetCPUID)) == section.Uninitialized {
		register(false)
		s = current.Load()
	}
	if s.hasOwner() && s.sections == sectionsUndecided && atomic.LoadInt32(field(abi.OffsetCPUID)) < 0 {
		return errNotRegistered // this thread can decide nothing
	}
	s = decideSections()
	switch {
	case s.err != nil:
		return s.err
	case s.sectionsErr != nil:
		return s.sectionsErr
	case x == ByConcurrencyID && !s.info.Features.Has(FeatureMMCID):
		return errConcurrencyID
	case atomic.LoadInt32(field(abi.OffsetCPUID)) < 0:
		return errNotRegistered
	}
	// Does a section end on this thread? Any index may add to this word.
	var word int64
	c := Cells{Base: &word, N: math.MaxInt32}
	add := c.Add
	if x == ByConcurrencyID {
		add = c.AddByConcurrencyID
	}
	if status := add(1); status != Done {
		return fmt.Errorf("rseq: critical sections: none ended without an interruption (%v): does a debugger step this thread?", status)
	}
	return nil
}

var errNotRegistered = errors.New("rseq: critical sections: the calling thread is not registered: it was refused, or it is ending, " +
	"or it is for another library of the program to register it (with librseq, call rseq_register_current_thread on it)")

// decideSections decides whether critical sections may run, if there is an owner and that is not
// known, or could not be decided some time ago. The goroutine is locked to its thread.
func decideSections() *state {
	known := func(s *state) bool {
		return s.err != nil || s.sections != sectionsUndecided || s.sectionsErr != nil && !sectionsRetry.Due()
	}
	if s := current.Load(); known(s) {
		return s
	}
	mu.Lock()
	defer mu.Unlock()
	if s := current.Load(); known(s) {
		return s
	}
	next, _ := current.Load().askAndDecide()
	return &next
}

// field returns where in the calling thread's area the field at offset is. The goroutine
// is locked to its thread.
func field(offset int) *int32 {
	return (*int32)(unsafe.Add(section.ThreadPointer(), current.Load().info.Offset+offset))
}
