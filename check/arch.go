package main

import "debug/elf"

// registers has an architecture's registers, in the order of arch.registers.
type registers [36]uint64

// arch is what the check knows of an architecture; each has a file.
type arch struct {
	name          string // GOARCH
	machine       elf.Machine
	compiler      string // for its programs
	source        string // the file that has its sections
	unicorn       [2]int // architecture and mode
	registers     []register
	nop           []byte
	firstFlags    uint64
	reorders      bool   // loads
	signature     uint64 // bytes in front of an abort address that are no instruction
	threadPointer int    // by unicorn's number
	zeroVector    int    // that Go keeps zero, or 0; by unicorn's number

	sp, pc int // as are all below: places in registers
	flags  int // or -1: there are none
	link   int // has the return address, or -1: that is on the stack
	// Go's ABIInternal: arguments and results, the context of closure calls, and what a
	// function keeps.
	arguments []int
	context   int
	kept      []int
	// What may have changed where a section jumps to the portable function.
	opening []int
	// The C convention.
	cArguments []int
	cResult    int
	cKept      []int
}

type register struct {
	name string
	id   int // unicorn's
}

var arches []*arch

func (a *arch) place(name string) int {
	for i, r := range a.registers {
		if r.name == name {
			return i
		}
	}
	panic("no register " + name)
}

func (a *arch) places(names ...string) (places []int) {
	for _, n := range names {
		places = append(places, a.place(n))
	}
	return places
}
