// Package inspect asks the kernel for the rseq registration of each thread of another
// process, by PTRACE_GET_RSEQ_CONFIGURATION (Linux 5.13, 90f093fa8ea4), and reads from the
// process's memory whose area that is.
package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
)

// Owner says who registered a thread's area.
type Owner string

const (
	None    Owner = "none"    // the thread has no area
	Libc    Owner = "libc"    // the C library: the area is where its __rseq_offset says
	Object  Owner = "object"  // a program or library: the area is one of its thread-local variables
	Unknown Owner = "unknown" // none of these, or the thread could not be asked
)

// Registration is the registration of a thread, as the kernel knows it.
type Registration struct {
	Owner     Owner
	Object    string // the owner's path in the process's mount namespace: any bytes
	Length    uint32
	Signature uint32
	Flags     uint32
	Why       string // why there is no registration, or why it is not known; else empty
}

// Thread is one thread's registration. Address is zero if there is none.
type Thread struct {
	Registration
	TID     int
	Name    string // the name that the thread set: any bytes
	Address uint64
}

// Report has the threads of one process.
type Report struct {
	PID     int
	Name    string   // any bytes
	Threads []Thread // in the order of their ids
	// Missing says why Threads may not have all threads. It is empty if there was no other
	// thread when the last one was asked about.
	Missing string
}

// Group counts the threads that have equal registrations.
type Group struct {
	Registration
	Threads int
}

// Groups returns the groups of the threads of r, the largest first.
func (r *Report) Groups() (groups []Group) {
	for _, t := range r.Threads {
		groups = add(groups, t.Registration)
	}
	return groups
}

// add counts one more thread.
func add(groups []Group, r Registration) []Group {
	i := slices.IndexFunc(groups, func(g Group) bool { return g.Registration == r })
	if i < 0 {
		return append(groups, Group{r, 1})
	}
	groups[i].Threads++
	for ; i > 0 && groups[i].Threads > groups[i-1].Threads; i-- {
		groups[i], groups[i-1] = groups[i-1], groups[i]
	}
	return groups
}

// Registered reports whether any thread has an area.
func (r *Report) Registered() bool {
	return slices.ContainsFunc(r.Threads, func(t Thread) bool { return t.Address != 0 })
}

// ShortOwner is the owner in one word: for an object, the name of its file.
func (r Registration) ShortOwner() string {
	if r.Owner == Object {
		return path.Base(r.Object)
	}
	return string(r.Owner)
}

// hex is a number that is encoded as a string, "0x53053053".
type hex uint64

func (h hex) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%#x", uint64(h)), nil }

// registrationJSON encodes what is not known as null.
type registrationJSON struct {
	Owner     Owner   `json:"owner"`
	Object    *string `json:"object"`
	Length    *uint32 `json:"length"`
	Signature *hex    `json:"signature"`
	Flags     *uint32 `json:"flags"`
	Why       *string `json:"why"`
}

func (r Registration) json() registrationJSON {
	j := registrationJSON{Owner: r.Owner}
	if r.Length != 0 { // there is a registration
		signature := hex(r.Signature)
		j.Length, j.Signature, j.Flags = &r.Length, &signature, &r.Flags
	}
	if r.Object != "" {
		j.Object = &r.Object
	}
	if r.Why != "" {
		j.Why = &r.Why
	}
	return j
}

// MarshalJSON encodes what is not known as null, and addresses as hexadecimal strings.
func (t Thread) MarshalJSON() ([]byte, error) {
	var address *hex
	if t.Address != 0 {
		address = (*hex)(&t.Address)
	}
	return json.Marshal(struct {
		TID     int    `json:"tid"`
		Name    string `json:"name"`
		Address *hex   `json:"address"`
		registrationJSON
	}{t.TID, t.Name, address, t.Registration.json()})
}

// MarshalJSON is as Thread's.
func (g Group) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Threads int `json:"threads"`
		registrationJSON
	}{g.Threads, g.Registration.json()})
}

// MarshalJSON is as Thread's.
func (r Report) MarshalJSON() ([]byte, error) {
	j := struct {
		PID     int      `json:"pid"`
		Name    string   `json:"name"`
		Threads []Thread `json:"threads"`
		Missing *string  `json:"missing"`
	}{PID: r.PID, Name: r.Name, Threads: r.Threads}
	if r.Missing != "" {
		j.Missing = &r.Missing
	}
	return json.Marshal(j)
}

// The reasons why a process cannot be inspected, for errors.Is.
var (
	ErrGone   = errors.New("it has ended")
	ErrKernel = errors.New("it is the kernel's")    // a kernel thread has no area
	ErrTooOld = errors.New("the kernel is too old") // then no process can be inspected
)
