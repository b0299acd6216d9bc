//go:build !linux

package main

import "runtime"

func checks(bool, *progress) []check {
	return []check{{"platform", fail, runtime.GOOS + " has no restartable sequences", "run this on Linux"}}
}
