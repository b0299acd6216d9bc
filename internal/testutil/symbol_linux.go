package testutil

import (
	"debug/elf"
	"reflect"
	"unsafe"
)

func anchor() {}

// Injected makes the assembler compile the delay loops in.
const Injected = "CGO_CFLAGS=-g -O2 -Wa,--defsym,RSEQGO_INJECT=1"

// WrongConvention makes the assembler build a convention check that fails.
const WrongConvention = "CGO_CFLAGS=-g -O2 -Wa,--defsym,RSEQGO_WRONG_CONVENTION=1"

// Inject returns the number of delay loops at each point of this program's critical sections,
// to be set by the test. It returns nil if the delay loops are not compiled in.
func Inject() *[7]int32 {
	file, err := elf.Open("/proc/self/exe")
	if err != nil {
		return nil
	}
	defer file.Close()
	symbols, err := file.Symbols()
	if err != nil {
		return nil
	}
	address := map[string]uintptr{}
	for _, s := range symbols {
		address[s.Name] = uintptr(s.Value)
	}
	at := address["rseqgo_v1_inject"]
	if at == 0 {
		return nil
	}
	// The address is relative to a known function, since the program can be loaded anywhere.
	const known = "github.com/rseq-go/rseq/internal/testutil.anchor"
	return (*[7]int32)(unsafe.Add(reflect.ValueOf(anchor).UnsafePointer(), at-address[known]))
}
