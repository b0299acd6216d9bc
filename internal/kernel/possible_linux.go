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

// PossibleCPUs returns one more than the highest number that a CPU may get: what /sys
// says, or else what sched_getaffinity(2) tells, up to 63 too many.
//
// Callers size data by it and it must not change, so the first answer stays. It is
// never too small, and it is what /sys says even where this process may open no file
// just then. Only where /sys cannot be read in any way is it the greater one.
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

// readInChild reads the beginning of a file in a child process, whose descriptors are
// its own: where this one has too many open (EMFILE), or its limit is below that. It
// returns nothing if that fails.
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

// roomForCPUs returns for how many CPUs sched_getaffinity(2) wants room, in words of
// 64: it answers EINVAL to less than the highest number that a CPU may get.
func roomForCPUs() int {
	for cpus := 64; cpus <= maxCPUs; cpus += 64 {
		err := unix.SchedGetaffinityDynamic(0, unix.NewCPUSet(cpus))
		if err == nil {
			return cpus
		} else if !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	return 8192 // as many as Linux can be built for
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
