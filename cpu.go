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

// CPU returns the number of the CPU that the calling goroutine runs on, which
// may be another one by the time that the caller looks: use it to spread work,
// not to exclude others. It may be called from any goroutine. It costs a
// function call where the thread is registered. Where it is not, that depends on what the
// processor tells: on amd64 it may be as little, else it is a system call.
// Where the C library registered nothing, the first call of the process makes a
// thread, under a seccomp filter a child process too, to find out who registers.
// The error is not nil only outside Linux and where a filter refuses getcpu(2);
// the number is then -1.
func CPU() (int, error) {
	c := section.CPUID(slowCPU)
	if c < 0 {
		return -1, errGetcpu
	}
	return int(c), nil
}

// NodeID returns the NUMA node that the calling goroutine runs on, like [CPU]
// already stale when it returns. Before Linux 6.3 it costs what CPU does without an area.
func NodeID() (int, error) {
	n := section.NodeID(slowNodeID)
	if n < 0 {
		return -1, errGetcpu
	}
	return int(n), nil
}

// ConcurrencyID returns the concurrency id of the thread that the calling goroutine
// runs on: unique among the threads of this process that run at this moment, and small:
// below the number of the process's threads, running or not, and of the CPUs that they
// may use, though the kernel takes an id back late. Like [CPU] it is stale when it
// returns. Without a registered area, and before Linux 6.3, nothing tells it: the id is
// -1 and the error matches [ErrNotSupported].
func ConcurrencyID() (int, error) {
	c := section.MMCID(slowConcurrencyID)
	if c < 0 {
		return -1, errConcurrencyID
	}
	return int(c), nil
}

// PossibleCPUs returns how many cells per-CPU data needs, one more than the
// highest number that [CPU] and [ConcurrencyID] can return: what
// /sys/devices/system/cpu/possible says, and where that cannot be read what
// sched_getaffinity(2) wants room for, up to 63 more. It is never too small, and does
// not change while a process runs, unlike [runtime.NumCPU], which counts the CPUs that
// it may use. Where the process has too many files open at the first call, a child
// process reads the file.
func PossibleCPUs() int { return kernel.PossibleCPUs() }

// What the readers do where the thread has no area, or the area no such field:
// give the thread an area if it never asked for one, and if it can have none let the
// processor tell, or getcpu(2).

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

// slow returns the field at offset, negative if this thread has none even after
// it asked for an area. A thread asks once; refused, it asks again only in
// LockThread, CriticalSections and Query.
func slow(gate *section.Gate, offset int, f Features) int32 {
	adopt(gate)
	s := current.Load()
	switch {
	case s.areas == areasRefused, s.areas == areasUnavailable, section.Convention() != nil:
		return section.Uninitialized
	case !s.mayRegister() && gate == &section.Own: // the reader looked there
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

// The errors of the readers are values, not made on the way, so that the
// readers are small enough to be inlined; their texts are made when asked for.
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
