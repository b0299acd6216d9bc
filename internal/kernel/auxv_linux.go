package kernel

import "golang.org/x/sys/unix"

// Entries of the auxiliary vector, Linux 6.3 (317c8194e6ae).
const (
	atRseqFeatureSize = 27
	atRseqAlign       = 28
)

// RseqFeatures returns how many bytes of fields the kernel has and what alignment it
// wants of a longer area, zero where it does not tell. (The auxiliary vector is the
// one that this process began with.)
func RseqFeatures() (size, align uint32) {
	vector, _ := unix.Auxv()
	for _, entry := range vector {
		switch entry[0] {
		case atRseqFeatureSize:
			size = uint32(entry[1])
		case atRseqAlign:
			align = uint32(entry[1])
		}
	}
	return size, align
}
