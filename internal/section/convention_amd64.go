//go:build linux && !android && cgo && !purego

package section

import _ "unsafe" // for go:linkname

//go:linkname convention rseqgo_v1_convention
func convention(a, b, c, d, e, f, g, h, i int) (A, B, C, D, E, F, G, H, I int)

// conventionHolds passes all nine registers, each with a number of its own.
func conventionHolds() bool {
	a, b, c, d, e, f, g, h, i := convention(10, 20, 30, 40, 50, 60, 70, 80, 90)
	return [...]int{a, b, c, d, e, f, g, h, i} == [...]int{21, 32, 43, 54, 65, 76, 87, 98, 19}
}
