/* SPDX-License-Identifier: MIT
 *
 * Critical sections for C code in the same program as the Go package
 * github.com/rseq-go/rseq: the operations of its types Index and Cells, with the same
 * arguments and statuses, on the same words. So Go and C may count on one word, or
 * share a list. The names are librseq's, without the type that ends them there
 * (__ptr): a word is an int64_t here.
 *
 *	#include "rseqgo.h"
 *
 *	enum rseqgo_status status = rseqgo_cells_add(RSEQGO_BY_CPU, cells, 1);
 *
 *	if (status == RSEQGO_NOT_REGISTERED && rseqgo_register_thread() >= 0)
 *		status = rseqgo_cells_add(RSEQGO_BY_CPU, cells, 1); // this thread's first
 *	if (status != RSEQGO_DONE)
 *		atomic_fetch_add(&other, 1); // never to a word of cells
 *
 * The Go part of the program, or of the plugin that the C code is in, must have called
 * rseq.CriticalSections, which finds out whether sections are safe here. Until then every
 * operation answers RSEQGO_NOT_REGISTERED. The documentation of Index has the rules and
 * the memory order. Compile with GCC or Clang, as C99 or later or as C++11 or later.
 */
#ifndef RSEQGO_H
#define RSEQGO_H

#include "glibc.h"

#if !defined(__LP64__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "rseqgo.h: 64-bit, little-endian programs only"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What became of an operation: type Status of package rseq. */
enum rseqgo_status {
	RSEQGO_DONE,           /* the operation took effect */
	RSEQGO_COMPARE_FAILED, /* a word was not what was expected (cbne), or was
				  (cbeq) */
	RSEQGO_RACED,          /* the thread was preempted, migrated or sent a
				  signal, or has another index: read the index
				  again and retry */
	RSEQGO_OUT_OF_RANGE,   /* i cannot be an index here */
	RSEQGO_NOT_REGISTERED, /* no area, no such index, or sections are refused:
				  rseqgo_register_thread may help, once */
};

/* Which number names a thread's share of the data: type Index of package rseq. */
enum rseqgo_index {
	RSEQGO_BY_CPU,
	RSEQGO_BY_CONCURRENCY_ID, /* Linux 6.3 */
};

/* How often rseqgo_cells_add tries before it answers RSEQGO_RACED. */
enum { RSEQGO_TRIES = 128 };

/* Words, one for each index, to which threads add: type Cells of package rseq. */
struct rseqgo_cells {
	int64_t *base;    /* the word of index 0 */
	int64_t n;        /* number of words */
	uintptr_t stride; /* bytes from one to the next; 128 keeps CPUs out of each
			     other's way */
};

/* Where sections may run: type Gate of internal/section. Zero: nowhere. Only package
 * rseq writes it. */
struct rseqgo_gate {
	uintptr_t read_cpu_id, read_node_id, read_mm_cid;
	uintptr_t cs_cpu_id, cs_mm_cid; /* bytes from the thread pointer to the area */
	uint64_t possible;              /* how many indexes there can be */
};
extern struct rseqgo_gate rseqgo_v1_gate RSEQGO_HIDDEN;

/* For tests: a delay at a point of each section, and the registers that it needs. */
#ifndef RSEQGO_INJECT_ASM
#define RSEQGO_INJECT_ASM(point)
#define RSEQGO_INJECT_CLOBBER
#endif

/* struct rseqgo_here is the calling thread's area and the field of it that is compared
 * with the index. */
struct rseqgo_here {
	char *area, *field;
};

/* rseqgo_enter finds them. It answers DONE if the section may start. */
static inline enum rseqgo_status
rseqgo_enter(enum rseqgo_index by, int64_t i, struct rseqgo_here *here)
{
	/* Acquire: possible was stored first. */
	uintptr_t offset = __atomic_load_n(by == RSEQGO_BY_CPU ?
						   &rseqgo_v1_gate.cs_cpu_id :
						   &rseqgo_v1_gate.cs_mm_cid,
					   __ATOMIC_ACQUIRE);

	if (!offset)
		return RSEQGO_NOT_REGISTERED;
	if ((uint64_t)i >= __atomic_load_n(&rseqgo_v1_gate.possible, __ATOMIC_RELAXED))
		return RSEQGO_OUT_OF_RANGE;
	here->area = rseqgo_thread_pointer() + offset;
	here->field = here->area + (by == RSEQGO_BY_CPU ? RSEQGO_OFFSETOF_CPU_ID :
							  RSEQGO_OFFSETOF_MM_CID);
	return RSEQGO_DONE;
}

/* rseqgo_load returns a field that the kernel may change at any moment. */
static inline int32_t rseqgo_load(const char *field)
{
	return *(const volatile int32_t *)field;
}

/* rseqgo_elsewhere says why a section left whose thread does not have the index. */
static inline enum rseqgo_status rseqgo_elsewhere(const struct rseqgo_here *here)
{
	return rseqgo_load(here->area + RSEQGO_OFFSETOF_CPU_ID) < 0 ?
		       RSEQGO_NOT_REGISTERED :
		       RSEQGO_RACED;
}

/* rseqgo_current returns the calling thread's index, or a negative number if it is not
 * registered or sections by that index cannot run. It is stale when it returns. */
static inline int rseqgo_current(enum rseqgo_index by)
{
	struct rseqgo_here here;

	if (rseqgo_enter(by, 0, &here) ||
	    rseqgo_load(here.area + RSEQGO_OFFSETOF_CPU_ID) < 0)
		return -1;
	return rseqgo_load(here.field);
}

/* The sections. Each is one asm statement:
 *
 *	rseq_cs = 3	the descriptor, in the section __rseq_cs
 * 1:	start		the thread is registered and its index is i, or it leaves
 *	...
 * 2:	commit		right behind the one store that does it
 *	signature
 * 4:	abort		the kernel continues here if the thread was preempted,
 *			migrated or sent a signal between start and commit
 *
 * An abort finds the operands as they were: no section changes one, since an asm
 * statement with labels may not. The memory clobber keeps the compiler's loads and
 * stores on their side of the statement. The question mark puts a function's
 * descriptors into its group of sections (COMDAT), with which the linker may discard
 * them. */
#define RSEQGO_ASM_TABLE                                                            \
	".pushsection __rseq_cs, \"aw?\"\n\t"                                       \
	".balign 32\n"                                                              \
	"3:\t.long 0, 0\n\t"                                                        \
	".quad 1f, 2f - 1f, 4f\n\t"                                                 \
	".popsection\n\t"                                                           \
	".pushsection __rseq_cs_ptr_array, \"aw?\"\n\t"                             \
	".balign 8\n\t"                                                             \
	".quad 3b\n\t"                                                              \
	".popsection\n\t"
#define RSEQGO_ASM_EXIT(label)                                                      \
	".pushsection __rseq_exit_point_array, \"aw?\"\n\t"                         \
	".balign 8\n\t"                                                             \
	".quad 1f, %l[" #label "]\n\t"                                              \
	".popsection\n\t"

#if defined(__x86_64__)

#if RSEQGO_SIG != 0x53053053
#error "rseqgo.h: the signature is another one"
#endif

#define RSEQGO_ASM_BEGIN                                                            \
	RSEQGO_ASM_TABLE                                                            \
	RSEQGO_ASM_EXIT(elsewhere)                                                  \
	"leaq 3b(%%rip), %%rax\n\t"                                                 \
	RSEQGO_INJECT_ASM(1)                                                        \
	"movq %%rax, 8(%[area])\n"                                                  \
	"1:\t" RSEQGO_INJECT_ASM(2)                                                 \
	"cmpl $0, 4(%[area])\n\t"                                                   \
	"js %l[elsewhere]\n\t"                                                      \
	"cmpl %[i], (%[field])\n\t"                                                 \
	"jne %l[elsewhere]\n\t"                                                     \
	RSEQGO_INJECT_ASM(3)
#define RSEQGO_ASM_CBNE(v, expect)                                                  \
	"cmpq %[" #expect "], %[" #v "]\n\t"                                        \
	"jne %l[ne]\n\t"
#define RSEQGO_ASM_STORE(value, v) "movq %[" #value "], %[" #v "]\n\t"
#define RSEQGO_ASM_STORE_RELEASE(value, v) RSEQGO_ASM_STORE(value, v)
#define RSEQGO_ASM_ADD RSEQGO_INJECT_ASM(4) "addq %[count], %[v]\n\t"
#define RSEQGO_ASM_CBEQ_STORE_ADD_LOAD_STORE                                        \
	"movq %[v], %%rdx\n\t"                                                      \
	"cmpq %[expectnot], %%rdx\n\t"                                              \
	"je %l[eq]\n\t"                                                             \
	RSEQGO_INJECT_ASM(4)                                                        \
	"movq %%rdx, %[load]\n\t"                                                   \
	"movq (%%rdx,%[voffp]), %%rdx\n\t"                                          \
	RSEQGO_INJECT_ASM(5)                                                        \
	"movq %%rdx, %[v]\n\t"
#define RSEQGO_ASM_ADD_LOAD_LOAD_ADD_STORE                                          \
	"movq %[v], %%rdx\n\t"                                                      \
	RSEQGO_INJECT_ASM(4)                                                        \
	"movq (%%rdx,%[off]), %%rdx\n\t"                                            \
	RSEQGO_INJECT_ASM(5)                                                        \
	"addq %[count], (%%rdx)\n\t"
#define RSEQGO_ASM_MEMCPY                                                           \
	"xorl %%ecx, %%ecx\n"                                                       \
	"5:\tleaq 8(%%rcx), %%rax\n\t"                                              \
	"cmpq %[len], %%rax\n\t"                                                    \
	"ja 6f\n\t"                                                                 \
	"movq (%[src],%%rcx), %%rdx\n\t"                                            \
	"movq %%rdx, (%[dst],%%rcx)\n\t"                                            \
	"movq %%rax, %%rcx\n\t"                                                     \
	"jmp 5b\n"                                                                  \
	"6:\tcmpq %[len], %%rcx\n\t"                                                \
	"jae 7f\n\t"                                                                \
	"movb (%[src],%%rcx), %%dl\n\t"                                             \
	"movb %%dl, (%[dst],%%rcx)\n\t"                                             \
	"incq %%rcx\n\t"                                                            \
	"jmp 6b\n"                                                                  \
	"7:\t"
/* In a section of its own, out of the way; ud1 has the signature as its operand. */
#define RSEQGO_ASM_END                                                              \
	"\n2:\t" RSEQGO_INJECT_ASM(6)                                               \
	".pushsection __rseq_failure, \"ax?\"\n\t"                                  \
	".byte 0x0f, 0xb9, 0x3d\n\t"                                                \
	".long 0x53053053\n"                                                        \
	"4:\tjmp %l[aborted]\n\t"                                                   \
	".popsection\n\t"
#define RSEQGO_WORD(v) "m"(*(v))
#define RSEQGO_CLOBBERS "memory", "cc", "rax", "rcx", "rdx" RSEQGO_INJECT_CLOBBER

#elif defined(__aarch64__)

#if RSEQGO_SIG != 0xd428bc00
#error "rseqgo.h: the signature is another one"
#endif

#define RSEQGO_ASM_BEGIN                                                            \
	RSEQGO_ASM_TABLE                                                            \
	RSEQGO_ASM_EXIT(elsewhere)                                                  \
	"adrp x9, 3b\n\t"                                                           \
	"add x9, x9, :lo12:3b\n\t"                                                  \
	RSEQGO_INJECT_ASM(1)                                                        \
	"str x9, [%[area], #8]\n"                                                   \
	"1:\t" RSEQGO_INJECT_ASM(2)                                                 \
	"ldr w9, [%[area], #4]\n\t"                                                 \
	"cmp w9, #0\n\t"                                                            \
	"b.lt %l[elsewhere]\n\t"                                                    \
	"ldr w9, [%[field]]\n\t"                                                    \
	"cmp w9, %w[i]\n\t"                                                         \
	"b.ne %l[elsewhere]\n\t"                                                    \
	RSEQGO_INJECT_ASM(3)
/* The load acquires, so that a lock can be taken so. */
#define RSEQGO_ASM_CBNE(v, expect)                                                  \
	"ldar x9, [%[" #v "]]\n\t"                                                  \
	"cmp x9, %[" #expect "]\n\t"                                                \
	"b.ne %l[ne]\n\t"
#define RSEQGO_ASM_STORE(value, v) "str %[" #value "], [%[" #v "]]\n\t"
#define RSEQGO_ASM_STORE_RELEASE(value, v) "stlr %[" #value "], [%[" #v "]]\n\t"
#define RSEQGO_ASM_ADD                                                              \
	"ldr x9, [%[v]]\n\t"                                                        \
	"add x9, x9, %[count]\n\t"                                                  \
	RSEQGO_INJECT_ASM(4)                                                        \
	"str x9, [%[v]]\n\t"
#define RSEQGO_ASM_CBEQ_STORE_ADD_LOAD_STORE                                        \
	"ldar x9, [%[v]]\n\t"                                                       \
	"cmp x9, %[expectnot]\n\t"                                                  \
	"b.eq %l[eq]\n\t"                                                           \
	RSEQGO_INJECT_ASM(4)                                                        \
	"str x9, [%[load]]\n\t"                                                     \
	"ldr x9, [x9, %[voffp]]\n\t"                                                \
	RSEQGO_INJECT_ASM(5)                                                        \
	"str x9, [%[v]]\n\t"
#define RSEQGO_ASM_ADD_LOAD_LOAD_ADD_STORE                                          \
	"ldr x9, [%[v]]\n\t"                                                        \
	RSEQGO_INJECT_ASM(4)                                                        \
	"ldr x9, [x9, %[off]]\n\t"                                                  \
	"ldr x10, [x9]\n\t"                                                         \
	"add x10, x10, %[count]\n\t"                                                \
	RSEQGO_INJECT_ASM(5)                                                        \
	"str x10, [x9]\n\t"
#define RSEQGO_ASM_MEMCPY                                                           \
	"mov x9, #0\n"                                                              \
	"5:\tadd x10, x9, #8\n\t"                                                   \
	"cmp x10, %[len]\n\t"                                                       \
	"b.hi 6f\n\t"                                                               \
	"ldr x11, [%[src], x9]\n\t"                                                 \
	"str x11, [%[dst], x9]\n\t"                                                 \
	"mov x9, x10\n\t"                                                           \
	"b 5b\n"                                                                    \
	"6:\tcmp x9, %[len]\n\t"                                                    \
	"b.hs 7f\n\t"                                                               \
	"ldrb w11, [%[src], x9]\n\t"                                                \
	"strb w11, [%[dst], x9]\n\t"                                                \
	"add x9, x9, #1\n\t"                                                        \
	"b 6b\n"                                                                    \
	"7:\t"
/* Not in a section of its own: a jump from far away may need a veneer, which changes
 * x16 and x17 behind the compiler's back. */
#define RSEQGO_ASM_END                                                              \
	"\n2:\t" RSEQGO_INJECT_ASM(6)                                               \
	"b 8f\n\t"                                                                  \
	".inst 0xd428bc00\n"                                                        \
	"4:\tb %l[aborted]\n"                                                       \
	"8:\t"
#define RSEQGO_WORD(v) "r"(v)
#define RSEQGO_CLOBBERS "memory", "cc", "x9", "x10", "x11" RSEQGO_INJECT_CLOBBER

#elif defined(__riscv)

#if RSEQGO_SIG != 0xf1401073
#error "rseqgo.h: the signature is another one"
#endif

#define RSEQGO_ASM_BEGIN                                                            \
	RSEQGO_ASM_TABLE                                                            \
	RSEQGO_ASM_EXIT(elsewhere)                                                  \
	"lla t0, 3b\n\t"                                                            \
	RSEQGO_INJECT_ASM(1)                                                        \
	"sd t0, 8(%[area])\n"                                                       \
	"1:\t" RSEQGO_INJECT_ASM(2)                                                 \
	"lw t0, 4(%[area])\n\t"                                                     \
	"bltz t0, %l[elsewhere]\n\t"                                                \
	"lw t0, (%[field])\n\t"                                                     \
	"sext.w t1, %[i]\n\t"                                                       \
	"bne t0, t1, %l[elsewhere]\n\t"                                             \
	RSEQGO_INJECT_ASM(3)
/* The load acquires, by a fence, so that a lock can be taken so. */
#define RSEQGO_ASM_CBNE(v, expect)                                                  \
	"ld t0, (%[" #v "])\n\t"                                                    \
	"fence r, rw\n\t"                                                           \
	"bne t0, %[" #expect "], %l[ne]\n\t"
#define RSEQGO_ASM_STORE(value, v) "sd %[" #value "], (%[" #v "])\n\t"
#define RSEQGO_ASM_STORE_RELEASE(value, v)                                          \
	"fence rw, w\n\t"                                                           \
	RSEQGO_ASM_STORE(value, v)
#define RSEQGO_ASM_ADD                                                              \
	"ld t0, (%[v])\n\t"                                                         \
	"add t0, t0, %[count]\n\t"                                                  \
	RSEQGO_INJECT_ASM(4)                                                        \
	"sd t0, (%[v])\n\t"
#define RSEQGO_ASM_CBEQ_STORE_ADD_LOAD_STORE                                        \
	"ld t0, (%[v])\n\t"                                                         \
	"fence r, rw\n\t"                                                           \
	"beq t0, %[expectnot], %l[eq]\n\t"                                          \
	RSEQGO_INJECT_ASM(4)                                                        \
	"sd t0, (%[load])\n\t"                                                      \
	"add t0, t0, %[voffp]\n\t"                                                  \
	"ld t0, (t0)\n\t"                                                           \
	RSEQGO_INJECT_ASM(5)                                                        \
	"sd t0, (%[v])\n\t"
#define RSEQGO_ASM_ADD_LOAD_LOAD_ADD_STORE                                          \
	"ld t0, (%[v])\n\t"                                                         \
	RSEQGO_INJECT_ASM(4)                                                        \
	"add t0, t0, %[off]\n\t"                                                    \
	"ld t0, (t0)\n\t"                                                           \
	"ld t1, (t0)\n\t"                                                           \
	"add t1, t1, %[count]\n\t"                                                  \
	RSEQGO_INJECT_ASM(5)                                                        \
	"sd t1, (t0)\n\t"
/* Words are copied only where both sides are aligned; see cs_riscv64.S. */
#define RSEQGO_ASM_MEMCPY                                                           \
	"or t1, %[dst], %[src]\n\t"                                                 \
	"andi t1, t1, 7\n\t"                                                        \
	"li t0, 0\n\t"                                                              \
	"bnez t1, 6f\n"                                                             \
	"5:\taddi t1, t0, 8\n\t"                                                    \
	"bgtu t1, %[len], 6f\n\t"                                                   \
	"add t2, %[src], t0\n\t"                                                    \
	"ld t2, (t2)\n\t"                                                           \
	"add t0, %[dst], t0\n\t"                                                    \
	"sd t2, (t0)\n\t"                                                           \
	"mv t0, t1\n\t"                                                             \
	"j 5b\n"                                                                    \
	"6:\tbgeu t0, %[len], 7f\n\t"                                               \
	"add t1, %[src], t0\n\t"                                                    \
	"lbu t1, (t1)\n\t"                                                          \
	"add t2, %[dst], t0\n\t"                                                    \
	"sb t1, (t2)\n\t"                                                           \
	"addi t0, t0, 1\n\t"                                                        \
	"j 6b\n"                                                                    \
	"7:\t"
/* Aligned, so that the kernel reads the signature in one piece. */
#define RSEQGO_ASM_END                                                              \
	"\n2:\t" RSEQGO_INJECT_ASM(6)                                               \
	"j 8f\n\t"                                                                  \
	".balign 4\n\t"                                                             \
	".4byte 0xf1401073\n"                                                       \
	"4:\tj %l[aborted]\n"                                                       \
	"8:\t"
#define RSEQGO_WORD(v) "r"(v)
#define RSEQGO_CLOBBERS "memory", "t0", "t1", "t2" RSEQGO_INJECT_CLOBBER

#endif

#define RSEQGO_HERE [area] "r"(here.area), [field] "r"(here.field), [i] "r"((int32_t)i)

/* Behind each way out: GCC before 8.1 and Clang before 13.0.1 move code over an asm
 * statement with labels (librseq's rseq_after_asm_goto has the bugs' numbers). */
#define RSEQGO_AFTER() __asm__ __volatile__("" : : : "memory")

/* The ways out of a function but for done. */
#define RSEQGO_WAYS_OUT                                                             \
	aborted:                                                                    \
	RSEQGO_AFTER();                                                             \
	return RSEQGO_RACED;                                                        \
	elsewhere:                                                                  \
	RSEQGO_AFTER();                                                             \
	return rseqgo_elsewhere(&here);
#define RSEQGO_WAY_OUT_COMPARE_FAILED(label)                                        \
	label:                                                                      \
	RSEQGO_AFTER();                                                             \
	return RSEQGO_COMPARE_FAILED;

/* Adds:
 *
 *	*v += count
 */
static inline enum rseqgo_status
rseqgo_load_add_store(enum rseqgo_index by, int64_t *v, int64_t count, int64_t i)
{
	struct rseqgo_here here;
	enum rseqgo_status refused = rseqgo_enter(by, i, &here);

	if (refused)
		return refused;
	__asm__ __volatile__ goto(
		RSEQGO_ASM_BEGIN
		RSEQGO_ASM_ADD
		RSEQGO_ASM_END
		:
		: RSEQGO_HERE, [v] RSEQGO_WORD(v), [count] "r"(count)
		: RSEQGO_CLOBBERS
		: aborted, elsewhere);
	RSEQGO_AFTER();
	return RSEQGO_DONE;
	RSEQGO_WAYS_OUT
}

/* Compares and stores:
 *
 *	if (*v != expect) return COMPARE_FAILED
 *	*v = newv
 */
static inline enum rseqgo_status
rseqgo_load_cbne_store(enum rseqgo_index by, int64_t *v, int64_t expect, int64_t newv,
		       int64_t i)
{
	struct rseqgo_here here;
	enum rseqgo_status refused = rseqgo_enter(by, i, &here);

	if (refused)
		return refused;
	__asm__ __volatile__ goto(
		RSEQGO_ASM_EXIT(ne)
		RSEQGO_ASM_BEGIN
		RSEQGO_ASM_CBNE(v, expect)
		RSEQGO_INJECT_ASM(4)
		RSEQGO_ASM_STORE(newv, v)
		RSEQGO_ASM_END
		:
		: RSEQGO_HERE, [v] RSEQGO_WORD(v), [expect] "r"(expect), [newv] "r"(newv)
		: RSEQGO_CLOBBERS
		: aborted, elsewhere, ne);
	RSEQGO_AFTER();
	return RSEQGO_DONE;
	RSEQGO_WAYS_OUT
	RSEQGO_WAY_OUT_COMPARE_FAILED(ne)
}

/* Takes the first node off a list whose head is *v; the word voffp bytes from where a
 * node begins names the next one:
 *
 *	*load = *v
 *	if (*load == expectnot) return COMPARE_FAILED
 *	*v = *(*load + voffp)
 *
 * If the status is not DONE, *load means nothing.
 */
static inline enum rseqgo_status
rseqgo_load_cbeq_store_add_load_store(enum rseqgo_index by, int64_t *v,
				      int64_t expectnot, uintptr_t voffp, int64_t *load,
				      int64_t i)
{
	struct rseqgo_here here;
	enum rseqgo_status refused = rseqgo_enter(by, i, &here);

	if (refused)
		return refused;
	__asm__ __volatile__ goto(
		RSEQGO_ASM_EXIT(eq)
		RSEQGO_ASM_BEGIN
		RSEQGO_ASM_CBEQ_STORE_ADD_LOAD_STORE
		RSEQGO_ASM_END
		:
		: RSEQGO_HERE, [v] RSEQGO_WORD(v), [expectnot] "r"(expectnot),
		  [voffp] "r"(voffp), [load] RSEQGO_WORD(load)
		: RSEQGO_CLOBBERS
		: aborted, elsewhere, eq);
	RSEQGO_AFTER();
	return RSEQGO_DONE;
	RSEQGO_WAYS_OUT
	RSEQGO_WAY_OUT_COMPARE_FAILED(eq)
}

/* Adds to what is found through a word that others may replace; who replaces it has Go
 * call Index.Fence:
 *
 *	p = *(int64_t **)(*ptr + off)
 *	*p += inc
 */
static inline enum rseqgo_status
rseqgo_load_add_load_load_add_store(enum rseqgo_index by, uintptr_t *ptr, uintptr_t off,
				    int64_t inc, int64_t i)
{
	struct rseqgo_here here;
	enum rseqgo_status refused = rseqgo_enter(by, i, &here);

	if (refused)
		return refused;
	__asm__ __volatile__ goto(
		RSEQGO_ASM_BEGIN
		RSEQGO_ASM_ADD_LOAD_LOAD_ADD_STORE
		RSEQGO_ASM_END
		:
		: RSEQGO_HERE, [v] RSEQGO_WORD(ptr), [off] "r"(off), [count] "r"(inc)
		: RSEQGO_CLOBBERS
		: aborted, elsewhere);
	RSEQGO_AFTER();
	return RSEQGO_DONE;
	RSEQGO_WAYS_OUT
}

/* Compares two words and stores:
 *
 *	if (*v != expect) return COMPARE_FAILED
 *	if (*v2 != expect2) return COMPARE_FAILED
 *	*v = newv
 */
static inline enum rseqgo_status
rseqgo_load_cbne_load_cbne_store(enum rseqgo_index by, int64_t *v, int64_t expect,
				 int64_t *v2, int64_t expect2, int64_t newv, int64_t i)
{
	struct rseqgo_here here;
	enum rseqgo_status refused = rseqgo_enter(by, i, &here);

	if (refused)
		return refused;
	__asm__ __volatile__ goto(
		RSEQGO_ASM_EXIT(ne)
		RSEQGO_ASM_BEGIN
		RSEQGO_ASM_CBNE(v, expect)
		RSEQGO_INJECT_ASM(4)
		RSEQGO_ASM_CBNE(v2, expect2)
		RSEQGO_INJECT_ASM(5)
		RSEQGO_ASM_STORE(newv, v)
		RSEQGO_ASM_END
		:
		: RSEQGO_HERE, [v] RSEQGO_WORD(v), [expect] "r"(expect),
		  [v2] RSEQGO_WORD(v2), [expect2] "r"(expect2), [newv] "r"(newv)
		: RSEQGO_CLOBBERS
		: aborted, elsewhere, ne);
	RSEQGO_AFTER();
	return RSEQGO_DONE;
	RSEQGO_WAYS_OUT
	RSEQGO_WAY_OUT_COMPARE_FAILED(ne)
}

/* What the next two functions share: a store that counts for nothing until the last
 * one, which may release. */
#define RSEQGO_LOAD_CBNE_STORE_STORE(last)                                          \
	struct rseqgo_here here;                                                    \
	enum rseqgo_status refused = rseqgo_enter(by, i, &here);                    \
                                                                                    \
	if (refused)                                                                \
		return refused;                                                     \
	__asm__ __volatile__ goto(                                                  \
		RSEQGO_ASM_EXIT(ne)                                                 \
		RSEQGO_ASM_BEGIN                                                    \
		RSEQGO_ASM_CBNE(v, expect)                                          \
		RSEQGO_INJECT_ASM(4)                                                \
		RSEQGO_ASM_STORE(newv2, v2)                                         \
		RSEQGO_INJECT_ASM(5)                                                \
		last(newv, v)                                                       \
		RSEQGO_ASM_END                                                      \
		:                                                                   \
		: RSEQGO_HERE, [v] RSEQGO_WORD(v), [expect] "r"(expect),            \
		  [v2] RSEQGO_WORD(v2), [newv2] "r"(newv2), [newv] "r"(newv)        \
		: RSEQGO_CLOBBERS                                                   \
		: aborted, elsewhere, ne);                                          \
	RSEQGO_AFTER();                                                             \
	return RSEQGO_DONE;                                                         \
	RSEQGO_WAYS_OUT                                                             \
	RSEQGO_WAY_OUT_COMPARE_FAILED(ne)

/* Stores to a place that counts for nothing until the last store:
 *
 *	if (*v != expect) return COMPARE_FAILED
 *	*v2 = newv2	// may happen though the status is RACED
 *	*v = newv
 */
static inline enum rseqgo_status
rseqgo_load_cbne_store_store(enum rseqgo_index by, int64_t *v, int64_t expect,
			     int64_t *v2, int64_t newv2, int64_t newv, int64_t i)
{
	RSEQGO_LOAD_CBNE_STORE_STORE(RSEQGO_ASM_STORE)
}

/* The same, but its last store releases: who loads newv atomically, on any CPU, sees
 * newv2. */
static inline enum rseqgo_status
rseqgo_load_cbne_store_store_release(enum rseqgo_index by, int64_t *v, int64_t expect,
				     int64_t *v2, int64_t newv2, int64_t newv, int64_t i)
{
	RSEQGO_LOAD_CBNE_STORE_STORE(RSEQGO_ASM_STORE_RELEASE)
}

/* The same for a copy. */
#define RSEQGO_LOAD_CBNE_MEMCPY_STORE(last)                                         \
	struct rseqgo_here here;                                                    \
	enum rseqgo_status refused = rseqgo_enter(by, i, &here);                    \
                                                                                    \
	if (refused)                                                                \
		return refused;                                                     \
	__asm__ __volatile__ goto(                                                  \
		RSEQGO_ASM_EXIT(ne)                                                 \
		RSEQGO_ASM_BEGIN                                                    \
		RSEQGO_ASM_CBNE(v, expect)                                          \
		RSEQGO_INJECT_ASM(4)                                                \
		RSEQGO_ASM_MEMCPY                                                   \
		RSEQGO_INJECT_ASM(5)                                                \
		last(newv, v)                                                       \
		RSEQGO_ASM_END                                                      \
		:                                                                   \
		: RSEQGO_HERE, [v] RSEQGO_WORD(v), [expect] "r"(expect),            \
		  [dst] "r"(dst), [src] "r"(src), [len] "r"(len), [newv] "r"(newv)  \
		: RSEQGO_CLOBBERS                                                   \
		: aborted, elsewhere, ne);                                          \
	RSEQGO_AFTER();                                                             \
	return RSEQGO_DONE;                                                         \
	RSEQGO_WAYS_OUT                                                             \
	RSEQGO_WAY_OUT_COMPARE_FAILED(ne)

/* Copies len bytes, which must not overlap, to a place that counts for nothing until
 * the last store:
 *
 *	if (*v != expect) return COMPARE_FAILED
 *	memcpy(dst, src, len)	// may happen, in part, though the status is RACED
 *	*v = newv
 *
 * Copy little: one that takes as long as a slice of the scheduler, some milliseconds,
 * races each time.
 */
static inline enum rseqgo_status
rseqgo_load_cbne_memcpy_store(enum rseqgo_index by, int64_t *v, int64_t expect, void *dst,
			      const void *src, size_t len, int64_t newv, int64_t i)
{
	RSEQGO_LOAD_CBNE_MEMCPY_STORE(RSEQGO_ASM_STORE)
}

/* The same, but its last store releases: who loads newv atomically, on any CPU, sees the
 * copy. */
static inline enum rseqgo_status
rseqgo_load_cbne_memcpy_store_release(enum rseqgo_index by, int64_t *v, int64_t expect,
				      void *dst, const void *src, size_t len,
				      int64_t newv, int64_t i)
{
	RSEQGO_LOAD_CBNE_MEMCPY_STORE(RSEQGO_ASM_STORE_RELEASE)
}

/* Adds delta to the word of the calling thread's index, whichever that is: Cells.Add of
 * package rseq, or Cells.AddByConcurrencyID. It starts again where it is interrupted, so
 * RACED means that this happened 128 times in a row, as under a debugger that steps. */
static inline enum rseqgo_status
rseqgo_cells_add(enum rseqgo_index by, const struct rseqgo_cells *cells, int64_t delta)
{
	enum rseqgo_status status = RSEQGO_RACED;

	for (int tries = 0; tries < RSEQGO_TRIES && status == RSEQGO_RACED; tries++) {
		int i = rseqgo_current(by);

		if (i < 0)
			return RSEQGO_NOT_REGISTERED;
		if (i >= cells->n)
			return RSEQGO_OUT_OF_RANGE;
		status = rseqgo_load_add_store(
			by, (int64_t *)((char *)cells->base + i * cells->stride), delta, i);
	}
	return status;
}

#ifdef __cplusplus
}
#endif

#endif /* RSEQGO_H */
