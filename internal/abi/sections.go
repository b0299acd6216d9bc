package abi

// What the critical sections of cs_<arch>.s share with Go. The assembler gets it by
// cs_<arch>.h, which gen makes from Shared; Go's types are compared with it where they
// are declared, by the compiler.

// Values of type Status of package rseq.
const (
	Done = iota
	CompareFailed
	Raced
	OutOfRange
	NotRegistered
)

// Offsets in bytes on 64-bit machines.
const (
	// Type Cells of package rseq, as which type words of percpu begins.
	CellsBase, CellsN, CellsStride = 0, 8, 16

	// What an operation on the thread's own index is given: how many CPU numbers it has
	// something for, and, but for Cells, how many concurrency ids instead.
	OwnN, OwnNMMCID = 8, 24

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

// Shared has the names of all of these in cs_<arch>.s.
var Shared = []struct {
	Name  string
	Value int64
}{
	{"DONE", Done}, {"COMPARE_FAILED", CompareFailed}, {"RACED", Raced},
	{"OUT_OF_RANGE", OutOfRange}, {"NOT_REGISTERED", NotRegistered},
	{"CELLS_BASE", CellsBase}, {"CELLS_STRIDE", CellsStride},
	{"OWN_N", OwnN}, {"OWN_N_MM_CID", OwnNMMCID},
	{"LOCK_WORDS", LockWords}, {"WORDS_STATE", WordsState}, {"WORDS_OPEN", WordsOpen},
	{"BUCKET_COUNT", BucketCount}, {"BUCKET_SUMS", BucketSums},
	{"LIST_BLOCKS", ListBlocks},
	{"BLOCK_COUNT", BlockCount}, {"BLOCK_CAP", BlockCap}, {"BLOCK_ITEMS", BlockItems},
	{"GATE_READ_cpu_id", GateReadCPUID}, {"GATE_READ_node_id", GateReadNodeID}, {"GATE_READ_mm_cid", GateReadMMCID},
	{"GATE_CS_cpu_id", GateCSCPUID}, {"GATE_CS_mm_cid", GateCSMMCID}, {"GATE_POSSIBLE", GatePossible}, {"GATE_SIZE", GateSize},
}
