package rseq

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/rseq-go/rseq/internal/abi"
)

// Owner says who registered the rseq areas of this process's threads. The
// kernel takes one registration per thread, so there is one owner.
type Owner uint8

const (
	// OwnerNone: nobody did; every call answers by a slower, portable way.
	OwnerNone Owner = iota
	// OwnerLibc: the C library (glibc 2.35 and later, and its backports), every
	// thread when it starts.
	OwnerLibc
	// OwnerSelf: this package, each thread when it first asks.
	OwnerSelf
	// OwnerForeign: another library of the program.
	OwnerForeign
)

func (o Owner) String() string { return name(o, "none", "libc", "self", "foreign") }

// Confirmation is the kernel's word on what the C library says.
type Confirmation uint8

const (
	// NotAsked: the kernel was not asked, since no area was found to ask about.
	NotAsked Confirmation = iota
	// Confirmed: the thread that asked is registered at exactly the address
	// that Info describes, with length Info.RegisteredLen.
	Confirmed
	// Refuted: the thread that asked is not registered at all.
	Refuted
	// CouldNotAsk: a filter answers instead of the kernel, or cannot be told from
	// it; Info.Reason has what was answered.
	CouldNotAsk
	// Elsewhere: the thread that asked is registered, at another address: by
	// another library.
	Elsewhere
)

func (c Confirmation) String() string {
	return name(c, "not asked", "confirmed", "refuted", "could not ask", "elsewhere")
}

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
	// (Documentation/userspace-api/rseq.rst). So it is from Linux 7.1 and 7.0.10 on;
	// Linux 7.0 to 7.0.9, which no one can tell from the outside, treat it as legacy.
	ModeV2
)

func (m Mode) String() string { return name(m, "unknown", "legacy", "v2") }

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

// featuresOf returns the features of an area of so many bytes of fields. A kernel
// that knows slice_ctrl says 33, so that its size differs from the 32 that glibc
// 2.35 exports on any kernel.
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
	// Signature stands before every abort handler; 0 if registered with another,
	// and unless Confirmed.
	Signature         uint32
	KernelFeatureSize uint32 // AT_RSEQ_FEATURE_SIZE, in bytes; 0 before Linux 6.3
	KernelAlign       uint32 // AT_RSEQ_ALIGN, in bytes; 0 before Linux 6.3
	Confirmed         Confirmation
	Features          Features
	Mode              Mode
	// CriticalSections: they may run, see [CriticalSections]; not where the thread
	// that asked is known to have no area for them (Refuted, Elsewhere).
	CriticalSections bool
	// Reason says why the owner is none, or what is doubtful; else empty.
	Reason string
}

// MarshalJSON encodes i with the names of fields that `rseq show` prints as keys.
func (i Info) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Owner             string   `json:"owner"`
		Via               string   `json:"via"`
		Libc              string   `json:"libc"`
		Offset            int      `json:"offset"`
		LibcSize          uint32   `json:"libc_size"`
		Size              uint32   `json:"size"`
		RegisteredLen     uint32   `json:"registered_len"`
		AlignRequired     uint32   `json:"align_required"`
		AlignActual       uint32   `json:"align_actual"`
		Flags             uint32   `json:"flags"`
		Signature         uint32   `json:"signature"`
		KernelFeatureSize uint32   `json:"kernel_feature_size"`
		KernelAlign       uint32   `json:"kernel_align"`
		Confirmed         bool     `json:"confirmed"`
		Confirmation      string   `json:"confirmation"`
		Features          []string `json:"features"`
		Mode              string   `json:"mode"`
		CriticalSections  bool     `json:"critical_sections"`
		Reason            string   `json:"reason"`
	}{
		i.Owner.String(), i.Via, i.Libc, i.Offset, i.LibcSize, i.Size, i.RegisteredLen,
		i.AlignRequired, i.AlignActual, i.Flags, i.Signature, i.KernelFeatureSize, i.KernelAlign,
		i.Confirmed == Confirmed, i.Confirmed.String(), i.Features.Names(), i.Mode.String(), i.CriticalSections, i.Reason,
	})
}

// name returns the i-th of names, for the String methods.
func name[T ~uint8](i T, names ...string) string {
	if int(i) < len(names) {
		return names[i]
	}
	return fmt.Sprintf("%T(%d)", i, i)
}
