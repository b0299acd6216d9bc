//go:build !(linux && !android && cgo && !purego && (amd64 || arm64 || riscv64))

package rseq

import (
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/kernel"
)

// What stands in glibc.go and live.go for builds with C. There are no areas here.

// discover returns the state from the start: there is and will be no area.
func discover() state {
	s := state{areas: areasUnavailable}
	s.info.KernelFeatureSize, s.info.KernelAlign = kernel.RseqFeatures()
	switch {
	case runtime.GOOS == "android":
		s.err = notSupportedError("this package does not know Android's C library")
	case runtime.GOOS != "linux":
		s.err = notLinux()
	case abi.Signature[runtime.GOARCH] == 0:
		s.err = notSupportedError("this package reads the area on %s, this is %s",
			strings.Join(slices.Sorted(maps.Keys(abi.Signature)), ", "), runtime.GOARCH)
	default:
		s.err = notSupportedError("built without cgo or with the tag purego, so no C library registered an area: " +
			"build with CGO_ENABLED=1, a C compiler and without that tag")
	}
	return s
}

// The state is final, so none of these is called.

func registerThread() int32       { return -1 }
func mayAsk() error               { return nil }
func confirm(i Info) (Info, bool) { return i, false }
func refusal(*Info) (error, bool) { return nil, false }
