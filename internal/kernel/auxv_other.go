//go:build !linux

package kernel

// RseqFeatures says that it cannot tell.
func RseqFeatures() (size, align uint32) { return 0, 0 }
