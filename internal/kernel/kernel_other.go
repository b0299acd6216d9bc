//go:build !linux

package kernel

import "errors"

// Ask cannot ask.
func Ask(area uintptr, sig uint32, likely ...uint32) Registration {
	return Registration{Errno: errors.ErrUnsupported}
}

// Supported says no.
func Supported() error { return errors.ErrUnsupported }

// Getcpu says that it cannot tell.
func Getcpu() (cpu, node int, err error) { return -1, -1, errors.ErrUnsupported }
