// Package abi is what is known of struct rseq, from the headers of each glibc and
// of the kernels; gen makes layouts.go.
package abi

// Field is a field of struct rseq.
type Field struct {
	Name   string
	Type   string
	Offset uint32 // bytes
	Size   uint32 // bytes
	Needs  uint32 // how many bytes of fields an area has that has it
	Linux  string // the version that brought it
}

// Layout is what the headers of one glibc, and of the Linux beside it, say.
type Layout struct {
	Glibc, Linux string
	SysRseq      bool   // there is a sys/rseq.h, and the library registers
	Size, Align  uint32 // of struct rseq
	FeatureSize  uint32 // bytes of fields
}
