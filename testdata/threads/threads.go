// Program threads holds 32 goroutines on threads of their own, prints where
// each one's rseq area is believed to be (thread id, address, length), and
// waits for the end of its input.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/tramp"
)

func main() {
	info, err := rseq.Query()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var ready sync.WaitGroup
	for range 32 {
		ready.Add(1)
		go func() {
			runtime.LockOSThread()
			if _, err := rseq.CPU(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			area := uintptr(tramp.ThreadPointer()) + uintptr(info.Offset)
			fmt.Println(unix.Gettid(), area, info.RegisteredLen)
			ready.Done()
			select {}
		}()
	}
	ready.Wait()
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}
