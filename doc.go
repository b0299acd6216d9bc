// Package rseq finds the restartable-sequences area that the C library
// registered for each thread, says what it found and how it knows, and lets Go
// read it from any goroutine at the price of a function call.
//
// The kernel keeps the number of the CPU that a thread runs on, its NUMA node
// and its concurrency id in the thread's rseq area. It takes one area per
// thread. glibc 2.35 and later registers it and publishes where it is; this
// package shares that registration, so it meets no other user of rseq in the
// same program.
//
//	info, err := rseq.Query()  // what is there, confirmed by the kernel
//	cpu, err := rseq.CPU()     // from any goroutine
//
// # Where it works
//
// The area is read on Linux, amd64 and arm64, in programs that use cgo, built
// in any mode with external linking (the go command's choice for a program that
// uses cgo outside the standard library; -ldflags=-linkmode=internal is not
// supported). Everywhere else, and where nobody registered an area, the same
// calls answer by getcpu(2), or with an error that matches [ErrNotSupported].
//
// # System calls
//
// [CPU], [NodeID] and [ConcurrencyID] make none where the area is registered.
// The first successful [Query] asks rseq(2) questions that change nothing.
// Nothing else in this package calls rseq(2), so a seccomp filter that kills
// for it cannot hurt a program that does not call Query.
//
// # C code in the same program
//
// The header glibc.h gives C code the same answer and an inline reader. cgo
// cannot include a header of another module by itself; name its folder in the
// environment:
//
//	CGO_CFLAGS="-I$(go list -f '{{.Dir}}' github.com/rseq-go/rseq)" go build
package rseq
