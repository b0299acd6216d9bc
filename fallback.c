//go:build linux && cgo && !purego && (amd64 || arm64)

/* SPDX-License-Identifier: MIT
 *
 * Where the C library registered no area: finds out whether another library
 * does, and if none, registers an area of our own for each thread that asks.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* What cpu_id holds in an own area that is not registered. The kernel knows the
 * first two and sets the first when it unregisters. */
enum {
	UNINITIALIZED = RSEQGO_CPU_ID_UNINITIALIZED, /* may be registered */
	REFUSED = RSEQGO_CPU_ID_REGISTRATION_FAILED, /* by the kernel or a filter */
	FINISHED = REFUSED - 1, /* the thread's destructors run: never again */
	BUSY = REFUSED - 2,	/* being registered; seen by signal handlers only */
};

/* The longest registration that fits; see own. */
enum { OWN_LEN_MAX = 56, OWN_ALIGN = 64 };

/* The area of this package's own, in every thread: 64 bytes of static TLS,
 * which every thread has from its start, at one offset, and which a library
 * loaded by dlopen finds room for (docs/compatibility.md). */
static __thread struct {
	char before[RSEQGO_OFFSETOF_CPU_ID];
	uint32_t cpu_id;
	char behind[OWN_LEN_MAX - RSEQGO_ENDOF_CPU_ID];
	int32_t finished;
	int32_t never; /* where nobody looks at an area any more */
} own __attribute__((aligned(OWN_ALIGN), tls_model("initial-exec"))) = {
	.cpu_id = UNINITIALIZED,
	.never = UNINITIALIZED,
};

static pthread_key_t key; /* its destructor unregisters */
static int deciding;      /* held by the thread in decide */

ptrdiff_t rseqgo_own_offset(void)
{
	return (char *)&own - rseqgo_thread_pointer();
}

ptrdiff_t rseqgo_never_offset(void)
{
	return (char *)&own.never - RSEQGO_OFFSETOF_CPU_ID -
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

/* finish is the key's destructor. On musl a detached thread unmaps its stack,
 * TLS included, before it ends; were it registered still, the kernel would kill
 * the process. */
static void finish(void *unused)
{
	(void)unused;
	own.finished = 1; /* first: a signal handler may ask meanwhile */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (!rseqgo_call(&own, rseqgo_found.len, RSEQGO_FLAG_UNREGISTER,
			 RSEQGO_SIG))
		set_cpu_id(FINISHED);
}

/* register_own registers the calling thread. */
static int register_own(void)
{
	uint32_t expected = UNINITIALIZED;
	int e;

	if (own.finished)
		return FINISHED;
	if (own_cpu_id() == REFUSED)
		expected = REFUSED;
	/* From here on until the end a signal handler that asks finds BUSY. */
	if (!__atomic_compare_exchange_n(&own.cpu_id, &expected,
					 (uint32_t)BUSY, 0, __ATOMIC_RELAXED,
					 __ATOMIC_RELAXED))
		return (int32_t)expected;
	/* The destructor comes first: without it, no registration. */
	e = -pthread_setspecific(key, &own);
	if (!e)
		e = rseqgo_call(&own, rseqgo_found.len, 0, RSEQGO_SIG);
	if (!e)
		return own_cpu_id();
	pthread_setspecific(key, NULL);
	set_cpu_id(REFUSED);
	return REFUSED;
}

int rseqgo_kills(void)
{
	sigset_t all, before;
	int status = 0;
	pid_t child, got;

	if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 2 /* SECCOMP_MODE_FILTER */)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	/* A fork without its handlers and without SIGCHLD to anybody. */
	child = syscall(SYS_clone, 0, 0, 0, 0, 0);
	if (!child) {
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* no core file */
		rseqgo_call(NULL, 0, 0, 0);
		syscall(SYS_exit_group, 0);
	}
	got = child;
	if (child > 0)
		do
			got = waitpid(child, &status, __WALL);
		while (got < 0 && errno == EINTR);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	/* Who may not fork cannot know, and does not dare. */
	return child < 0 || got < 0 || WIFSIGNALED(status);
}

/* The initial cpu_id of the area at address, from the image of the TLS that it
 * is in; UNINITIALIZED if it is in none, as the C library's own. */
struct initial {
	const char *area;
	int32_t cpu_id;
};

static int read_initial(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct initial *i = arg;
	const char *block = info->dlpi_tls_data;

	if (size < offsetof(struct dl_phdr_info, dlpi_tls_data) +
			   sizeof(info->dlpi_tls_data) || !block)
		return 0;
	for (int n = 0; n < info->dlpi_phnum; n++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[n];
		size_t at = i->area - block +
			    RSEQGO_OFFSETOF_CPU_ID;

		if (p->p_type != PT_TLS || i->area < block ||
		    i->area >= block + p->p_memsz)
			continue;
		i->cpu_id = 0;
		if (at + sizeof(i->cpu_id) <= p->p_filesz)
			memcpy(&i->cpu_id,
			       (char *)info->dlpi_addr + p->p_vaddr + at,
			       sizeof(i->cpu_id));
		return 1;
	}
	return 0;
}

static int32_t initial_cpu_id(ptrdiff_t offset)
{
	struct initial i = { rseqgo_thread_pointer() + offset, UNINITIALIZED };

	dl_iterate_phdr(read_initial, &i);
	return i.cpu_id;
}

static void *look(void *result)
{
	*(struct rseqgo_registration *)result = rseqgo_look();
	return NULL;
}

/* look_elsewhere looks from a thread made for the purpose, which takes no
 * signals. */
static struct rseqgo_registration look_elsewhere(void)
{
	struct rseqgo_registration r = { 0 };
	sigset_t all, before;
	pthread_t thread;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	r.error = pthread_create(&thread, NULL, look, &r);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!r.error)
		pthread_join(thread, NULL);
	return r;
}

static void set_foreign(const struct rseqgo_registration *r)
{
	struct rseqgo_info *f = &rseqgo_found;

	f->via = r->offset == rseqgo_symbol_offset ? RSEQGO_VIA_SYMBOL :
						      RSEQGO_VIA_KERNEL;
	f->offset = r->offset;
	f->len = r->len;
	f->signature = r->signature;
	f->owner = RSEQGO_FOREIGN;
	__atomic_store_n(&f->size, rseqgo_registered_size(r->len),
			 __ATOMIC_RELEASE);
}

static int set_self(void)
{
	struct rseqgo_info *f = &rseqgo_found;
	int e = pthread_key_create(&key, finish);

	if (e)
		return e;
	/* What the kernel advertises, so that Linux 7.1 and later give the V2
	 * mode; the original length where it advertises less, or what own has
	 * no room for. */
	f->len = f->kernel_feature_size;
	if (f->len < RSEQGO_ORIGINAL_LEN || f->len > OWN_LEN_MAX ||
	    f->kernel_align > OWN_ALIGN)
		f->len = RSEQGO_ORIGINAL_LEN;
	f->via = RSEQGO_VIA_OWN;
	f->offset = rseqgo_own_offset();
	f->signature = RSEQGO_SIG;
	f->owner = RSEQGO_SELF;
	__atomic_store_n(&f->size, rseqgo_registered_size(f->len),
			 __ATOMIC_RELEASE);
	return 0;
}

/* decide finds out who owns the areas, by what the kernel says of this thread
 * and of a new one, and returns why nobody does: an errno or an RSEQGO_ constant. */
static int decide(void)
{
	struct rseqgo_registration here, there, *known;
	int e;

	if (rseqgo_kills())
		return RSEQGO_KILLED;
	e = rseqgo_call(NULL, 0, 0, 0);
	if (e != -EINVAL)
		return -e;
	here = rseqgo_look();
	there = look_elsewhere();
	if (here.state == RSEQGO_COULD_NOT_ASK && here.error != EINVAL)
		return here.error;
	if (here.state == RSEQGO_REGISTERED &&
	    there.state == RSEQGO_REGISTERED) {
		/* Another library registers every thread. A thread that it
		 * missed must be told by its cpu_id. */
		if (here.offset != there.offset || here.len != there.len ||
		    initial_cpu_id(here.offset) >= 0)
			return RSEQGO_ELSEWHERE;
		set_foreign(&here);
		return 0;
	}
	if (here.state == RSEQGO_NOT_REGISTERED ||
	    there.state == RSEQGO_NOT_REGISTERED) {
		/* Another library registers some threads, or nobody any. The
		 * first kind, if it goes by the book (the symbol), keeps its
		 * right to the others; else we take those that are free. */
		known = here.state == RSEQGO_REGISTERED ? &here : &there;
		if (known->state == RSEQGO_REGISTERED &&
		    known->offset == rseqgo_symbol_offset &&
		    initial_cpu_id(known->offset) < 0) {
			set_foreign(known);
			return 0;
		}
		return set_self();
	}
	return RSEQGO_ELSEWHERE;
}

void rseqgo_disown(void)
{
	__atomic_store_n(&rseqgo_found.owner, RSEQGO_NONE, __ATOMIC_RELAXED);
	__atomic_store_n(&rseqgo_found.error, ENOSYS, __ATOMIC_RELAXED);
	__atomic_store_n(&rseqgo_found.size, 0, __ATOMIC_RELEASE);
}

int rseqgo_register_thread(void)
{
	struct rseqgo_info *f = (struct rseqgo_info *)rseqgo_discover();
	uint32_t size = __atomic_load_n(&f->size, __ATOMIC_ACQUIRE);
	int e = __atomic_load_n(&f->error, __ATOMIC_RELAXED);

	if (!size && e != ENOSYS && e != RSEQGO_KILLED) {
		if (__atomic_exchange_n(&deciding, 1, __ATOMIC_ACQUIRE))
			return -1; /* another thread is about it, or this one,
				      below a signal handler */
		if (!f->size)
			__atomic_store_n(&f->error, decide(), __ATOMIC_RELAXED);
		size = f->size;
		__atomic_store_n(&deciding, 0, __ATOMIC_RELEASE);
	}
	if (!size) {
		/* Whoever asks in passing need not ask again on this thread. */
		uint32_t expected = UNINITIALIZED;

		__atomic_compare_exchange_n(&own.cpu_id, &expected,
					    (uint32_t)REFUSED, 0,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
		return REFUSED;
	}
	if (__atomic_load_n(&f->owner, __ATOMIC_RELAXED) == RSEQGO_SELF)
		return register_own();
	return rseqgo_cpu_id(f);
}
