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
 *		cpu = rseqgo_register_thread();	// this thread's first use
 *	if (cpu < 0)
 *		cpu = sched_getcpu();		// this thread has no area
 *
 * The kernel writes cpu_id_start, cpu_id, node_id and mm_cid of a registered area. A
 * program that writes one is ended by Linux 7.0.10, 7.1 and later if the registration
 * is longer than 32 bytes. rseq_cs belongs to critical sections. A CPU number may be
 * out of date as soon as it is read. The area is the calling thread's: use a pointer to
 * it on that thread only.
 */
#ifndef RSEQGO_GLIBC_H
#define RSEQGO_GLIBC_H

/* struct rseqgo_area (the kernel's struct rseq), offsets and constants, RSEQGO_SIG
 * among them, as in the newest headers. A header of include/, included before, declares
 * the struct as an older glibc does; the functions below reach the newer fields with
 * that too. */
#ifndef RSEQGO_ABI_H
#include "abi.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The functions' symbols have the module's major version in their names, so that two
 * versions of the module link into one program. */
#define rseqgo_discover rseqgo_v1_discover
#define rseqgo_register_thread rseqgo_v1_register_thread
#define RSEQGO_HIDDEN __attribute__((visibility("hidden")))

/* Who registered the areas of this process's threads. */
enum rseqgo_owner {
	RSEQGO_NONE,    /* none is known: see rseqgo_register_thread */
	RSEQGO_LIBC,    /* the C library */
	RSEQGO_SELF,    /* this package, for each thread when it first asks */
	RSEQGO_FOREIGN, /* another library of the program */
};

/* How the owner's area was found. */
enum rseqgo_via {
	RSEQGO_VIA_NONE,
	RSEQGO_VIA_DLSYM,  /* __rseq_offset, by dlsym */
	RSEQGO_VIA_DIRECT, /* __rseq_offset, resolved by a static link */
	RSEQGO_VIA_SYMBOL, /* the thread-local symbol __rseq_abi, or librseq's
			      rseq_offset */
	RSEQGO_VIA_KERNEL, /* the kernel, asked about addresses in the
			      thread's TLS */
	RSEQGO_VIA_OWN,    /* this package's own area */
};

/* Why there is no owner, besides an errno of rseq(2). */
enum {
	RSEQGO_ELSEWHERE = -1, /* another registration exists that cannot be used */
	RSEQGO_KILLED = -2,    /* a seccomp filter kills for rseq(2) */
	RSEQGO_FORBIDDEN = -3, /* the environment has RSEQ_GO_REGISTER=0 */
};

struct rseqgo_info {
	enum rseqgo_owner owner;
	enum rseqgo_via via;
	ptrdiff_t offset;             /* bytes from the thread pointer to the
					 area */
	uint32_t size;                /* bytes of fields that may be read; a
					 field may be read if this is
					 RSEQGO_NEEDS_<FIELD> at least. 0: no
					 area. Set last. */
	uint32_t len;                 /* registered length; 0: not known yet */
	uint32_t signature;           /* RSEQGO_SIG if registered with it, else
					 0 */
	int error;                    /* why there is no owner: an errno or one
					 of the above; 0: no thread asked, or
					 one is deciding */
	uint32_t libc_size;           /* __rseq_size as the C library exports
					 it; 0: it registered nothing */
	uint32_t flags;               /* __rseq_flags: registration flags */
	uint32_t kernel_feature_size; /* AT_RSEQ_FEATURE_SIZE; 0: before 6.3 */
	uint32_t kernel_align;        /* AT_RSEQ_ALIGN; 0: before 6.3 */
	char libc[32];                /* the C library, "glibc 2.36" */
};

/* rseqgo_discover returns what is known: always the same pointer, never NULL. It takes
 * no lock. While the size is 0, every field that does not come from the C library may
 * change at any time; the functions below allow for that. The size becomes 0 again if
 * Go code asked the kernel and it has no registration (in a process restored from a
 * checkpoint). */
RSEQGO_HIDDEN const struct rseqgo_info *rseqgo_discover(void);

/* rseqgo_register_thread gives the calling thread an area if it can have one, and
 * returns its CPU number. Where the C library registers threads it does nothing else.
 * Elsewhere the first call of the process decides whether another library registers
 * threads. If none does, each thread's first call registers an area of this package's
 * own, which is unregistered when the thread ends.
 *
 * A negative result means that this thread has no area (rseqgo_discover()->error may say
 * why), or that another thread is deciding at this moment. A later call may succeed: an
 * answer that may change is asked for again after 50 ms at first, and a minute at most.
 *
 * It may be called on any thread. In a signal handler it may be called only if the thread
 * has called it outside of one before: a first call allocates memory, and the process's
 * first one may make a thread or a child process, with all signals blocked. */
RSEQGO_HIDDEN int rseqgo_register_thread(void);

/* rseqgo_thread_pointer returns what offset counts from. */
static inline char *rseqgo_thread_pointer(void)
{
	char *tp;
#if defined(__x86_64__)
	__asm__("movq %%fs:0, %0" : "=r"(tp));
#elif defined(__aarch64__)
	__asm__("mrs %0, tpidr_el0" : "=r"(tp));
#else
	__asm__("mv %0, tp" : "=r"(tp));
#endif
	return tp;
}

/* rseqgo_area returns the calling thread's area, or NULL if the process has none. The
 * memory exists in every thread; a thread is registered if cpu_id is not negative. */
static inline const volatile struct rseqgo_area *
rseqgo_area(const struct rseqgo_info *info)
{
	if (!__atomic_load_n(&info->size, __ATOMIC_ACQUIRE))
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

/* rseqgo_field returns a field of 32 bits, or -1 if the calling thread's area does not
 * have it. */
static inline int rseqgo_field(const struct rseqgo_info *info, size_t offset,
			       size_t needs)
{
	const volatile struct rseqgo_area *area = rseqgo_area(info);

	if (!area || __atomic_load_n(&info->size, __ATOMIC_RELAXED) < needs ||
	    (int)area->cpu_id < 0)
		return -1;
	return (int)*(const volatile uint32_t *)((const volatile char *)area +
						 offset);
}

/* rseqgo_node_id returns the NUMA node, or -1 if the area does not have it. */
static inline int rseqgo_node_id(const struct rseqgo_info *info)
{
	return rseqgo_field(info, RSEQGO_OFFSETOF_NODE_ID, RSEQGO_NEEDS_NODE_ID);
}

/* rseqgo_mm_cid returns the concurrency id, small and unique among the process's
 * running threads, or -1 if the area does not have it. */
static inline int rseqgo_mm_cid(const struct rseqgo_info *info)
{
	return rseqgo_field(info, RSEQGO_OFFSETOF_MM_CID, RSEQGO_NEEDS_MM_CID);
}

#ifdef __cplusplus
}
#endif

#endif /* RSEQGO_GLIBC_H */
