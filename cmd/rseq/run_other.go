//go:build !linux

package main

import (
	"io"
	"runtime"
)

func runCommand(io.Writer, options, []string) error {
	return errNo{"run: restartable sequences are Linux's, this is " + runtime.GOOS}
}
