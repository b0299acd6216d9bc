// Package processor reads from the processor which CPU and node the caller runs on, without
// a system call. It is for threads that have no rseq area.
//
// Linux keeps node << 12 | CPU in each processor's IA32_TSC_AUX, for its vDSO, and two
// instructions of amd64 read that register in user mode: RDPID and RDTSCP. CPUID tells which
// of them a processor has. Go's runtime runs RDTSCP wherever CPUID lists it, so it cannot
// fault for the first time here. LSL, by which the vDSO reads the same number where there
// is no RDPID, is not used: nothing tells beforehand whether an emulator knows it, and
// valgrind ends the process.
//
// A hypervisor, an emulator or a sandbox may set the register to another number. So an
// instruction is compared with getcpu(2) before it is used: see ask.go. Until then, and on
// other architectures, every answer is -1.
package processor

import "sync/atomic"

// way is how the number is read. read_amd64.s uses the values.
type way uint32

const (
	none way = iota
	rdpid
	rdtscp
)

func (w way) String() string { return [...]string{"getcpu(2)", "RDPID", "RDTSCP"}[w] }

// The register has 12 bits for the CPU. All ones are the answer where there is no
// instruction, so the highest number is no CPU.
const (
	cpuBits = 12
	maxCPUs = 1<<cpuBits - 1
)

// choice is the instruction that is used, and a limit that its CPU numbers are below. The
// limit is zero while no instruction is used: it is set last and cleared first.
type choice struct{ way, limit atomic.Uint32 }

func (c *choice) use(w way, cpus int) {
	c.limit.Store(0)
	c.way.Store(uint32(w))
	if w != none {
		c.limit.Store(uint32(cpus))
	}
}

// CPU returns the number of the CPU that the caller runs on, or -1 if no instruction is
// used.
func CPU() int32 {
	if cpu := read(way(here.way.Load())) & maxCPUs; cpu < here.limit.Load() {
		return int32(cpu)
	}
	return -1
}

// FastCPU is CPU if that takes about as long as a function call, by RDPID. It returns -1
// where the instruction is RDTSCP, which takes ten times as long.
func FastCPU() int32 {
	if way(here.way.Load()) != rdpid {
		return -1
	}
	return CPU()
}

// NodeID returns the caller's NUMA node, or -1 if no instruction is used.
func NodeID() int32 {
	if v := read(way(here.way.Load())); v&maxCPUs < here.limit.Load() {
		return nodeOf(v)
	}
	return -1
}

func nodeOf(v uint32) int32 { return int32(v >> cpuBits) }
