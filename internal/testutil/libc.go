package testutil

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rseq-go/rseq"
)

// TunableOff is the environment variable that tells glibc to register no areas.
const TunableOff = "GLIBC_TUNABLES=glibc.pthread.rseq=0"

// OnGlibc reports whether programs here are linked with glibc.
func OnGlibc() bool {
	info, _ := rseq.Query()
	return strings.HasPrefix(info.Libc, "glibc")
}

// Truth is what test/testdata/truth.c says of the C library and the kernel. That program
// shares no code with the package.
type Truth struct {
	Symbols     bool
	Size, Flags uint32
	FeatureSize uint32 `json:"feature_size"`
	Align       uint32
	Owner       rseq.Owner `json:"-"` // who must own the areas in that case
}

// AskTruth builds and runs truth.c with env added to the environment.
func AskTruth(t testing.TB, env ...string) Truth {
	t.Helper()
	source := filepath.Join(Root(t), "test/testdata/truth.c")
	said := Decode[Truth](t, Run(t, env, CC(t, source, "-ldl")))
	switch {
	case said.Size > 0:
		said.Owner = rseq.OwnerLibc
	case WantOwner() != "none":
		said.Owner = rseq.OwnerSelf
	}
	return said
}

// Show is what a program with this package inside prints about itself: the JSON of
// "rseq show".
type Show struct {
	rseq.Info
	Owner        string
	Confirmed    bool
	Confirmation string
	CPU          *int
	NodeID       *int
	MMCID        *int
}

func (s *Show) UnmarshalJSON(data []byte) error {
	err := json.Unmarshal(data, &s.Info)
	s.Owner, s.Confirmed = s.Info.Owner.String(), s.Info.Confirmed == rseq.Confirmed
	s.Confirmation = s.Info.Confirmed.String()
	var now struct {
		CPU    *int
		NodeID *int `json:"node_id"`
		MMCID  *int `json:"mm_cid"`
	}
	err = errors.Join(err, json.Unmarshal(data, &now))
	s.CPU, s.NodeID, s.MMCID = now.CPU, now.NodeID, now.MMCID
	return err
}

// Agrees compares what the program printed with what truth.c said.
func (s Show) Agrees(t testing.TB, want Truth) {
	t.Helper()
	if s.Owner != want.Owner.String() {
		t.Errorf("owner %q, want %v (%s)", s.Owner, want.Owner, s.Reason)
	}
	if s.LibcSize != want.Size || s.Flags != want.Flags ||
		s.KernelFeatureSize != want.FeatureSize || s.KernelAlign != want.Align {
		t.Errorf("%+v disagrees with C: %+v", s, want)
	}
}
