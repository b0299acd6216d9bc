// Package kernel makes the system calls of this module: getcpu(2), and
// questions by rseq(2) that change nothing. Only Linux has them.
package kernel

// State is what the kernel says of one thread's registration.
type State uint8

const (
	// CouldNotAsk: a filter stands in between, or the answer fits both.
	CouldNotAsk State = iota
	// Registered at exactly the address that was asked about.
	Registered
	// NotRegistered: this thread has no registration at all.
	NotRegistered
)

// Registration is the answer to Ask.
type Registration struct {
	State State
	Len   uint32 // length registered, if Registered
	Ours  bool   // whether the signature is ours, if Registered
	Errno error  // what rseq(2) said instead, if CouldNotAsk
}
