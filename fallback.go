package rseq

import (
	"errors"

	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/tramp"
)

// The portable answers: for a thread without an area and for fields that the
// area does not have.

func init() {
	tramp.Slow.CPU = func() int32 {
		cpu, _, _ := kernel.Getcpu()
		return int32(cpu)
	}
	tramp.Slow.NodeID = func() int32 {
		_, node, _ := kernel.Getcpu()
		return int32(node)
	}
	tramp.Slow.ConcurrencyID = func() int32 { return -1 }
}

// Why a portable answer failed. They are variables, not made on the way, so
// that the functions that return them are inlined.
var (
	errGetcpu        = whyNoGetcpu()
	errConcurrencyID = whyNoConcurrencyID()
)

func whyNoGetcpu() error {
	if _, _, err := kernel.Getcpu(); errors.Is(err, errors.ErrUnsupported) {
		return notSupportedError("only Linux tells the CPU and the node (getcpu(2))")
	}
	return errors.New("rseq: getcpu(2) was refused; does a seccomp filter stand in between?")
}

func whyNoConcurrencyID() error {
	switch {
	case errFound != nil:
		return errFound
	case !found.Features.Has(FeatureMMCID):
		return notSupportedError("the concurrency id needs Linux 6.3: this area has %d bytes of fields", found.Size)
	}
	return notSupportedError("the concurrency id: the calling thread is not registered")
}
