//go:build amd64 || arm64 || riscv64

package percpu

import (
	"unsafe"

	"github.com/rseq-go/rseq/internal/abi"
)

// The sections find things where internal/abi says; a difference does not compile.
var _ = [...][0]int{
	[unsafe.Offsetof(Counter{}.cells) - abi.CellsBase]int{},
	[unsafe.Offsetof(Counter{}.ids) - abi.OwnNMMCID]int{},
	[unsafe.Offsetof(RWMutex{}.readers) - abi.LockReaders]int{},
	[unsafe.Offsetof(readers{}.cells) - abi.CellsBase]int{},
	[unsafe.Offsetof(readers{}.ids) - abi.OwnNMMCID]int{},
	[unsafe.Offsetof(readers{}.state) - abi.ReadersState]int{},
	[unsafe.Sizeof(readers{}) % 64]int{},
	[unsafe.Offsetof(FreeList{}.blocks) - abi.ListBlocks]int{},
	[unsafe.Offsetof(FreeList{}.cpus) - abi.OwnN]int{},
	[unsafe.Offsetof(FreeList{}.ids) - abi.OwnNMMCID]int{},
	[unsafe.Offsetof(block{}.count) - abi.BlockCount]int{},
	[unsafe.Offsetof(block{}.cap) - abi.BlockCap]int{},
	[unsafe.Sizeof(block{}) - abi.BlockItems]int{},
}
