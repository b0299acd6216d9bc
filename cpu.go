package rseq

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/processor"
	"github.com/rseq-go/rseq/internal/section"
)

// CPU returns the number of the CPU that the calling goroutine runs on. The goroutine may
// be on another CPU by the time that the caller looks, so use the number to spread work,
// not for mutual exclusion. It may be called from any goroutine.
//
// It costs a function call if the thread is registered. If not, an instruction of the
// processor may tell the number (amd64), else it costs a system call. Where the C library
// registered nothing, the first call of the process makes a thread, and under a seccomp
// filter a child process, to find out who registers threads.
//
// The error is not nil, and the number -1, only outside Linux and where a filter refuses
// getcpu(2).
func CPU() (int, error) {
	c := section.CPUID(slowCPU)
	if c < 0 {
		return -1, errGetcpu
	}
	return int(c), nil
}

// NodeID returns the NUMA node that the calling goroutine runs on. Like the result of
// [CPU] it may be out of date when it is returned. Before Linux 6.3 it costs what CPU
// costs on an unregistered thread.
func NodeID() (int, error) {
	n := section.NodeID(slowNodeID)
	if n < 0 {
		return -1, errGetcpu
	}
	return int(n), nil
}

// ConcurrencyID returns the concurrency id of the thread that the calling goroutine runs
// on. It is unique among the threads of this process that run at this moment. It is small:
// below the number of the process's threads and the number of CPUs that they may use,
// though the kernel may lower it late. Like the result of [CPU] it may be out of date when
// it is returned. Without a registered area, and before Linux 6.3, the id is -1 and the
// error matches [ErrNotSupported].
func ConcurrencyID() (int, error) {
	c := section.MMCID(slowConcurrencyID)
	if c < 0 {
		return -1, errConcurrencyID
	}
	return int(c), nil
}

// PossibleCPUs returns how many indexes per-CPU data needs: one more than the highest
// number that [CPU] and [ConcurrencyID] can return. It is read from
// /sys/devices/system/cpu/possible; if that cannot be read, it is the size that
// sched_getaffinity(2) asks for, which may be up to 63 more. It is never too small and
// does not change while a process runs. ([runtime.NumCPU] counts the CPUs that the process
// may use.) If the process has too many files open at the first call, a child process
// reads the file.
func PossibleCPUs() int { return kernel.PossibleCPUs() }

// The slow paths of the readers, for a thread without an area or an area without the
// field. They register the thread if it never asked for an area. If that fails, the CPU
// or node comes from the processor, or from getcpu(2). Nothing else tells the concurrency
// id.

func slowCPU(gate *section.Gate) int32 {
	if cpu := slow(gate, abi.OffsetCPUID, FeatureCPUID); cpu >= 0 {
		return cpu
	}
	if cpu := processor.CPU(); cpu >= 0 {
		return cpu
	}
	processor.Ask()
	cpu, _, _ := kernel.Getcpu()
	return int32(cpu)
}

func slowNodeID(gate *section.Gate) int32 {
	if node := slow(gate, abi.OffsetNodeID, FeatureNodeID); node >= 0 {
		return node
	}
	if node := processor.NodeID(); node >= 0 {
		return node
	}
	processor.Ask()
	_, node, _ := kernel.Getcpu()
	return int32(node)
}

func slowConcurrencyID(gate *section.Gate) int32 {
	return slow(gate, abi.OffsetMMCID, FeatureMMCID)
}

func slowIndex(x uint8, gate *section.Gate) int32 {
	if Index(x) == ByCPU {
		return slowCPU(gate)
	}
	return slowConcurrencyID(gate)
}

// slow returns the field at offset, or a negative number if this thread has no such field
// even after it asked for an area. In phase areasFailed only LockThread, CriticalSections
// and Query ask again.
func slow(gate *section.Gate, offset int, f Features) int32 {
	adopt(gate)
	s := current.Load()
	switch {
	case s.areas == areasFailed, s.areas == areasUnavailable, section.Convention() != nil:
		return section.Uninitialized
	case !s.mayRegister() && gate == &section.Here: // the reader has looked at the area
		return section.Uninitialized
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cpu := atomic.LoadInt32(field(abi.OffsetCPUID))
	if cpu == section.Uninitialized && s.mayRegister() {
		cpu = register(false)
	}
	if cpu < 0 || !current.Load().info.Features.Has(f) {
		return section.Uninitialized
	}
	return atomic.LoadInt32(field(offset))
}

// The errors of the readers are package-level values, so that the readers are small
// enough to be inlined. Error and Unwrap make their texts.
var (
	errGetcpu        error = getcpuError{}
	errConcurrencyID error = concurrencyIDError{}

	errIndex = [...]error{ByCPU: errGetcpu, ByConcurrencyID: errConcurrencyID}
)

type getcpuError struct{}

func (getcpuError) Unwrap() error {
	_, _, err := kernel.Getcpu()
	if errors.Is(err, errors.ErrUnsupported) {
		return notSupportedError("only Linux tells the CPU and the node (getcpu(2))")
	}
	return fmt.Errorf("rseq: getcpu(2) was refused, by a seccomp filter? %w", err)
}

func (e getcpuError) Error() string { return e.Unwrap().Error() }

type concurrencyIDError struct{}

func (concurrencyIDError) Unwrap() error {
	s := current.Load()
	switch err := section.Convention(); {
	case s.err != nil:
		return s.err
	case err != nil:
		return notSupportedError("the concurrency id: %v", err)
	case !s.info.Features.Has(FeatureMMCID):
		return notSupportedError("the concurrency id needs Linux 6.3: this area has %d bytes of fields", s.info.Size)
	}
	return notSupportedError("the concurrency id: the calling thread is not registered")
}

func (e concurrencyIDError) Error() string { return e.Unwrap().Error() }
