// Program ctor is a library whose C constructor calls Go. When a C program loads it, the loader
// holds its lock until Go has started and returned.
package main

import "C"

import "github.com/rseq-go/rseq"

//export ctorOwner
func ctorOwner() C.int {
	info, _ := rseq.Query()
	return C.int(info.Owner)
}

func main() {}
