// Package inspect asks the kernel which rseq registration each thread of
// another process holds, by PTRACE_GET_RSEQ_CONFIGURATION (Linux 5.13,
// 90f093fa8ea4).
package inspect

// Thread is one thread's registration as the kernel holds it. Address is zero
// if the thread has none; the other fields are then zero too.
type Thread struct {
	TID       int    `json:"tid"`
	Name      string `json:"name"` // as the thread set it: any bytes
	Address   uint64 `json:"address"`
	Length    uint32 `json:"length"`
	Signature uint32 `json:"signature"`
	Flags     uint32 `json:"flags"`
}

// Report is what was found out about one process.
type Report struct {
	PID     int      `json:"pid"`
	Threads []Thread `json:"threads"` // in the order of their ids
	// Missing says why there may be more threads than Threads has; empty if there
	// were none when the last of them was looked at.
	Missing string `json:"missing,omitempty"`
}
