// Package inspect asks the kernel which rseq registration each thread of
// another process holds, by PTRACE_GET_RSEQ_CONFIGURATION (Linux 5.13,
// 90f093fa8ea4), and finds out from the process's memory whose area that is.
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
	None    Owner = "none"    // nobody
	Libc    Owner = "libc"    // the process's C library: the area is where it says
	Object  Owner = "object"  // a program or library, in whose thread-local variables it is
	Unknown Owner = "unknown" // anybody else, or the thread could not be asked
)

// Registration is what a thread has, as the kernel holds it.
type Registration struct {
	Owner     Owner
	Object    string // the path of it, in the process's mount namespace: any bytes
	Length    uint32
	Signature uint32
	Flags     uint32
	Why       string // why there is none, or why it is not known; else empty
}

// Thread is one thread's registration. Address is zero if it has none.
type Thread struct {
	Registration
	TID     int
	Name    string // as the thread set it: any bytes
	Address uint64
}

// Report is what was found out about one process.
type Report struct {
	PID     int
	Name    string   // any bytes
	Threads []Thread // in the order of their ids
	// Missing says why there may be more threads than Threads has; empty if there
	// were none when the last of them was looked at.
	Missing string
}

// Group is threads whose registrations are alike.
type Group struct {
	Registration
	Threads int
}

// Groups returns the threads of r, alike ones together, the largest group first.
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

// ShortOwner is the owner in one word: an object's by the name of its file.
func (r Registration) ShortOwner() string {
	if r.Owner == Object {
		return path.Base(r.Object)
	}
	return string(r.Owner)
}

// hex is a number that is encoded as "0x53053053".
type hex uint64

func (h hex) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%#x", uint64(h)), nil }

// registrationJSON has null for what is not known.
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
	if r.Length != 0 { // else nothing is registered
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

// MarshalJSON has null for what is not known, and hexadecimal strings for addresses.
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

// Why a process cannot be looked at, for errors.Is.
var (
	ErrGone   = errors.New("it has ended")
	ErrKernel = errors.New("it is the kernel's")    // a kernel thread, which has no areas
	ErrTooOld = errors.New("the kernel is too old") // for every process
)
