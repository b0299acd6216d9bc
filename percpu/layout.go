//go:build amd64 || arm64 || riscv64

package percpu

import (
	"unsafe"

	"github.com/rseq-go/rseq/internal/abi"
)

// The sections find fields at the offsets of internal/abi. If an offset differs this does not
// compile.
var _ = [...][0]int{
	[unsafe.Offsetof(words{}.base) - abi.CellsBase]int{},
	[unsafe.Offsetof(words{}.cpus) - abi.CurrentN]int{},
	[unsafe.Offsetof(words{}.stride) - abi.CellsStride]int{},
	[unsafe.Offsetof(words{}.ids) - abi.CurrentNMMCID]int{},
	[unsafe.Offsetof(gatedWords{}.words)]int{},
	[unsafe.Offsetof(gatedWords{}.state) - abi.WordsState]int{},
	[unsafe.Offsetof(Counter{}.words)]int{},
	[unsafe.Offsetof(FloatCounter{}.words)]int{},
	[unsafe.Offsetof(Histogram{}.gatedWords)]int{},
	[unsafe.Offsetof(bucket{}.count) - abi.BucketCount]int{},
	[unsafe.Offsetof(bucket{}.sums) - abi.BucketSums]int{},
	[unsafe.Offsetof(RWMutex{}.readers) - abi.LockWords]int{},
	[unsafe.Offsetof(readers{}.gatedWords)]int{},
	[unsafe.Sizeof(readers{}) % 64]int{},
	[unsafe.Offsetof(FreeList{}.blocks) - abi.ListBlocks]int{},
	[unsafe.Offsetof(FreeList{}.cpus) - abi.CurrentN]int{},
	[unsafe.Offsetof(FreeList{}.ids) - abi.CurrentNMMCID]int{},
	[unsafe.Offsetof(block{}.count) - abi.BlockCount]int{},
	[unsafe.Offsetof(block{}.cap) - abi.BlockCap]int{},
	[unsafe.Sizeof(block{}) - abi.BlockItems]int{},
}
