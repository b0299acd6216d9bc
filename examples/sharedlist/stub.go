//go:build !(linux && !android && cgo && !purego && (amd64 || arm64 || riscv64))

// Program sharedlist is Go and C on the same lists; this build of it is neither.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "sharedlist: needs C code: build it for Linux on amd64, arm64 or riscv64 with CGO_ENABLED=1 and a C compiler")
	os.Exit(1)
}
