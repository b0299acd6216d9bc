//go:build linux

package kernel

import "testing"

func TestMayKeepSections(t *testing.T) {
	for release, may := range map[string]bool{
		"5.10.0-46-arm64": false, "6.12.117+deb13-arm64": false, "6.18.44-fc-v782": false,
		"6.19.0": true, "6.19.14+deb13-arm64": true, "7.0.13+deb13-arm64": true, "7.0-rc3": true,
		"7.1.3+deb13-arm64":  true, // right, but a vendor's may not be: the kernel is watched
		"7.2.13+deb14-arm64": false, "7.12.1": false, "8.0": false, "6.2": false, "": true, "2.6.72": true, "7.2.0-rc1": true, "4.18.0": false, "something": true,
	} {
		if got := MayKeepSections(release); got != may {
			t.Errorf("%q: %v", release, got)
		}
	}
}

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
