//go:build !(linux && !android && amd64 && !purego)

package processor

// read returns all ones: there is no such instruction.
func read(way) uint32 { return 1<<32 - 1 }

// instructions returns none: arm64 keeps no such number where a program may read it.
func instructions() []way { return nil }
