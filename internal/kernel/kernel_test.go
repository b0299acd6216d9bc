//go:build linux

package kernel

import (
	"runtime"
	"testing"
)

func TestGetcpu(t *testing.T) {
	cpu, node, err := Getcpu()
	if cpu < 0 || node < 0 || err != nil {
		t.Errorf("%d, %d, %v", cpu, node, err)
	}
}

// TestAskElsewhere asks about an address that nobody registered: whatever the
// thread's registration is, the answer is never that it is there, and asking
// changes nothing.
func TestAskElsewhere(t *testing.T) {
	if err := Supported(); err != nil {
		t.Skip(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for range 2 {
		if r := Ask(0x1000, 1); r.State == Registered {
			t.Errorf("%+v", r)
		}
	}
	if err := Supported(); err != nil {
		t.Error(err)
	}
}
