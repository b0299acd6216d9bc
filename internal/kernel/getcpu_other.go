//go:build !linux

// Package kernel makes the system calls of this module that need no area; only
// Linux has them.
package kernel

import "errors"

// Getcpu says that it cannot tell.
func Getcpu() (cpu, node int, err error) { return -1, -1, errors.ErrUnsupported }
