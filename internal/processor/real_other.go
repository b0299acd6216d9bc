//go:build !linux

package processor

import (
	"errors"

	"github.com/rseq-go/rseq/internal/kernel"
)

// real is this machine. It has no instruction and no getcpu(2).
var real = machine{
	instructions: instructions,
	read:         read,
	getcpu:       kernel.Getcpu,
	possible:     kernel.PossibleCPUs,
	allowed:      kernel.AllowedCPUs,
	mayAsk:       func() error { return errors.ErrUnsupported },
	mayBind:      func() error { return errors.ErrUnsupported },
	bind:         func(int) error { return errors.ErrUnsupported },
	cost:         func(call func()) float64 { call(); return 0 },
	thread:       func(f func() error) error { return f() },
}
