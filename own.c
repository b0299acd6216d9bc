//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

/* SPDX-License-Identifier: MIT
 *
 * An area of this package's own in each thread, for threads that no library registers.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <pthread.h>

/* What cpu_id holds in an own area that is not registered. The first two are the kernel's
 * values; it stores the first when it unregisters an area. */
enum {
	UNINITIALIZED = RSEQGO_CPU_ID_UNINITIALIZED, /* not registered yet, or not now */
	FAILED = RSEQGO_CPU_ID_REGISTRATION_FAILED, /* by the kernel or a filter */
	FINISHED = FAILED - 1, /* finish ran in this thread: not registered again */
	BUSY = FAILED - 2,	/* being registered; only signal handlers see it */
};

/* The longest registration that fits; see own. */
enum { OWN_LEN_MAX = 56, OWN_ALIGN = 64 };

/* The own area of each thread: 64 bytes of static TLS, which every thread has from its
 * start, at one offset, and for which a library loaded by dlopen finds room
 * (docs/compatibility.md). Behind the area stand two words that are not the kernel's:
 * whether finish has begun in this thread, and a cpu_id that is negative in every
 * thread. On riscv64 a program's first thread-local variable is at the thread pointer. An
 * area must not be there, since the distance zero says that there is none. */
static __thread struct {
#if defined(__riscv)
	char apart[OWN_ALIGN];
#endif
	char before[RSEQGO_OFFSETOF_CPU_ID];
	uint32_t cpu_id;
	char behind[OWN_LEN_MAX - RSEQGO_ENDOF_CPU_ID];
	int32_t finished;
	int32_t unregistered;
} own __attribute__((aligned(OWN_ALIGN), tls_model("initial-exec"))) = {
	.cpu_id = UNINITIALIZED,
	.unregistered = UNINITIALIZED,
};

static pthread_key_t key; /* its destructor unregisters */
static uint32_t own_len;  /* of each registration; set once, before the first */

ptrdiff_t rseqgo_own_offset(void)
{
	return own.before - rseqgo_thread_pointer();
}

ptrdiff_t rseqgo_unregistered_offset(void)
{
	return (char *)&own.unregistered - RSEQGO_OFFSETOF_CPU_ID -
	       rseqgo_thread_pointer();
}

static int32_t own_cpu_id(void)
{
	return (int32_t)__atomic_load_n(&own.cpu_id, __ATOMIC_RELAXED);
}

/* set_cpu_id marks an own area that is not registered. */
static void set_cpu_id(int32_t state)
{
	__atomic_store_n(&own.cpu_id, (uint32_t)state, __ATOMIC_RELAXED);
}

/* finish is the key's destructor. On musl a detached thread unmaps its stack, TLS
 * included, before it ends; if its area were still registered, the kernel would kill
 * the process. */
static void finish(void *unused)
{
	(void)unused;
	own.finished = 1; /* first: a signal handler may register meanwhile */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (!rseqgo_call(own.before, own_len, RSEQGO_FLAG_UNREGISTER, RSEQGO_SIG))
		set_cpu_id(FINISHED);
}

int rseqgo_own_prepare(uint32_t kernel_feature_size, uint32_t kernel_align,
		       uint32_t *len)
{
	int e = pthread_key_create(&key, finish);

	if (e)
		return e;
	/* What the kernel advertises, so that Linux 7.1 and later give the V2
	 * mode; the original length where the kernel advertises less, or more than
	 * own has room for. */
	own_len = kernel_feature_size;
	if (own_len < RSEQGO_ORIGINAL_LEN || own_len > OWN_LEN_MAX ||
	    kernel_align > OWN_ALIGN)
		own_len = RSEQGO_ORIGINAL_LEN;
	*len = own_len;
	return 0;
}

int rseqgo_own_register(void)
{
	uint32_t expected = UNINITIALIZED;
	int e;

	if (own.finished)
		return FINISHED;
	if (own_cpu_id() == FAILED)
		expected = FAILED;
	/* From here on until the end a signal handler that registers finds BUSY. */
	if (!__atomic_compare_exchange_n(&own.cpu_id, &expected,
					 (uint32_t)BUSY, 0, __ATOMIC_RELAXED,
					 __ATOMIC_RELAXED))
		return (int32_t)expected;
	/* The destructor comes first: without it, no registration. */
	if (pthread_setspecific(key, &own)) {
		set_cpu_id(UNINITIALIZED); /* no memory now */
		return FAILED;
	}
	e = rseqgo_call(own.before, own_len, 0, RSEQGO_SIG);
	/* A filter that pretends success leaves BUSY. */
	if (!e && own_cpu_id() != BUSY)
		return own_cpu_id();
	pthread_setspecific(key, NULL);
	set_cpu_id(FAILED);
	return FAILED;
}
