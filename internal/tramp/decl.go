//go:build linux && cgo && (amd64 || arm64)

package tramp

import "unsafe"

// CPU returns the calling thread's cpu_id, or what Slow.CPU says.
func CPU() int32

// NodeID returns the calling thread's node_id, or what Slow.NodeID says.
func NodeID() int32

// ConcurrencyID returns the calling thread's mm_cid, or what
// Slow.ConcurrencyID says.
func ConcurrencyID() int32

// ThreadPointer returns what the C library's thread-local storage is relative
// to: the FS base on amd64, TPIDR_EL0 on arm64.
func ThreadPointer() unsafe.Pointer

// Empty returns zero. It has the shape of CPU without its work: the yardstick
// for "the price of a plain function call".
func Empty() int32
