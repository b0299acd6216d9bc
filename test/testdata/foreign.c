/* A library for LD_PRELOAD that registers rseq areas of its own: for the main thread in a
 * constructor, for every other thread when pthread_create starts it.
 *
 * -DSIGNATURE=   the signature; RSEQGO_SIG is ours
 * -DSYMBOL       the area is the thread-local variable __rseq_abi
 * -DHEAP         each area is allocated, at no constant distance
 * -DSECOND       registers every second thread only
 * -DMAIN         registers the main thread only
 * -DZEROS        areas begin as zeros, so that an unregistered one looks like CPU 0
 * -DLEN=64       the length of the registration, in place of 32 bytes
 * -DSHIFT        each thread's area is at a distance that is 32 bytes more
 * -DLAZY         registers a thread when it first allocates or frees, as tcmalloc does
 * -DLIBC         it is a C library: __rseq_offset and the like describe the areas, and a
 *                thread that ends is unregistered
 * -DFAR          20 KB of other thread-local data beside the area */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../glibc.h"

#define gettid() ((pid_t)syscall(SYS_gettid)) /* glibc 2.30 */

#ifndef LEN
#define LEN 32
#endif

struct area {
	uint32_t words[LEN / 4];
} __attribute__((aligned(LEN)));

#ifdef ZEROS
#define INITIAL { { 0 } }
#else
#define INITIAL { { 0, (uint32_t)-1 } }
#endif

#ifdef SYMBOL
#define AREA __rseq_abi
__thread struct area __rseq_abi __attribute__((tls_model("initial-exec"))) = INITIAL;
#else
#define AREA area
static __thread struct area area __attribute__((tls_model("initial-exec"))) = INITIAL;
#endif

#ifdef SHIFT
static __thread struct area shifted[64] __attribute__((tls_model("initial-exec"))) = { [0 ... 63] = INITIAL };
#endif

#ifdef FAR
__thread char foreign_far[20000] __attribute__((tls_model("initial-exec"))) = { 1 };
#endif

static int threads __attribute__((unused));

static void register_this(void)
{
	void *where = &AREA;

#ifdef SECOND
	if (__atomic_fetch_add(&threads, 1, __ATOMIC_RELAXED) % 2)
		return;
#endif
#ifdef MAIN
	if (getpid() != gettid())
		return;
#endif
#ifdef SHIFT
	where = &shifted[__atomic_fetch_add(&threads, 1, __ATOMIC_RELAXED) % 64];
#endif
#ifdef HEAP
	/* At another distance from the thread pointer in each thread. */
	where = aligned_alloc(LEN, LEN * (1 + __atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED)));
	memcpy(where, &AREA, sizeof(AREA));
#endif
#ifdef FAR
	foreign_far[0]++;
#endif
	if (syscall(SYS_rseq, where, LEN, 0, SIGNATURE)) {
		perror("foreign: rseq");
		abort();
	}
}

#ifdef LIBC
/* As in ClickHouse's fork of musl. */
ptrdiff_t __rseq_offset;
unsigned int __rseq_size, __rseq_flags;

__attribute__((constructor)) static void publish(void)
{
	__rseq_offset = (char *)&AREA - rseqgo_thread_pointer();
	__rseq_size = LEN;
}
#endif

#ifdef LAZY
extern void *__libc_malloc(size_t);
extern void __libc_free(void *);
static __thread int asked __attribute__((tls_model("initial-exec")));

static void register_first(void)
{
	if (!asked) {
		asked = 1;
		register_this();
	}
}

void *malloc(size_t size)
{
	register_first();
	return __libc_malloc(size);
}

void free(void *memory)
{
	register_first();
	__libc_free(memory);
}
#else

__attribute__((constructor)) static void register_main(void)
{
	register_this();
}

struct start {
	void *(*run)(void *);
	void *arg;
};

static void *run_registered(void *arg)
{
	struct start s = *(struct start *)arg;

	free(arg);
	register_this();
	arg = s.run(s.arg);
#ifdef LIBC
	syscall(SYS_rseq, &AREA, LEN, 1, SIGNATURE);
#endif
	return arg;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr,
		   void *(*run)(void *), void *arg)
{
	static int (*next)(pthread_t *, const pthread_attr_t *,
			   void *(*)(void *), void *);
	struct start *s = malloc(sizeof(*s));

	if (!next)
		next = (int (*)(pthread_t *, const pthread_attr_t *,
				void *(*)(void *), void *))dlsym(RTLD_NEXT, "pthread_create");
	s->run = run;
	s->arg = arg;
	return next(thread, attr, run_registered, s);
}
#endif
