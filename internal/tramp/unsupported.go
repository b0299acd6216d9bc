//go:build !(linux && cgo && (amd64 || arm64))

package tramp

import "unsafe"

// CPU returns what Slow.CPU says.
func CPU() int32 { return slowCPU() }

// NodeID returns what Slow.NodeID says.
func NodeID() int32 { return slowNodeID() }

// ConcurrencyID returns what Slow.ConcurrencyID says.
func ConcurrencyID() int32 { return slowConcurrencyID() }

// ThreadPointer returns nil: this build has no C library to ask.
func ThreadPointer() unsafe.Pointer { return nil }

// Empty returns zero.
//
//go:noinline
func Empty() int32 { return 0 }
