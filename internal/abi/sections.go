package abi

// What the critical sections of cs_<arch>.s share with Go. gen writes Shared to
// cs_<arch>.h, which the assembly includes. The declarations of the Go types compare
// themselves with these constants at compile time.

// Values of type Status of package rseq.
const (
	Done = iota
	CompareFailed
	Raced
	OutOfRange
	NotRegistered
)

// Tries is how often an operation on the thread's own index tries before it answers Raced.
// A thread that a debugger steps is aborted at every step and would try for ever.
const Tries = 128

// Results of spin, the section of the live check: enum rseqgo_spin of internal.h.
const (
	SpinAborted   = iota // the kernel aborted it
	SpinSawFlag          // it ran on and saw the flag
	SpinExhausted        // neither happened
)

// Offsets in bytes on 64-bit machines.
const (
	// Type Cells of package rseq. Type Counter of percpu begins with the same fields.
	CellsBase, CellsN, CellsStride = 0, 8, 16

	// The argument of an operation on the thread's own index: the number of CPUs that it has
	// words for and, except in Cells, the number of concurrency ids.
	OwnN, OwnNMMCID = 8, 24

	// Type RWMutex of percpu, and its readers, which begin with the fields of Cells. Sections
	// count while the state of the readers is ReadersOpen.
	LockReaders  = 0
	ReadersState = 32
	ReadersOpen  = 1

	// Type FreeList of percpu, and its blocks.
	ListBlocks                       = 0
	BlockCount, BlockCap, BlockItems = 0, 8, 16

	// Type Gate of internal/section.
	GateReadCPUID, GateReadNodeID, GateReadMMCID = 0, 8, 16
	GateCSCPUID, GateCSMMCID, GatePossible       = 24, 32, 40
	GateSize                                     = 48
)

// Shared has the names of these constants in cs_<arch>.s.
var Shared = []struct {
	Name  string
	Value int64
}{
	{"DONE", Done}, {"COMPARE_FAILED", CompareFailed}, {"RACED", Raced},
	{"OUT_OF_RANGE", OutOfRange}, {"NOT_REGISTERED", NotRegistered},
	{"TRIES", Tries}, {"SPIN_ABORTED", SpinAborted}, {"SPIN_SAW_FLAG", SpinSawFlag}, {"SPIN_EXHAUSTED", SpinExhausted},
	{"CELLS_BASE", CellsBase}, {"CELLS_STRIDE", CellsStride},
	{"OWN_N", OwnN}, {"OWN_N_MM_CID", OwnNMMCID},
	{"LOCK_READERS", LockReaders}, {"READERS_STATE", ReadersState}, {"READERS_OPEN", ReadersOpen},
	{"LIST_BLOCKS", ListBlocks},
	{"BLOCK_COUNT", BlockCount}, {"BLOCK_CAP", BlockCap}, {"BLOCK_ITEMS", BlockItems},
	{"GATE_READ_cpu_id", GateReadCPUID}, {"GATE_READ_node_id", GateReadNodeID}, {"GATE_READ_mm_cid", GateReadMMCID},
	{"GATE_CS_cpu_id", GateCSCPUID}, {"GATE_CS_mm_cid", GateCSMMCID}, {"GATE_POSSIBLE", GatePossible}, {"GATE_SIZE", GateSize},
}
