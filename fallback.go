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
	k := known.Load()
	switch {
	case k.info.Owner == OwnerNone && (k.final || k.refused), section.Convention() != nil:
		return section.Uninitialized
	case !k.mayRegister() && gate == &section.Own: // the reader looked there
		return section.Uninitialized
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cpu := atomic.LoadInt32(field(abi.OffsetCPUID))
	if cpu == section.Uninitialized && k.mayRegister() {
		cpu = register(false)
	}
	if cpu < 0 || !known.Load().info.Features.Has(f) {
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
	k := known.Load()
	switch err := section.Convention(); {
	case k.err != nil:
		return k.err
	case err != nil:
		return notSupportedError("the concurrency id: %v", err)
	case !k.info.Features.Has(FeatureMMCID):
		return notSupportedError("the concurrency id needs Linux 6.3: this area has %d bytes of fields", k.info.Size)
	}
	return notSupportedError("the concurrency id: the calling thread is not registered")
}

func (e concurrencyIDError) Error() string { return e.Unwrap().Error() }
