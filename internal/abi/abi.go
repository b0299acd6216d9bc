// Package abi is what is known of struct rseq, from the headers of each glibc and
// of the kernels; gen makes layouts.go.
package abi

// Field is a field of struct rseq; `rseq show --json` prints some of it.
type Field struct {
	Name   string `json:"name"`
	Type   string `json:"-"`
	Offset uint32 `json:"offset"` // bytes
	Size   uint32 `json:"size"`   // bytes
	Needs  uint32 `json:"-"`      // how many bytes of fields an area has that has it
	Linux  string `json:"linux"`  // the version that brought it
}

// Layout is what the headers of one glibc, and of the Linux beside it, say.
type Layout struct {
	Glibc, Linux string
	SysRseq      bool   // there is a sys/rseq.h, and the library registers
	Size, Align  uint32 // of struct rseq
	FeatureSize  uint32 // bytes of fields
}
