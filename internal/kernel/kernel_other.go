//go:build !linux

// Package kernel asks the kernel what needs no area; only Linux answers.
package kernel

import (
	"errors"
	"runtime"
)

// Getcpu says that it cannot tell.
func Getcpu() (cpu, node int, err error) { return -1, -1, errors.ErrUnsupported }

// PossibleCPUs returns how many CPUs the Go runtime found.
func PossibleCPUs() int { return runtime.NumCPU() }

// AllowedCPUs says that it cannot tell.
func AllowedCPUs() ([]int, error) { return nil, errors.ErrUnsupported }

// Release returns nothing.
func Release() string { return "" }

// ENOTSUPP is what SetSliceExtension says.
var ENOTSUPP = errors.ErrUnsupported

// SliceExtension says no.
func SliceExtension() bool { return false }

// SetSliceExtension says that it cannot.
func SetSliceExtension(bool) error { return ENOTSUPP }

// SliceYield says that it cannot.
func SliceYield() (yielded bool, err error) { return false, ENOTSUPP }

// ErrKills is what Linux says of a seccomp filter that kills.
var ErrKills = errors.New("a seccomp filter kills for it")

// Membarrier says that it cannot.
func Membarrier(int) error { return errors.ErrUnsupported }

// Visit says that it cannot.
func Visit(int) error { return errors.ErrUnsupported }

// Map returns none.
func Map(int) []byte { return nil }

// Discard does nothing.
func Discard([]byte) bool { return false }
