// Package rseq gives Go access to Linux's restartable sequences. Most programs want its
// package [github.com/rseq-go/rseq/percpu] instead, which has counters, histograms, locks and
// pools built on them: this package is for those who build their own.
//
// It finds the restartable-sequences area that the C library registered for each thread, says
// what it found and how it knows, and lets Go read it and run critical sections on it from any
// goroutine at the price of a function call.
//
// The kernel keeps the number of the CPU that a thread runs on, its NUMA node
// and its concurrency id in the thread's rseq area. It takes one area per
// thread. glibc 2.35 and later registers it and publishes where it is; this
// package shares that registration, so it does not collide with other users of
// rseq in the same program.
//
//	info, err := rseq.Query()  // what is there, confirmed by the kernel
//	cpu, err := rseq.CPU()     // from any goroutine
//	s := cells.Add(1)          // to this CPU's word: see Cells and Index
//
// # Where it works
//
// The area is read on Linux (not Android) on amd64, arm64 and riscv64, in programs that use
// cgo, built in any mode with external linking (the go command's choice for a program that
// uses cgo outside the standard library; -ldflags=-linkmode=internal fails at
// link time). Where the C library registered nothing, another library's area is
// read if there is one at a constant distance from the thread pointer, else each
// thread registers one of this package's own when it first asks. Everywhere else
// the same calls answer by an instruction of the processor (amd64), by getcpu(2), or with an
// error that matches [ErrNotSupported].
//
// # System calls
//
// Where the C library registers, [CPU], [NodeID], [ConcurrencyID] and the methods of
// [Thread] that read make none. The first [Query] or [CriticalSections] asks rseq(2)
// questions that change nothing; under a seccomp filter a child process asks first, so
// that one that kills for rseq(2) does not hurt. Where the C library does not register,
// the first reading of the process finds out who does, and the first of each thread may
// register, unless RSEQ_GO_REGISTER=0 in the environment forbids it. Without an area the
// first reading has a thread find out whether the processor can be believed.
// docs/compatibility.md lists the calls.
//
// # C code in the same program
//
// The header glibc.h gives C code the same answers and inline readers, and rseqgo.h the
// operations of [Index] and [Cells] as inline functions, on the same words. cgo finds no
// header of another module by itself. Name its folder in the environment:
//
//	CGO_CFLAGS="-O2 -I$(go list -m -f '{{.Dir}}' github.com/rseq-go/rseq)" go build
//
// docs/c.md has another way, and an example.
package rseq
