// Program pluginhost loads the plugin that its argument names and prints what
// Query says there. It uses this package itself, so that its critical sections are
// allowed and the plugin's, of which it has to be told, are not.
package main

import (
	"errors"
	"fmt"
	"os"
	"plugin"
	"strings"

	"github.com/rseq-go/rseq"
)

func main() {
	own := rseq.CriticalSections(rseq.ByCPU)
	if own != nil {
		fmt.Fprintln(os.Stderr, own)
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
	sections, err := p.Lookup("Sections")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := sections.(func() error)(); !errors.Is(err, rseq.ErrNotSupported) || own == nil && !strings.Contains(err.Error(), "plugin") {
		fmt.Fprintln(os.Stderr, "critical sections in the plugin:", err)
		os.Exit(1)
	}
}
