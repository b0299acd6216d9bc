// Package abi has the layout of struct rseq and the kernel's constants, as the headers of
// each glibc and kernel define them, and what Go and the assembly share. gen writes
// layouts.go.
package abi

// Field is a field of struct rseq.
type Field struct {
	Name   string
	Type   string
	Offset uint32 // bytes
	Size   uint32 // bytes
	Needs  uint32 // an area has the field if its fields take at least so many bytes
	Linux  string // the first version that has it
}

// Layout is struct rseq in the headers of one glibc and of the Linux packaged with it.
type Layout struct {
	Glibc, Linux string
	SysRseq      bool   // the headers include sys/rseq.h, and the library registers
	Size, Align  uint32 // of struct rseq
	FeatureSize  uint32 // bytes of fields
}
