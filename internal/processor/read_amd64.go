//go:build linux && !android && !purego

package processor

// read returns node << 12 | CPU, or all ones. The processor must have the instruction.
func read(w way) uint32

func cpuid(leaf, subleaf uint32) (eax, ecx, edx uint32)

// instructions returns the instructions that the processor has, the faster one first.
func instructions() (list []way) {
	const features, extended, extendedFeatures = 7, 1 << 31, 1<<31 | 1
	if most, _, _ := cpuid(0, 0); most >= features {
		if _, c, _ := cpuid(features, 0); c&(1<<22) != 0 {
			list = append(list, rdpid)
		}
	}
	if most, _, _ := cpuid(extended, 0); most >= extendedFeatures {
		if _, _, d := cpuid(extendedFeatures, 0); d&(1<<27) != 0 {
			list = append(list, rdtscp)
		}
	}
	return list
}
