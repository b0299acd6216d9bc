//go:build !linux

package kernel

// RseqFeatures returns zeros: there is no rseq(2).
func RseqFeatures() (size, align uint32) { return 0, 0 }
