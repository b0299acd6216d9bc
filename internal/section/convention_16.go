//go:build linux && !android && cgo && !purego && (arm64 || riscv64)

package section

import _ "unsafe" // for go:linkname

//go:linkname convention rseqgo_v1_convention
func convention(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p int) (A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P int)

// conventionHolds passes all sixteen registers, each with a number of its own.
func conventionHolds() bool {
	a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p := convention(100, 200, 300, 400, 500, 600, 700, 800,
		900, 1000, 1100, 1200, 1300, 1400, 1500, 1600)
	return [...]int{a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p} ==
		[...]int{201, 302, 403, 504, 605, 706, 807, 908, 1009, 1110, 1211, 1312, 1413, 1514, 1615, 116}
}
