package main

/*
#cgo LDFLAGS: -lunicorn
#include <stdlib.h>
#include <sys/mman.h>
#include "unicorn.h"

struct access {
	uint64_t at;
	uint32_t size, write;
};

struct emulator {
	uc_engine *uc;
	int registers, writable;      // the registers after the writable ones are only read
	int ids[40];
	uint64_t values[40][2];       // the second is for vector registers
	void *pointers[40];
	uint64_t pc;                  // of the instruction of the last step
	uint32_t size;                // its size, 0 before the first step
	int accesses;                 // its number of memory accesses
	struct access access[16];
};

static void on_access(uc_engine *uc, uc_mem_type type, uint64_t at, int size,
		      int64_t value, void *emulator)
{
	struct emulator *e = emulator;
	if (e->accesses < 16)
		e->access[e->accesses] = (struct access){
			at, (uint32_t)size, type == UC_MEM_WRITE };
	e->accesses++;
}

static void on_code(uc_engine *uc, uint64_t at, uint32_t size, void *emulator)
{
	struct emulator *e = emulator;
	if (!e->size) {
		e->pc = at;
		e->size = size;
	}
}

static uc_err emulator_new(struct emulator *e, uc_arch arch, uc_mode mode)
{
	static const uc_cb_hookmem_t access = on_access;
	static const uc_cb_hookcode_t code = on_code;
	uc_hook hook;
	uc_err err = uc_open(arch, mode, &e->uc);
	if (!err)
		err = uc_hook_add(e->uc, &hook, UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE,
				  *(void *const *)&access, e, 1, 0);
	if (!err)
		err = uc_hook_add(e->uc, &hook, UC_HOOK_CODE, *(void *const *)&code, e, 1, 0);
	for (int i = 0; i < 40; i++)
		e->pointers[i] = &e->values[i];
	return err;
}

// emulator_step executes one instruction on the registers.
static uc_err emulator_step(struct emulator *e, uint64_t pc)
{
	e->accesses = 0;
	e->size = 0;
	uc_err err = uc_reg_write_batch(e->uc, e->ids, e->pointers, e->writable);
	if (!err)
		err = uc_emu_start(e->uc, pc, 0, 0, 1);
	if (!err)
		err = uc_reg_read_batch(e->uc, e->ids, e->pointers, e->registers);
	return err;
}
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// emulator is a processor that executes one instruction at a time.
type emulator struct {
	c      *C.struct_emulator
	arch   *arch
	memory []mapping
}

// mapping is memory that the emulator shares with this program.
type mapping struct {
	at    uint64
	bytes []byte
}

func newEmulator(a *arch) (*emulator, error) {
	e := &emulator{c: (*C.struct_emulator)(C.calloc(1, C.sizeof_struct_emulator)), arch: a}
	if err := C.emulator_new(e.c, C.uc_arch(a.unicorn[0]), C.uc_mode(a.unicorn[1])); err != 0 {
		return nil, unicornError("open", err)
	}
	for i, r := range a.registers {
		e.c.ids[i] = C.int(r.id)
	}
	e.c.registers = C.int(len(a.registers))
	e.c.writable = e.c.registers - 1 // all but the last one, the program counter
	return e, nil
}

func (e *emulator) close() {
	C.uc_close(e.c.uc)
	for _, m := range e.memory {
		C.munmap(unsafe.Pointer(unsafe.SliceData(m.bytes)), C.size_t(len(m.bytes)))
	}
	C.free(unsafe.Pointer(e.c))
}

const page = 4096

// mapMemory maps memory at the address at.
func (e *emulator) mapMemory(at, size uint64) ([]byte, error) {
	size = (size + page - 1) &^ (page - 1)
	p := C.mmap(nil, C.size_t(size), C.PROT_READ|C.PROT_WRITE, C.MAP_PRIVATE|C.MAP_ANONYMOUS, -1, 0)
	if p == C.MAP_FAILED {
		return nil, fmt.Errorf("no memory for %d bytes", size)
	}
	if err := C.uc_mem_map_ptr(e.c.uc, C.uint64_t(at), C.size_t(size), C.UC_PROT_ALL, p); err != 0 {
		return nil, unicornError(fmt.Sprintf("map %#x", at), err)
	}
	b := unsafe.Slice((*byte)(p), size)
	e.memory = append(e.memory, mapping{at, b})
	return b, nil
}

// bytes returns n bytes at an address, or nil if they are not mapped.
func (e *emulator) bytes(at, n uint64) []byte {
	for _, m := range e.memory {
		if at >= m.at && at-m.at+n <= uint64(len(m.bytes)) && at-m.at+n >= n {
			return m.bytes[at-m.at:][:n]
		}
	}
	return nil
}

// setThreadPointer sets the thread pointer.
func (e *emulator) setThreadPointer(tp uint64) error {
	if f := e.arch.floats; f[0] != 0 {
		v := C.uint64_t(f[1])
		if err := C.uc_reg_write(e.c.uc, C.int(f[0]), unsafe.Pointer(&v)); err != 0 {
			return unicornError("allow floats", err)
		}
	}
	v := C.uint64_t(tp)
	if err := C.uc_reg_write(e.c.uc, C.int(e.arch.threadPointer), unsafe.Pointer(&v)); err != 0 {
		return unicornError("set the thread pointer", err)
	}
	return nil
}

// step executes the instruction at the program counter and changes regs.
func (e *emulator) step(regs *registers) error {
	n := len(e.arch.registers)
	values := e.c.values[:n]
	for i, v := range regs[:n] {
		values[i] = [2]C.uint64_t{C.uint64_t(v)}
	}
	if err := C.emulator_step(e.c, C.uint64_t(regs[n-1])); err != 0 {
		return unicornError(fmt.Sprintf("the instruction at %#x", regs[n-1]), err)
	}
	for i, v := range values {
		regs[i] = uint64(v[0])
	}
	if int(e.c.accesses) > len(e.c.access) {
		return fmt.Errorf("the instruction at %#x makes %d accesses to memory", regs[n-1], e.c.accesses)
	}
	return nil
}

// vectorIsZero reports whether the vector register that Go keeps zero is zero.
func (e *emulator) vectorIsZero() bool {
	if e.arch.zeroVector == 0 {
		return true
	}
	var v [2]uint64
	C.uc_reg_read(e.c.uc, C.int(e.arch.zeroVector), unsafe.Pointer(&v))
	return v == [2]uint64{}
}

func unicornError(what string, err C.uc_err) error {
	return fmt.Errorf("%s: %s", what, C.GoString(C.uc_strerror(err)))
}
