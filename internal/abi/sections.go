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
	// Type Cells of package rseq. Type words of percpu begins with the same fields.
	CellsBase, CellsN, CellsStride = 0, 8, 16

	// The argument of an operation on the thread's own index: the number of CPUs that it has
	// words for and, except in Cells, the number of concurrency ids.
	CurrentN, CurrentNMMCID = 8, 24

	// Types Counter, FloatCounter and Histogram of percpu begin with their words, and type
	// RWMutex with a pointer to its words, or nil. The words of Histogram and RWMutex have a
	// state, which says whether sections may use them.
	LockWords  = 0
	WordsState = 40
	WordsOpen  = 1

	// A bucket of type Histogram: a count, and the sum of the values, for an even and for an
	// odd count.
	BucketCount, BucketSums = 0, 8

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
	{"CURRENT_N", CurrentN}, {"CURRENT_N_MM_CID", CurrentNMMCID},
	{"LOCK_WORDS", LockWords}, {"WORDS_STATE", WordsState}, {"WORDS_OPEN", WordsOpen},
	{"BUCKET_COUNT", BucketCount}, {"BUCKET_SUMS", BucketSums},
	{"LIST_BLOCKS", ListBlocks},
	{"BLOCK_COUNT", BlockCount}, {"BLOCK_CAP", BlockCap}, {"BLOCK_ITEMS", BlockItems},
	{"GATE_READ_cpu_id", GateReadCPUID}, {"GATE_READ_node_id", GateReadNodeID}, {"GATE_READ_mm_cid", GateReadMMCID},
	{"GATE_CS_cpu_id", GateCSCPUID}, {"GATE_CS_mm_cid", GateCSMMCID}, {"GATE_POSSIBLE", GatePossible}, {"GATE_SIZE", GateSize},
}
