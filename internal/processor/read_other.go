//go:build !(linux && !android && amd64 && !purego)

package processor

// read returns all ones: this build has no such instruction.
func read(way) uint32 { return 1<<32 - 1 }

// instructions returns nil: arm64 has no such register that a program may read.
func instructions() []way { return nil }
