// Program ctor is a library whose C constructor calls Go: when a C program
// loads it, the loader's lock is held until Go has started and answered.
package main

import "C"

import "github.com/rseq-go/rseq"

//export ctorOwner
func ctorOwner() C.int {
	info, _ := rseq.Query()
	return C.int(info.Owner)
}

func main() {}
