//go:build !linux

package inspect

import (
	"context"
	"fmt"
	"runtime"
)

func notLinux() error {
	return fmt.Errorf("restartable sequences are Linux's, this is %s", runtime.GOOS)
}

// Process exists on Linux only.
func Process(context.Context, int, func(done, all int)) (*Report, error) { return nil, notLinux() }

// Processes exists on Linux only.
func Processes() ([]int, error) { return nil, notLinux() }

// Named exists on Linux only.
func Named(string) ([]int, error) { return nil, notLinux() }
