//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

/* The operations in C that the benchmarks compare with: critical sections written as
 * librseq's (asm goto, inline), and the same in functions that are not inlined. The loop is
 * in C, so that the benchmark counts no transition from Go. */
#include "sections_cgo.h"

#if defined(__x86_64__)
#define INLINE_ADD(area, v, count, cpu, abort)                                 \
	__asm__ goto("leaq 3f(%%rip), %%rax\n\t"                               \
		     "movq %%rax, 8(%[a])\n"                                   \
		     "1:\tcmpl %[c], 4(%[a])\n\t"                              \
		     "jne 4f\n\t"                                              \
		     "addq %[n], %[w]\n"                                       \
		     "2:\n\t" ABORT(abort)                                            \
		     : : [a] "r"(area), [c] "r"(cpu), [n] "er"(count),         \
		       [w] "m"(*(v)) : "rax", "memory", "cc" : abort)
#define INLINE_CBNE(area, v, expect, newv, cpu, abort, ne)                     \
	__asm__ goto("leaq 3f(%%rip), %%rax\n\t"                               \
		     "movq %%rax, 8(%[a])\n"                                   \
		     "1:\tcmpl %[c], 4(%[a])\n\t"                              \
		     "jne 4f\n\t"                                              \
		     "cmpq %[w], %[e]\n\t"                                     \
		     "jne %l[" #ne "]\n\t"                                          \
		     "movq %[n], %[w]\n"                                       \
		     "2:\n\t" ABORT(abort)                                            \
		     : : [a] "r"(area), [c] "r"(cpu), [e] "r"(expect),         \
		       [n] "r"(newv), [w] "m"(*(v)) : "rax", "memory", "cc"    \
		     : abort, ne)
#define INLINE_POP(area, v, base, load, cpu, abort, eq)                        \
	__asm__ goto("leaq 3f(%%rip), %%rax\n\t"                               \
		     "movq %%rax, 8(%[a])\n"                                   \
		     "1:\tcmpl %[c], 4(%[a])\n\t"                              \
		     "jne 4f\n\t"                                              \
		     "movq %[w], %%rax\n\t"                                    \
		     "testq %%rax, %%rax\n\t"                                  \
		     "je %l[" #eq "]\n\t"                                           \
		     "movq %%rax, %[l]\n\t"                                    \
		     "movq (%%rax,%[b]), %%rax\n\t"                            \
		     "movq %%rax, %[w]\n"                                      \
		     "2:\n\t" ABORT(abort)                                            \
		     : : [a] "r"(area), [c] "r"(cpu), [b] "r"(base),           \
		       [l] "m"(*(load)), [w] "m"(*(v)) : "rax", "memory", "cc" \
		     : abort, eq)
#define ABORT(abort)                                                                  \
	".pushsection __rseq_cs, \"aw\"\n\t.balign 32\n"                       \
	"3:\t.long 0, 0\n\t.quad 1b, 2b - 1b, 4f\n\t.popsection\n\t"           \
	".pushsection __rseq_failure, \"ax\"\n\t"                              \
	".byte 0x0f, 0xb9, 0x3d\n\t.long 0x53053053\n"                         \
	"4:\tjmp %l[" #abort "]\n\t.popsection\n\t"
#elif defined(__aarch64__)
#define ABORT(abort)                                                                  \
	".pushsection __rseq_cs, \"aw\"\n\t.balign 32\n"                       \
	"3:\t.long 0, 0\n\t.quad 1b, 2b - 1b, 4f\n\t.popsection\n\t"           \
	"b 5f\n\t.inst 0xd428bc00\n4:\tb %l[" #abort "]\n5:\n\t"
#define ARM                                                                    \
	"adrp x15, 3f\n\tadd x15, x15, :lo12:3f\n\tstr x15, [%[a], #8]\n"      \
	"1:\tldr w15, [%[a], #4]\n\tcmp w15, %w[c]\n\tb.ne 4f\n\t"
#define INLINE_ADD(area, v, count, cpu, abort)                                 \
	__asm__ goto(ARM "ldr x15, [%[w]]\n\tadd x15, x15, %[n]\n\t"           \
		     "str x15, [%[w]]\n2:\n\t" ABORT(abort)                           \
		     : : [a] "r"(area), [c] "r"(cpu), [n] "r"((long)(count)),  \
		       [w] "r"(v) : "x15", "memory", "cc" : abort)
#define INLINE_CBNE(area, v, expect, newv, cpu, abort, ne)                     \
	__asm__ goto(ARM "ldr x15, [%[w]]\n\tcmp x15, %[e]\n\tb.ne %l[" #ne "]\n\t" \
		     "str %[n], [%[w]]\n2:\n\t" ABORT(abort)                          \
		     : : [a] "r"(area), [c] "r"(cpu), [e] "r"(expect),         \
		       [n] "r"(newv), [w] "r"(v) : "x15", "memory", "cc"       \
		     : abort, ne)
#define INLINE_POP(area, v, base, load, cpu, abort, eq)                        \
	__asm__ goto(ARM "ldr x15, [%[w]]\n\tcbz x15, %l[" #eq "]\n\t"              \
		     "str x15, [%[l]]\n\tldr x15, [x15, %[b]]\n\t"             \
		     "str x15, [%[w]]\n2:\n\t" ABORT(abort)                           \
		     : : [a] "r"(area), [c] "r"(cpu), [b] "r"(base),           \
		       [l] "r"(load), [w] "r"(v) : "x15", "memory", "cc"       \
		     : abort, eq)
#else
#define ABORT(abort)                                                                  \
	".pushsection __rseq_cs, \"aw\"\n\t.balign 32\n"                       \
	"3:\t.long 0, 0\n\t.quad 1b, 2b - 1b, 4f\n\t.popsection\n\t"           \
	"j 5f\n\t.balign 4\n\t.4byte 0xf1401073\n4:\tj %l[" #abort "]\n5:\n\t"
#define RISCV                                                                  \
	"lla t0, 3f\n\tsd t0, 8(%[a])\n"                                       \
	"1:\tlw t0, 4(%[a])\n\tbne t0, %[c], 4f\n\t"
#define INLINE_ADD(area, v, count, cpu, abort)                                 \
	__asm__ goto(RISCV "ld t0, (%[w])\n\tadd t0, t0, %[n]\n\t"            \
		     "sd t0, (%[w])\n2:\n\t" ABORT(abort)                      \
		     : : [a] "r"(area), [c] "r"((long)(int)(cpu)),             \
		       [n] "r"((long)(count)), [w] "r"(v)                      \
		     : "t0", "memory" : abort)
#define INLINE_CBNE(area, v, expect, newv, cpu, abort, ne)                     \
	__asm__ goto(RISCV "ld t0, (%[w])\n\tbne t0, %[e], %l[" #ne "]\n\t"     \
		     "sd %[n], (%[w])\n2:\n\t" ABORT(abort)                    \
		     : : [a] "r"(area), [c] "r"((long)(int)(cpu)),             \
		       [e] "r"(expect), [n] "r"(newv), [w] "r"(v)              \
		     : "t0", "memory" : abort, ne)
#define INLINE_POP(area, v, base, load, cpu, abort, eq)                        \
	__asm__ goto(RISCV "ld t0, (%[w])\n\tbeqz t0, %l[" #eq "]\n\t"          \
		     "sd t0, (%[l])\n\tadd t0, t0, %[b]\n\tld t0, (t0)\n\t"   \
		     "sd t0, (%[w])\n2:\n\t" ABORT(abort)                      \
		     : : [a] "r"(area), [c] "r"((long)(int)(cpu)),             \
		       [b] "r"(base), [l] "r"(load), [w] "r"(v)                \
		     : "t0", "memory" : abort, eq)
#endif

static inline __attribute__((always_inline)) void
add(volatile struct area *a, struct c_cells *c, long n)
{
	unsigned int cpu;

again:
	cpu = a->cpu_id;
	if (cpu >= c->n)
		return;
	INLINE_ADD(a, (long *)((char *)c->base + c->stride * cpu), n, cpu, again);
}

static __attribute__((noinline)) void
add_call(volatile struct area *a, struct c_cells *c, long n)
{
	add(a, c, n);
}

static inline __attribute__((always_inline)) void
pop_push(volatile struct area *a, struct c_cells *c, char *nodes)
{
	unsigned int cpu;
	long node, head, *v;

pop:
	cpu = a->cpu_id;
	v = (long *)((char *)c->base + c->stride * cpu);
	INLINE_POP(a, v, nodes, &node, cpu, pop, empty);
push:
changed:
	cpu = a->cpu_id;
	v = (long *)((char *)c->base + c->stride * cpu);
	head = *(volatile long *)v;
	*(long *)(nodes + node) = head;
	INLINE_CBNE(a, v, head, node, cpu, push, changed);
empty:
	return;
}

static __attribute__((noinline)) void
pop_push_call(volatile struct area *a, struct c_cells *c, char *nodes)
{
	pop_push(a, c, nodes);
}

void c_loop(int what, char *area, struct c_cells *c, void *nodes, long n)
{
	volatile struct area *a = (void *)area;

	switch (what) {
	case C_ADD_INLINE:
		while (n-- > 0)
			add(a, c, 1);
		break;
	case C_ADD_CALL:
		while (n-- > 0)
			add_call(a, c, 1);
		break;
	case C_LIST_INLINE:
		while (n-- > 0)
			pop_push(a, c, nodes);
		break;
	case C_LIST_CALL:
		while (n-- > 0)
			pop_push_call(a, c, nodes);
		break;
	}
}
