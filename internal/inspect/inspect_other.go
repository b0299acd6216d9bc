//go:build !linux

package inspect

import (
	"context"
	"fmt"
	"runtime"
)

// Process exists on Linux only.
func Process(_ context.Context, pid int) (*Report, error) {
	return nil, fmt.Errorf("process %d: restartable sequences are Linux's, this is %s", pid, runtime.GOOS)
}
