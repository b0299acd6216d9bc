package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/inspect"
	"github.com/rseq-go/rseq/internal/kernel"
)

// Checks for what may cause trouble although the areas are right: filters, other tools,
// emulators.

// checkFence tries membarrier's rseq command.
func checkFence() check {
	const name = "membarrier(2) fences critical sections"
	err := kernel.Membarrier(-1)
	switch {
	case err == nil:
		return check{name, ok, "on one CPU, and on all", ""}
	case errors.Is(err, unix.EINVAL):
		return check{name, warn, fmt.Sprintf("this kernel does not have that (%v)", err),
			"nothing, or use Linux 5.10 or later (on riscv64 6.9): until then free lists and pools visit each CPU instead, which takes longer"}
	}
	return check{name, warn, fmt.Sprintf("it is refused (%v)", err),
		"allow membarrier in the seccomp profile: until then free lists and pools visit each CPU instead, which takes longer"}
}

// checkSlice checks whether a filter forbids the time slice extension.
func checkSlice(info rseq.Info) check {
	const name = "time slice extension"
	t, err := rseq.LockThread()
	if err == nil {
		defer t.Unlock()
		err = t.EnableSliceExtension()
	}
	if err != nil {
		text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "rseq: "), "not supported: ")
		return check{name, skip, strings.TrimPrefix(text, name+": "), ""}
	}
	const advice = "allow rseq_slice_yield (system call 471) in the seccomp profile, or do not use the extension"
	if filtered() {
		// The filter may kill, so a child process makes the call first.
		if err := exec.Command("/proc/self/exe", sliceQuestion).Run(); err != nil {
			return check{name, warn, fmt.Sprintf("a filter forbids rseq_slice_yield(2): %v", err), advice}
		}
	}
	if _, err := kernel.SliceYield(); err != nil {
		return check{name, warn, fmt.Sprintf("it can be enabled, but rseq_slice_yield(2) answers: %v", err), advice}
	}
	return check{name, ok, "it can be enabled", ""}
}

// filtered reports whether this thread may have a seccomp filter.
func filtered() bool {
	status, err := os.ReadFile("/proc/thread-self/status")
	return err != nil || !bytes.Contains(status, []byte("\nSeccomp:\t0\n"))
}

// checkLength looks for installed tools that cannot handle a long registration.
func checkLength(info rseq.Info) check {
	const name = "other tools can cope with the length"
	found := plural(int(info.RegisteredLen), "byte") + " are registered"
	if info.RegisteredLen == 0 {
		return check{name, skip, "the length is not known", ""}
	}
	if info.RegisteredLen <= abi.OriginalLen {
		return check{name, ok, found, ""}
	}
	found += fmt.Sprintf(", more than the original %d", abi.OriginalLen)
	for _, tool := range []struct{ name, cannot string }{
		{"rr", "rr takes a registration of 32 bytes only"},
		{"criu", "CRIU before the fix of its issues 3005 and 3007 cannot dump it"},
		{"drrun", "DynamoRIO (its issue 8101) takes 32 bytes only"},
	} {
		if _, err := exec.LookPath(tool.name); err == nil {
			return check{name, warn, found + "; " + tool.name + " is installed: " + tool.cannot,
				"where you use it, start the program with GLIBC_TUNABLES=glibc.pthread.rseq=0, or update " + tool.name}
		}
	}
	return check{name, ok, found + "; rr, DynamoRIO and older CRIU cannot, none of them is installed", ""}
}

// checkAllocator looks for a library in this process that registers areas of its own.
func checkAllocator(info rseq.Info) check {
	const name = "no other library wants the areas"
	objects, err := inspect.Claimants()
	if err != nil {
		return check{name, skip, err.Error(), ""}
	}
	if len(objects) == 0 {
		return check{name, ok, "none in this process defines __rseq_abi", ""}
	}
	found := quote(objects[0]) + " defines __rseq_abi"
	if info.Owner == rseq.OwnerForeign {
		return check{name, ok, found + " and has them", ""}
	}
	return check{name, warn, found + fmt.Sprintf(", and the owner is %v: its per-CPU caches, if it is an allocator, are off", info.Owner),
		"to leave the areas to it, start with GLIBC_TUNABLES=glibc.pthread.rseq=0; package rseq then reads that library's"}
}

// checkEmulator looks for an emulator or tracer that runs this process.
func checkEmulator(noArea error) check {
	const name = "the kernel itself runs this process"
	who := emulator()
	switch {
	case who == "":
		return check{name, ok, "no emulator or tracer was seen", ""}
	case noArea != nil:
		return check{name, warn, "it is " + who + ", which may be why there is no area", "try without it"}
	}
	return check{name, warn, "it is " + who, "judge the checks above as checks of that"}
}

func emulator() string {
	// qemu's user mode fakes /proc/self/exe, but not this name of it.
	if exe, err := os.Readlink("/proc/thread-self/exe"); err == nil && strings.HasPrefix(path.Base(exe), "qemu-") {
		return "qemu's user mode"
	}
	maps, _ := os.ReadFile("/proc/self/maps")
	for _, mark := range []struct{ text, who string }{
		{"/valgrind/", "valgrind"}, {"/libdynamorio", "DynamoRIO"}, {"/librrpreload", "rr"}, {"/librrpage", "rr"}, {"/pinbin", "Intel's Pin"},
	} {
		if bytes.Contains(maps, []byte(mark.text)) {
			return mark.who
		}
	}
	log := make([]byte, 1<<16)
	const readAll = 3 // SYSLOG_ACTION_READ_ALL
	if n, err := unix.Klogctl(readAll, log); err == nil && bytes.Contains(log[:n], []byte("Starting gVisor")) {
		return "gVisor"
	}
	return ""
}
