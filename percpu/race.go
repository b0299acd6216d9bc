//go:build race

package percpu

import (
	"runtime"
	"unsafe"
)

// The race detector does not see what critical sections load and store. It is told by keys: a
// release of a key happens before each later acquire of the same key.

const racing = true

func release(key unsafe.Pointer) { runtime.RaceReleaseMerge(key) }
func acquire(key unsafe.Pointer) { runtime.RaceAcquire(key) }

// Between disable and enable the race detector takes nothing that the goroutine does for
// synchronization.
func disable() { runtime.RaceDisable() }
func enable()  { runtime.RaceEnable() }

// keys are bytes whose addresses are keys. Several handles may have the same one.
type keys [1024]byte

func (k *keys) of(handle uint64) unsafe.Pointer { return unsafe.Pointer(&k[handle%uint64(len(k))]) }
