package main

import "debug/elf"

// registers has the values of an architecture's registers, in the order of arch.registers.
type registers [36]uint64

// arch describes an architecture. Each has a file.
type arch struct {
	name          string // GOARCH
	machine       elf.Machine
	compiler      string // the C compiler
	source        string // the file that has the sections
	unicorn       [2]int // unicorn's architecture and mode
	registers     []register
	nop           []byte
	fence         func(code []byte) bool // the instruction only orders memory; nil if there is none
	firstFlags    uint64                 // the flags before a call
	reorders      bool                   // loads may be reordered
	signature     uint64                 // bytes before an abort address that are no instruction
	floats        [2]int                 // unicorn's number and the value of a register that allows floats, or zero
	threadPointer int                    // unicorn's number of the thread pointer
	zeroVector    int                    // unicorn's number of the vector register that Go keeps zero; 0 if none

	sp, pc int // this and what follows are indexes of registers
	flags  int // the flags, or -1 if there are none
	link   int // the register with the return address, or -1 if that is on the stack
	// Go's ABIInternal: the registers of arguments and results, the context register of
	// closure calls, and the registers that a function preserves.
	arguments []int
	context   int
	kept      []int
	// The registers that a section may change before it jumps to the portable function.
	opening []int
	// The registers of arguments in C.
	cArguments []int
	cResult    int
	cKept      []int
}

type register struct {
	name string
	id   int // unicorn's number
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
