//go:build !linux

// Package kernel makes the system calls that need no area. They are Linux's: here every
// function returns an error.
package kernel

import (
	"errors"
	"runtime"
)

// Getcpu returns an error.
func Getcpu() (cpu, node int, err error) { return -1, -1, errors.ErrUnsupported }

// PossibleCPUs returns the number of CPUs that the Go runtime found.
func PossibleCPUs() int { return runtime.NumCPU() }

// AllowedCPUs returns an error.
func AllowedCPUs() ([]int, error) { return nil, errors.ErrUnsupported }

// Release returns nothing.
func Release() string { return "" }

// ENOTSUPP is what SetSliceExtension returns.
var ENOTSUPP = errors.ErrUnsupported

// SliceExtension returns false.
func SliceExtension() bool { return false }

// SetSliceExtension returns an error.
func SetSliceExtension(bool) error { return ENOTSUPP }

// SliceYield returns an error.
func SliceYield() (yielded bool, err error) { return false, ENOTSUPP }

// ErrKills is returned on Linux only.
var ErrKills = errors.New("a seccomp filter kills for it")

// Membarrier returns an error.
func Membarrier(int) error { return errors.ErrUnsupported }

// Visit returns an error.
func Visit(int) error { return errors.ErrUnsupported }

// Map returns nil.
func Map(int) []byte { return nil }

// Discard does nothing.
func Discard([]byte) bool { return false }
