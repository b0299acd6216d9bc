package kernel

import (
	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq/internal/abi"
)

// RseqFeatures returns how many bytes of fields the kernel has and what alignment it
// wants of a longer area, zero where it does not tell. (The auxiliary vector is the
// one that this process began with.)
func RseqFeatures() (size, align uint32) {
	vector, _ := unix.Auxv()
	for _, entry := range vector {
		switch entry[0] {
		case abi.AuxRseqFeatureSize:
			size = uint32(entry[1])
		case abi.AuxRseqAlign:
			align = uint32(entry[1])
		}
	}
	return size, align
}
