// Package processor has the processor say which CPU and node the caller runs on, without
// a system call. It is for threads that have no rseq area.
//
// Linux keeps node << 12 | CPU in each processor's IA32_TSC_AUX, for its vDSO, and two
// instructions of amd64 read that register anywhere: RDPID and RDTSCP. Which of them a
// processor has, CPUID says: Go's runtime runs RDTSCP wherever it is, so that one cannot
// fault for the first time here. LSL, by which the vDSO reads the same number where there
// is no RDPID, is not used: nothing says beforehand whether an emulator knows it, and
// valgrind's ends the process.
//
// What the register holds is the business of a hypervisor, an emulator or a sandbox. So
// before an instruction is used, it is held against getcpu(2): see ask.go. Everywhere
// else, and until then, every answer is -1.
package processor

import "sync/atomic"

// way is how to read the number; read_amd64.s knows the values.
type way uint32

const (
	none way = iota
	rdpid
	rdtscp
)

func (w way) String() string { return [...]string{"getcpu(2)", "RDPID", "RDTSCP"}[w] }

// The register has 12 bits for the CPU. An instruction that is not there answers all ones,
// so that CPU is not counted.
const (
	cpuBits = 12
	maxCPUs = 1<<cpuBits - 1
)

// choice is the instruction that is used, and below what its CPU numbers must be. The
// limit is zero while none is used: it is set last, and taken back first.
type choice struct{ way, limit atomic.Uint32 }

func (c *choice) use(w way, cpus int) {
	c.limit.Store(0)
	c.way.Store(uint32(w))
	if w != none {
		c.limit.Store(uint32(cpus))
	}
}

// CPU returns the number of the CPU that the caller runs on, or -1 if the processor does
// not tell.
func CPU() int32 {
	if cpu := read(way(here.way.Load())) & maxCPUs; cpu < here.limit.Load() {
		return int32(cpu)
	}
	return -1
}

// FastCPU is CPU if that takes about as long as a function call, else -1: RDTSCP takes ten
// times as long.
func FastCPU() int32 {
	if way(here.way.Load()) != rdpid {
		return -1
	}
	return CPU()
}

// NodeID returns the caller's NUMA node, or -1 if the processor does not tell.
func NodeID() int32 {
	if v := read(way(here.way.Load())); v&maxCPUs < here.limit.Load() {
		return nodeOf(v)
	}
	return -1
}

func nodeOf(v uint32) int32 { return int32(v >> cpuBits) }
