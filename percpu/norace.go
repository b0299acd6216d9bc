//go:build !race

package percpu

import "unsafe"

const racing = false

func release(unsafe.Pointer) {}
func acquire(unsafe.Pointer) {}

func disable() {}
func enable()  {}

type keys struct{}

func (*keys) of(uint64) unsafe.Pointer { return nil }
