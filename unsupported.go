//go:build !(linux && cgo && (amd64 || arm64))

package rseq

import "runtime"

func discover() (Info, error) {
	switch {
	case runtime.GOOS != "linux":
		return Info{}, notSupportedError("restartable sequences are Linux's, this is %s", runtime.GOOS)
	case runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64":
		return Info{}, notSupportedError("this package reads the area on amd64 and arm64, this is %s", runtime.GOARCH)
	}
	return Info{}, notSupportedError("built without cgo, so no C library registered an area: build with CGO_ENABLED=1 and a C compiler")
}

// confirm is never reached: discover found nothing.
func confirm(i Info) (Info, bool) { return i, true }
