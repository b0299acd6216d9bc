package main

import (
	"fmt"

	"github.com/rseq-go/rseq"
)

func main() {
	info, err := rseq.Query()
	fmt.Println(info.Owner, info.Libc, info.Confirmed, info.Features, err)
	cpu, err := rseq.CPU()
	fmt.Println("this goroutine was just on CPU", cpu, err)
}
