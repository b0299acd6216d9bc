//go:build !linux

package main

import "runtime"

func kernelRelease() string { return "not Linux" }

func checks() []check {
	return []check{newCheck("platform", "", runtime.GOOS+" has no restartable sequences", "run this on Linux")}
}
