//go:build linux

package kernel

import "testing"

func TestLastOf(t *testing.T) {
	for list, last := range map[string]int{"0\n": 0, "0-1\n": 1, "0,2-5": 5, "0-3,8": 8, "": -1, "x": -1, "0-": -1} {
		if got := lastOf(list); got != last {
			t.Errorf("%q: %d, want %d", list, got, last)
		}
	}
	if n := PossibleCPUs(); n < 1 {
		t.Error(n)
	}
}
