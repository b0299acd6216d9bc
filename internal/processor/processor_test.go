package processor

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rseq-go/rseq/internal/kernel"
)

// fake is a machine whose threads run where the test says.
type fake struct {
	machine
	mu    sync.Mutex
	cpu   int
	reads int
	// register is what an instruction reads on a CPU.
	register func(w way, cpu int) uint32
}

// newFake returns a machine with four CPUs on two nodes and both instructions, which are
// right.
func newFake() *fake {
	f := &fake{}
	f.register = func(_ way, cpu int) uint32 { return uint32(cpu/2<<cpuBits | cpu) }
	f.machine = machine{
		instructions: func() []way { return []way{rdpid, rdtscp} },
		read: func(w way) uint32 {
			f.reads++
			return f.register(w, f.cpu)
		},
		getcpu:   func() (cpu, node int, err error) { return f.cpu, f.cpu / 2, nil },
		possible: func() int { return 4 },
		allowed:  func() ([]int, error) { return []int{0, 1, 2, 3}, nil },
		mayAsk:   func() error { return nil },
		mayBind:  func() error { return nil },
		bind: func(cpu int) error {
			f.cpu = cpu
			return nil
		},
		cost: func(call func()) float64 {
			before := f.reads
			if call(); f.reads > before {
				return 2
			}
			return 100
		},
		thread: func(f func() error) error { return f() },
	}
	return f
}

// TestAsk: an instruction is used if it agrees with getcpu(2), and only then. The report
// says why.
func TestAsk(t *testing.T) {
	refused := errors.New("refused")
	for name, c := range map[string]struct {
		change func(f *fake)
		used   way
		cpus   []int
		reason string // a part of it
		final  bool   // the comparison is not repeated
	}{
		"agrees": {func(f *fake) {}, rdpid, []int{0, 1, 2, 3}, "", true},
		"no RDPID": {func(f *fake) { f.instructions = func() []way { return []way{rdtscp} } },
			rdtscp, []int{0, 1, 2, 3}, "", true},
		"neither": {func(f *fake) { f.instructions = func() []way { return nil } },
			none, nil, "neither RDPID nor RDTSCP", true},
		"a register that was never set": {func(f *fake) { f.register = func(way, int) uint32 { return 0 } },
			none, nil, "RDPID says CPU 0 of node 0 where getcpu(2) says CPU", false},
		"another node": {func(f *fake) { f.register = func(_ way, cpu int) uint32 { return uint32(cpu) } },
			none, nil, "says CPU 3 of node 0 where getcpu(2) says CPU 3 of node 1", false},
		"a hypervisor's own number, once": {func(f *fake) {
			right := f.register
			f.register = func(w way, cpu int) uint32 {
				if w == rdpid && cpu == 3 {
					return 7
				}
				return right(w, cpu)
			}
		}, rdtscp, []int{0, 1, 2, 3}, "RDPID says CPU 7 of node 0 where getcpu(2) says CPU 3 of node 1", true},
		"one CPU": {func(f *fake) { f.allowed = func() ([]int, error) { return []int{2}, nil } },
			rdpid, []int{2}, "", true},
		"only CPU 0, of four": {func(f *fake) { f.allowed = func() ([]int, error) { return []int{0}, nil } },
			none, nil, "CPU 0 only", false},
		"only CPU 0 there is": {func(f *fake) {
			f.allowed = func() ([]int, error) { return []int{0}, nil }
			f.possible = func() int { return 1 }
		}, rdpid, []int{0}, "", true},
		"many CPUs": {func(f *fake) { f.possible = func() int { return 4096 } },
			none, nil, "there can be 4096 CPUs: the processor's number has room for 4095", true},
		"some of the CPUs": {func(f *fake) {
			f.possible = func() int { return 100 }
			f.allowed = func() ([]int, error) { return []int{1, 2, 3, 4, 5, 6, 7, 80}, nil }
		}, rdpid, []int{1, 3, 5, 80}, "", true},
		"CPUs that went off": {func(f *fake) {
			bind := f.bind
			f.bind = func(cpu int) error {
				if cpu > 1 {
					return refused
				}
				return bind(cpu)
			}
		}, rdpid, []int{0, 1}, "", true},
		"not bound, on one CPU": {func(f *fake) { f.mayBind = func() error { return kernel.ErrKills } },
			none, nil, "agreed with getcpu(2) on CPUs [0]: expected 2 of them", false},
		"not bound, on some": {func(f *fake) {
			f.mayBind = func() error { return kernel.ErrKills }
			f.bind = func(int) error { panic("killed") }
			read := f.read
			f.read = func(w way) uint32 {
				got := read(w)
				if f.reads%5 == 0 {
					f.cpu = (f.cpu + 1) % 4
				}
				return got
			}
		}, rdpid, nil, "", true},
		"a thread that moves": {func(f *fake) {
			getcpu, calls := f.getcpu, 0
			f.getcpu = func() (int, int, error) {
				if calls++; calls%10 < 7 {
					f.cpu = calls % 4
				}
				return getcpu()
			}
		}, rdpid, nil, "", true},
		"getcpu refused": {func(f *fake) { f.getcpu = func() (int, int, error) { return -1, -1, refused } },
			none, nil, "getcpu(2): refused", false},
		"a filter kills": {func(f *fake) {
			f.mayAsk = func() error { return kernel.ErrKills }
			f.getcpu = func() (int, int, error) { panic("killed") }
		}, none, nil, "a seccomp filter kills", true},
		"a filter may kill": {func(f *fake) {
			f.mayAsk = func() error { return refused }
			f.getcpu = func() (int, int, error) { panic("killed") }
		}, none, nil, "refused", false},
		"trapped": {func(f *fake) { f.cost = func(call func()) float64 { call(); return 2000 } },
			none, nil, "RDPID takes 2000 ns: expected less than half of getcpu(2)'s 2000", false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			c.change(f)
			a := &asker{m: &f.machine}
			r := a.again()
			if got := way(a.way.Load()); got != c.used || (a.limit.Load() != 0) != (c.used != none) || r.Way != c.used.String() {
				t.Errorf("%v is used, below %d: %+v; want %v", got, a.limit.Load(), r, c.used)
			}
			if c.cpus != nil && !slices.Equal(r.CPUs, c.cpus) {
				t.Errorf("compared on CPUs %v, want %v", r.CPUs, c.cpus)
			}
			if (r.Reason == "") != (c.reason == "") || !strings.Contains(r.String(), c.reason) {
				t.Errorf("%v: want %q", r, c.reason)
			}
			if (a.wait == 0) != c.final {
				t.Errorf("asked again after %v; final: %v", a.wait, c.final)
			}
		})
	}
}

// TestAskedAgain: a comparison without a result is repeated, after longer and longer waits.
// After a result it is not repeated.
func TestAskedAgain(t *testing.T) {
	f := newFake()
	broken := true
	f.getcpu = func() (int, int, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if broken {
			return -1, -1, errors.New("refused")
		}
		return f.cpu, f.cpu / 2, nil
	}
	a := &asker{m: &f.machine}
	a.again()
	first := a.wait
	for range 20 {
		a.again()
	}
	if first != minWait || a.wait != maxWait || a.limit.Load() != 0 {
		t.Errorf("waits from %v to %v: expected %v to %v", first, a.wait, minWait, maxWait)
	}
	// A slow path starts it.
	a.wait = 0
	a.again()
	f.mu.Lock()
	broken = false
	f.mu.Unlock()
	for a.limit.Load() == 0 {
		if !a.quiet.Load() {
			a.start()
		}
		time.Sleep(time.Millisecond)
	}
	if r := a.again(); r.Way != "RDPID" || a.wait != 0 {
		t.Errorf("%v, asked again after %v", r, a.wait)
	}
	// The process is restored on another machine.
	f.instructions = func() []way { return []way{rdtscp} }
	if r := a.again(); r.Way != "RDTSCP" {
		t.Error(r)
	}
	f.register = func(way, int) uint32 { return 1 }
	if r := a.again(); r.Way != "getcpu(2)" || a.limit.Load() != 0 {
		t.Error(r)
	}
}

// TestSome: some returns the first and the last CPU among others.
func TestSome(t *testing.T) {
	for n := range 20 {
		var cpus []int
		for i := range n {
			cpus = append(cpus, 10*i)
		}
		got := some(cpus)
		if len(got) != min(n, 4) || n > 0 && (got[0] != 0 || got[len(got)-1] != 10*(n-1)) || !slices.IsSorted(got) ||
			len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%d: %v", n, got)
		}
	}
}

// TestUnset: before the first comparison, and without an instruction, CPU and node are -1.
func TestUnset(t *testing.T) {
	if v := read(none); v != 1<<32-1 {
		t.Errorf("%#x", v)
	}
	var c choice
	if v := read(way(c.way.Load())) & maxCPUs; v < c.limit.Load() {
		t.Error(v)
	}
	if node := nodeOf(3<<12 | 5); node != 3 {
		t.Errorf("node %d", node)
	}
	if s := fmt.Sprint(none, rdpid, rdtscp); s != "getcpu(2) RDPID RDTSCP" {
		t.Error(s)
	}
}
