package kernel

import (
	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq/internal/abi"
)

// RseqFeatures returns the kernel's feature size, in bytes, and the alignment that it
// requires of an area longer than 32 bytes. Both are zero before Linux 6.3. They are in the
// auxiliary vector, which a process gets when it starts.
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
