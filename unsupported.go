//go:build !(linux && !android && cgo && !purego && (amd64 || arm64))

package rseq

import (
	"runtime"

	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/section"
)

// discover says why there is and will be no area.
func discover() knowledge {
	k := knowledge{final: true}
	k.info.KernelFeatureSize, k.info.KernelAlign = kernel.RseqFeatures()
	switch {
	case runtime.GOOS == "android":
		k.err = notSupportedError("this package does not know Android's C library")
	case runtime.GOOS != "linux":
		k.err = notLinux()
	case runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64":
		k.err = notSupportedError("this package reads the area on amd64 and arm64, this is %s", runtime.GOARCH)
	default:
		k.err = notSupportedError("built without cgo or with the tag purego, so no C library registered an area: " +
			"build with CGO_ENABLED=1, a C compiler and without that tag")
	}
	return k
}

// None of these is reached: what discover says is final.

func register(bool) int32                 { return -1 }
func confirm(k knowledge) knowledge       { return k }
func field(int) *int32                    { return &absent }
func mayAsk() error                       { return nil }
func sectionsRefused(*Info) (error, bool) { return nil, false }
func setGates(*Info)                      {}
func adopt(*section.Gate)                 {}
