package kernel

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// PossibleCPUs returns one more than the highest number that a CPU may get. It reads that
// in /sys; if that fails it derives it from sched_getaffinity(2), and may return up to 63
// too many.
//
// Callers size data by the result, so the first one is kept, and it is never too small. A
// process that can open no file at that moment still gets the number of /sys, by a child
// process.
var PossibleCPUs = sync.OnceValue(func() int {
	const path = "/sys/devices/system/cpu/possible"
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		data = readInChild(path)
	}
	if n := lastOf(string(data)) + 1; n > 0 {
		return n
	}
	return roomForCPUs()
})

// readInChild reads the beginning of a file in a child process, which can close descriptors
// of its own where this process has too many open (EMFILE). It returns nil if that fails.
func readInChild(path string) []byte {
	shared, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON)
	if err != nil {
		return nil
	}
	defer unix.Munmap(shared)
	at := func(i int) uintptr { return uintptr(unsafe.Pointer(&shared[i])) }
	const content, limit, name = 0, 2048, 3072
	copy(shared[name:], path)
	most := (*unix.Rlimit)(unsafe.Pointer(&shared[limit]))
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, most); err != nil {
		return nil
	}
	most.Cur = most.Max
	cwd := unix.AT_FDCWD
	if _, err := inChild([]Call{
		{unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, at(limit), 0},
		{unix.SYS_CLOSE, 0, 0, 0, 0},
		{unix.SYS_OPENAT, uintptr(cwd), at(name), unix.O_RDONLY, 0}, // 0 again, the lowest
		{unix.SYS_READ, 0, at(content), limit - content - 1, 0},
	}); err != nil {
		return nil
	}
	return []byte(unix.ByteSliceToString(shared[content:limit]))
}

// roomForCPUs returns the number of CPUs, a multiple of 64, that sched_getaffinity(2) wants
// room for: it answers EINVAL to a mask without room for the highest possible CPU.
func roomForCPUs() int {
	for cpus := 64; cpus <= maxCPUs; cpus += 64 {
		err := unix.SchedGetaffinityDynamic(0, unix.NewCPUSet(cpus))
		if err == nil {
			return cpus
		} else if !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	return 8192 // the most that Linux can be built for
}

// lastOf returns the last number of a list of CPUs ("0-3", "0,2-5"), or -1.
func lastOf(list string) int {
	list = strings.TrimSpace(list)
	last, err := strconv.Atoi(list[strings.LastIndexAny(list, "-,")+1:])
	if err != nil || last < 0 {
		return -1
	}
	return last
}
