//go:build race

package percpu

import (
	"runtime"
	"unsafe"
)

// The race detector does not see what critical sections load and store. What a
// release of a key happens before is an acquire of that key.

const racing = true

func release(key unsafe.Pointer) { runtime.RaceReleaseMerge(key) }
func acquire(key unsafe.Pointer) { runtime.RaceAcquire(key) }

// Between disable and enable nothing that the goroutine does orders anything.
func disable() { runtime.RaceDisable() }
func enable()  { runtime.RaceEnable() }

// keys has a byte for each handle, or some handles.
type keys [1024]byte

func (k *keys) of(handle uint64) unsafe.Pointer { return unsafe.Pointer(&k[handle%uint64(len(k))]) }
