package rseq

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/rseq-go/rseq/internal/abi"
)

// ErrNotSupported is what an error matches, by [errors.Is], when this build,
// C library or kernel cannot do what was asked; the error around it says what
// is missing and which version brings it. It matches [errors.ErrUnsupported].
// Such an answer is final, for the process, or for the thread that it names. Any
// other error (a filter's EPERM, say) may go away and is asked again.
var ErrNotSupported error = notSupported{}

type notSupported struct{}

func (notSupported) Error() string { return "not supported" }

func (notSupported) Is(target error) bool { return target == errors.ErrUnsupported }

// notSupportedError is an ErrNotSupported that says what is missing.
func notSupportedError(format string, args ...any) error {
	return fmt.Errorf("rseq: %w: %s", ErrNotSupported, fmt.Sprintf(format, args...))
}

func notLinux() error {
	return notSupportedError("restartable sequences are Linux's, this is %s", runtime.GOOS)
}

// Owner says who registered the rseq areas of this process's threads. The
// kernel takes one registration per thread, so there is one owner.
type Owner uint8

const (
	// OwnerNone: no usable area is known; every call takes its slow path.
	OwnerNone Owner = iota
	// OwnerLibc: the C library (glibc 2.35 and later, and its backports) registers every
	// thread when it starts.
	OwnerLibc
	// OwnerSelf: this package registers each thread when it first asks.
	OwnerSelf
	// OwnerForeign: another library of the program registers threads.
	OwnerForeign
)

var ownerNames = []string{"none", "libc", "self", "foreign"}

func (o Owner) String() string { return name(o, ownerNames...) }

// MarshalText returns the name that String does.
func (o Owner) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what MarshalText returns.
func (o *Owner) UnmarshalText(text []byte) error { return parse(o, text, ownerNames) }

// Confirmation is the kernel's answer about the thread that asked.
type Confirmation uint8

const (
	// NotAsked: the kernel was not asked, because no area was found.
	NotAsked Confirmation = iota
	// Confirmed: the thread that asked is registered at exactly the address
	// that Info describes, with length Info.RegisteredLen.
	Confirmed
	// Refuted: the thread that asked is not registered at all.
	Refuted
	// CouldNotAsk: a filter answers in place of the kernel, or may do so; Info.Reason has
	// the answer.
	CouldNotAsk
	// Elsewhere: another library registered the thread that asked, at another address.
	Elsewhere
)

var confirmationNames = []string{"not asked", "confirmed", "refuted", "could not ask", "elsewhere"}

func (c Confirmation) String() string { return name(c, confirmationNames...) }

// MarshalText returns the name that String does.
func (c Confirmation) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText returns.
func (c *Confirmation) UnmarshalText(text []byte) error { return parse(c, text, confirmationNames) }

// Mode is how the kernel treats a registration.
type Mode uint8

const (
	// ModeUnknown: there is no confirmed registration.
	ModeUnknown Mode = iota
	// ModeLegacy: a registration of the original 32 bytes; the fields are
	// written at every preemption, as since Linux 4.18.
	ModeLegacy
	// ModeV2: a longer registration, on a kernel that advertises more than 32 bytes:
	// fewer writes, and a program that writes a read-only field is killed
	// (Documentation/userspace-api/rseq.rst). Linux 7.0.10, 7.1 and later do so. Linux 7.0
	// to 7.0.9, which cannot be told apart from them, treat it as legacy.
	ModeV2
)

var modeNames = []string{"unknown", "legacy", "v2"}

func (m Mode) String() string { return name(m, modeNames...) }

// MarshalText returns the name that String does.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what MarshalText returns.
func (m *Mode) UnmarshalText(text []byte) error { return parse(m, text, modeNames) }

// Features is the set of fields that the area provides.
type Features uint32

const (
	FeatureCPUID     Features = 1 << iota // cpu_id, Linux 4.18
	FeatureNodeID                         // node_id, Linux 6.3
	FeatureMMCID                          // mm_cid, Linux 6.3
	FeatureSliceCtrl                      // slice_ctrl, Linux 7.0
)

var featureNames = []string{"cpu_id", "node_id", "mm_cid", "slice_ctrl"}

// Has reports whether all fields of g are in f.
func (f Features) Has(g Features) bool { return f&g == g }

// Names returns the fields' names as in the kernel's struct rseq.
func (f Features) Names() []string {
	names := []string{}
	for i, n := range featureNames {
		if f.Has(1 << i) {
			names = append(names, n)
		}
	}
	return names
}

func (f Features) String() string { return strings.Join(f.Names(), " ") }

// MarshalJSON encodes f as the array of its Names.
func (f Features) MarshalJSON() ([]byte, error) { return json.Marshal(f.Names()) }

// UnmarshalJSON reads what MarshalJSON returns. A name that it does not know, of a later
// version, is left out.
func (f *Features) UnmarshalJSON(data []byte) error {
	var names []string
	if err := json.Unmarshal(data, &names); err != nil {
		return err
	}
	*f = 0
	for i, n := range featureNames {
		if slices.Contains(names, n) {
			*f |= 1 << i
		}
	}
	return nil
}

// featuresOf returns the features of an area with size bytes of fields. A kernel that
// knows slice_ctrl says 33, so that its size differs from the 32 that glibc 2.35 exports
// on any kernel.
func featuresOf(size uint32) (f Features) {
	for i, need := range []uint32{abi.NeedsCPUID, abi.NeedsNodeID, abi.NeedsMMCID, abi.NeedsSliceCtrl} {
		if size >= need {
			f |= 1 << i
		}
	}
	return f
}

// Info describes the rseq area of this process's threads and how each thing
// about it is known.
type Info struct {
	Owner Owner // who registered it
	// Via is how the owner's area was found: "dlsym" or "direct" (__rseq_offset,
	// by dlsym or resolved by a static link), "symbol" (the thread-local symbol
	// __rseq_abi, or librseq's rseq_offset), "kernel" (asked along the thread's TLS), "own", or empty.
	Via    string
	Libc   string // the C library and its version, "glibc 2.36"
	Offset int    // bytes from the thread pointer to the area
	// LibcSize is __rseq_size as exported: 32 or 20 up to glibc 2.40 whatever
	// the kernel provides, the size of the fields from glibc 2.41, 0 if the C
	// library registered nothing.
	LibcSize uint32
	Size     uint32 // bytes of fields that may be read
	// RegisteredLen is the length that the kernel holds, in bytes; 0 unless
	// Confirmed.
	RegisteredLen uint32
	AlignRequired uint32 // alignment that the kernel wants for that length, in bytes
	AlignActual   uint32 // the address asked about is a multiple of it: a power of two, in bytes
	Flags         uint32 // __rseq_flags, the flags of the registration
	// Signature stands before every abort handler. It is 0 if the area is registered with
	// another one, and unless Confirmed.
	Signature         uint32
	KernelFeatureSize uint32 // AT_RSEQ_FEATURE_SIZE, in bytes; 0 before Linux 6.3
	KernelAlign       uint32 // AT_RSEQ_ALIGN, in bytes; 0 before Linux 6.3
	Confirmed         Confirmation
	Features          Features
	Mode              Mode
	// CriticalSections says that they may run, see [CriticalSections]. It is false if the
	// thread that asked has no area for them (Refuted, Elsewhere).
	CriticalSections bool
	// Reason says why there is no owner, or what is doubtful; else it is empty.
	Reason string
}

// infoJSON is how an Info is encoded. What is not known is nil, which is encoded as null.
type infoJSON struct {
	Owner             Owner        `json:"owner"`
	Via               *string      `json:"via"`
	Libc              *string      `json:"libc"`
	Offset            *int         `json:"offset"`
	LibcSize          *uint32      `json:"libc_size"`
	Size              *uint32      `json:"size"`
	RegisteredLen     *uint32      `json:"registered_len"`
	AlignRequired     *uint32      `json:"align_required"`
	AlignActual       *uint32      `json:"align_actual"`
	Flags             *uint32      `json:"flags"`
	Signature         *hexadecimal `json:"signature"`
	KernelFeatureSize *uint32      `json:"kernel_feature_size"`
	KernelAlign       *uint32      `json:"kernel_align"`
	Confirmation      Confirmation `json:"confirmation"`
	Features          Features     `json:"features"`
	Mode              *Mode        `json:"mode"`
	CriticalSections  bool         `json:"critical_sections"`
	Reason            *string      `json:"reason"`
}

// MarshalJSON encodes i: a key for each field, null for what is not known, and the
// signature as a hexadecimal string.
func (i Info) MarshalJSON() ([]byte, error) {
	j := infoJSON{
		Owner: i.Owner, Via: known0(i.Via), Libc: known0(i.Libc), Size: known0(i.Size),
		RegisteredLen: known0(i.RegisteredLen), AlignRequired: known0(i.AlignRequired), AlignActual: known0(i.AlignActual),
		Signature:         known0(hexadecimal(i.Signature)),
		KernelFeatureSize: known0(i.KernelFeatureSize), KernelAlign: known0(i.KernelAlign),
		Confirmation: i.Confirmed, Features: i.Features, Mode: known0(i.Mode),
		CriticalSections: i.CriticalSections, Reason: known0(i.Reason),
	}
	if i.Owner != OwnerNone {
		j.Offset, j.Flags = &i.Offset, &i.Flags
	}
	if i.Libc != "" { // else there is no C library whose zero would say something
		j.LibcSize = &i.LibcSize
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON returns, and what `rseq show --json` prints.
func (i *Info) UnmarshalJSON(data []byte) error {
	var j infoJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*i = Info{
		Owner: j.Owner, Via: orZero(j.Via), Libc: orZero(j.Libc), Offset: orZero(j.Offset),
		LibcSize: orZero(j.LibcSize), Size: orZero(j.Size), RegisteredLen: orZero(j.RegisteredLen),
		AlignRequired: orZero(j.AlignRequired), AlignActual: orZero(j.AlignActual), Flags: orZero(j.Flags),
		Signature:         uint32(orZero(j.Signature)),
		KernelFeatureSize: orZero(j.KernelFeatureSize), KernelAlign: orZero(j.KernelAlign),
		Confirmed: j.Confirmation, Features: j.Features, Mode: orZero(j.Mode),
		CriticalSections: j.CriticalSections, Reason: orZero(j.Reason),
	}
	return nil
}

// known0 returns nil for zero, which means that the value is not known.
func known0[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}

func orZero[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// hexadecimal is a number that is encoded as "0x53053053".
type hexadecimal uint32

func (h hexadecimal) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%#x", uint32(h)), nil }

func (h *hexadecimal) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 0, 32)
	*h = hexadecimal(n)
	return err
}

// name returns the i-th of names, for the String methods.
func name[T ~uint8](i T, names ...string) string {
	if int(i) < len(names) {
		return names[i]
	}
	return fmt.Sprintf("%T(%d)", i, i)
}

// parse sets i to the place of text in names.
func parse[T ~uint8](i *T, text []byte, names []string) error {
	n := slices.Index(names, string(text))
	if n < 0 {
		return fmt.Errorf("%T: %q: expected one of %q", *i, text, names)
	}
	*i = T(n)
	return nil
}
