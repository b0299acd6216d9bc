//go:build linux && cgo && !purego && (amd64 || arm64)

package rseq

import (
	"errors"
	"syscall"
	"testing"
)

// TestJudge: what a live check means on kernels and machines that are not here.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		aborted, survived  int
		err                error
		allowed, supported bool // supported: the error may go away
		conclusive         bool
	}{
		{3, 0, nil, true, true, true},
		{1, 0, syscall.EBUSY, true, true, true},
		{0, 3, nil, false, false, true}, // arm64, Linux 7.0.13
		{2, 1, nil, false, false, true},
		{0, 0, nil, false, true, false},
		{0, 0, syscall.EAGAIN, false, true, false},
	} {
		why, conclusive := judge(c.aborted, c.survived, c.err)
		if (why == nil) != c.allowed || errors.Is(why, ErrNotSupported) == c.supported && why != nil || conclusive != c.conclusive {
			t.Errorf("%+v: %v, %v", c, why, conclusive)
		}
		if c.err != nil && why != nil && !errors.Is(why, c.err) {
			t.Errorf("%v does not say %v", why, c.err)
		}
	}
}

// TestFeaturesOf: an area has the fields that its size reaches, and no more.
func TestFeaturesOf(t *testing.T) {
	const first = FeatureCPUID
	for size, want := range map[uint32]Features{
		0: 0, 19: 0, 20: first, 23: first, 24: first | FeatureNodeID, 27: first | FeatureNodeID,
		28: first | FeatureNodeID | FeatureMMCID, 32: first | FeatureNodeID | FeatureMMCID,
		33: first | FeatureNodeID | FeatureMMCID | FeatureSliceCtrl, 64: first | FeatureNodeID | FeatureMMCID | FeatureSliceCtrl,
	} {
		if got := featuresOf(size); got != want {
			t.Errorf("%d bytes: %v, want %v", size, got, want)
		}
	}
}
