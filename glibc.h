/* SPDX-License-Identifier: MIT
 *
 * The rseq area of the calling thread, for C code in the same program as the
 * Go package github.com/rseq-go/rseq. Needs no system header about rseq
 * (glibc 2.31 has none) and links on any glibc and on musl.
 *
 *	#include "glibc.h"
 *
 *	const struct rseqgo_info *info = rseqgo_discover();
 *	int cpu = rseqgo_cpu_id(info);
 *	if (cpu < 0)
 *		cpu = sched_getcpu();			// this thread has no area
 *
 * Only the kernel writes the fields of a registered area; writing one yourself
 * ends the process on Linux 7.1 and later. A CPU number is stale as soon as it
 * was read, and the area is the calling thread's own: use a pointer to it on
 * that thread alone.
 */
#ifndef RSEQGO_GLIBC_H
#define RSEQGO_GLIBC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In the linker's table the function's name carries the module's major
 * version, so that two versions of the module link into one program. */
#define rseqgo_discover rseqgo_v1_discover

/* RSEQGO_SIG is RSEQ_SIG: the four bytes in front of every abort handler, with
 * which glibc registers (its bits/rseq.h for x86 and aarch64, glibc 2.35). */
#if defined(__x86_64__)
#define RSEQGO_SIG 0x53053053U
#elif defined(__aarch64__)
#define RSEQGO_SIG 0xd428bc00U
#else
#error "rseq: amd64 and arm64 only"
#endif

/* struct rseqgo_area is the kernel's struct rseq as far as this package reads
 * it: Linux 4.18 (d7822b1e24f2) up to flags, 6.3 the rest (cbae6bac29a8 node_id,
 * f7b01bb0b57f mm_cid). A field may be read if it ends at or before
 * rseqgo_info.size. */
struct rseqgo_area {
	uint32_t cpu_id_start; /* CPU number, 0 before registration */
	uint32_t cpu_id;       /* CPU number; as int: negative if not registered */
	uint64_t rseq_cs;      /* the critical section's descriptor */
	uint32_t flags;
	uint32_t node_id;      /* NUMA node */
	uint32_t mm_cid;       /* concurrency id: small, unique among the
				  process's running threads */
};

/* How the C library's symbols were found. */
enum rseqgo_via {
	RSEQGO_VIA_NONE,   /* there are none: glibc before 2.35, musl */
	RSEQGO_VIA_DLSYM,  /* by dlsym */
	RSEQGO_VIA_DIRECT, /* by a weak reference that a static link resolved */
};

struct rseqgo_info {
	ptrdiff_t offset;             /* __rseq_offset: bytes from the thread
					 pointer */
	uint32_t libc_size;           /* __rseq_size as the C library exports
					 it; 0: it registered nothing */
	uint32_t size;                /* bytes of fields that may be read; 0:
					 no area */
	uint32_t flags;               /* __rseq_flags: registration flags */
	uint32_t kernel_feature_size; /* AT_RSEQ_FEATURE_SIZE; 0: before 6.3 */
	uint32_t kernel_align;        /* AT_RSEQ_ALIGN; 0: before 6.3 */
	enum rseqgo_via via;
	char libc[32];                /* the C library, "glibc 2.36" */
};

/* rseqgo_discover says what was found when the program or library was loaded.
 * It makes no system call, takes no lock and never returns NULL; the result
 * stays as it is until the process ends. */
__attribute__((visibility("hidden"))) const struct rseqgo_info *
rseqgo_discover(void);

/* rseqgo_thread_pointer returns what offset counts from. */
static inline char *rseqgo_thread_pointer(void)
{
	char *tp;
#if defined(__x86_64__)
	__asm__("movq %%fs:0, %0" : "=r"(tp));
#else
	__asm__("mrs %0, tpidr_el0" : "=r"(tp));
#endif
	return tp;
}

/* rseqgo_area returns the calling thread's area, or NULL where nobody
 * registered one. The area's memory exists in every thread; whether this thread
 * is registered is what a cpu_id that is not negative says. */
static inline const volatile struct rseqgo_area *
rseqgo_area(const struct rseqgo_info *info)
{
	if (!info->size)
		return NULL;
	return (const volatile struct rseqgo_area *)(rseqgo_thread_pointer() +
						     info->offset);
}

/* rseqgo_cpu_id returns the CPU that the calling thread runs on, or a negative
 * number if this thread is not registered. */
static inline int rseqgo_cpu_id(const struct rseqgo_info *info)
{
	const volatile struct rseqgo_area *area = rseqgo_area(info);

	return area ? (int)area->cpu_id : -1;
}

/* rseqgo_has says whether the field that ends at the given byte may be read on
 * this thread. */
static inline int rseqgo_has(const struct rseqgo_info *info, size_t end)
{
	return info->size >= end && rseqgo_cpu_id(info) >= 0;
}

/* rseqgo_node_id returns the NUMA node, or -1 if the area does not tell. */
static inline int rseqgo_node_id(const struct rseqgo_info *info)
{
	if (!rseqgo_has(info, offsetof(struct rseqgo_area, node_id) + 4))
		return -1;
	return (int)rseqgo_area(info)->node_id;
}

/* rseqgo_mm_cid returns the concurrency id, or -1 if the area does not tell. */
static inline int rseqgo_mm_cid(const struct rseqgo_info *info)
{
	if (!rseqgo_has(info, offsetof(struct rseqgo_area, mm_cid) + 4))
		return -1;
	return (int)rseqgo_area(info)->mm_cid;
}

#ifdef __cplusplus
}
#endif

#endif /* RSEQGO_GLIBC_H */
