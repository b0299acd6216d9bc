// Program pluginhost loads the plugin that its argument names and prints what
// Query says there. It uses this package itself.
package main

import (
	"fmt"
	"os"
	"plugin"

	"github.com/rseq-go/rseq"
)

func main() {
	if err := rseq.CriticalSections(rseq.ByCPU); err != nil {
		fmt.Fprintln(os.Stderr, err) // that is for the plugin to find out
	}
	p, err := plugin.Open(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json, err := p.Lookup("JSON")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(json.(func() string)())
}
