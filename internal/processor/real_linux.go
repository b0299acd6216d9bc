package processor

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq/internal/kernel"
)

// real is this machine.
var real = machine{
	instructions: instructions,
	read:         read,
	getcpu:       kernel.Getcpu,
	possible:     kernel.PossibleCPUs,
	allowed:      kernel.AllowedCPUs,
	mayAsk: func() error {
		cwd := unix.AT_FDCWD // kernel.PossibleCPUs opens a file
		return kernel.Survives(kernel.Call{Number: unix.SYS_GETCPU}, kernel.Call{Number: unix.SYS_SCHED_GETAFFINITY},
			kernel.Call{Number: unix.SYS_OPENAT, A: uintptr(cwd), C: unix.O_RDONLY})
	},
	mayBind: func() error { return kernel.Survives(kernel.Call{Number: unix.SYS_SCHED_SETAFFINITY}) },
	bind:    func(cpu int) error { return kernel.Bind(0, cpu) },
	cost:    cost,
	thread:  kernel.OnThread,
}

// cost returns how many nanoseconds a call takes: the least of some tries, since in the
// others the thread may have waited for a processor.
func cost(call func()) float64 {
	const tries, calls = 5, 50
	least := time.Duration(1<<63 - 1)
	for range tries {
		begin := time.Now()
		for range calls {
			call()
		}
		least = min(least, time.Since(begin))
	}
	return float64(least.Nanoseconds()) / calls
}
