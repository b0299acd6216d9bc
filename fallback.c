//go:build linux && !android && cgo && !purego && (amd64 || arm64)

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
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
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

/* The process in which a thread is in decide, 0 if none is. Not a flag: a child
 * process that was forked meanwhile has the word, but not the thread. */
static pid_t deciding;

/* Until when an answer that may change stands (nanoseconds, CLOCK_MONOTONIC), and
 * how long the one before it stood. Written by the thread in decide. */
static uint64_t until, pause_before;
enum { PAUSE_MIN = 50000000 };		      /* 50 ms */
#define PAUSE_MAX (UINT64_C(60) * 1000000000) /* a minute */

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
	if (pthread_setspecific(key, &own)) {
		set_cpu_id(UNINITIALIZED); /* no memory: another time */
		return REFUSED;
	}
	e = rseqgo_call(&own, rseqgo_found.len, 0, RSEQGO_SIG);
	/* A filter that only pretends leaves BUSY. */
	if (!e && own_cpu_id() != BUSY)
		return own_cpu_id();
	pthread_setspecific(key, NULL);
	set_cpu_id(REFUSED);
	return REFUSED;
}

int rseqgo_kills(void)
{
	sigset_t all, before;
	int status = 0, e = 0;
	pid_t child, got;

	if (!prctl(PR_GET_SECCOMP, 0, 0, 0, 0))
		return 0;
	/* A filter, or this question is refused: then one is possible. */
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
	if (got < 0)
		e = errno;
	else if (WIFSIGNALED(status)) /* or it was ended by something else */
		e = WTERMSIG(status) == SIGSYS ? RSEQGO_KILLED : EINTR;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return e;
}

void rseqgo_allocate(void)
{
	/* volatile: a compiler may leave out an allocation that is not used. */
	void *volatile memory;

	for (size_t size = 8; size <= 8192; size *= 4) {
		memory = malloc(size);
		free(memory);
	}
}

/* What the TLS image that has the area says: the initial cpu_id. */
struct initial {
	const char *area;
	int found; /* 0: it is in no module's TLS, as the C library's own */
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
		i->found = 1;
		if (at + sizeof(i->cpu_id) <= p->p_filesz)
			memcpy(&i->cpu_id,
			       (char *)info->dlpi_addr + p->p_vaddr + at,
			       sizeof(i->cpu_id));
		return 1;
	}
	return 0;
}

static struct initial initial(ptrdiff_t offset)
{
	struct initial i = { rseqgo_thread_pointer() + offset, 0, 0 };

	dl_iterate_phdr(read_initial, &i);
	return i;
}

/* Whether an area at offset whose cpu_id is not negative is registered: it
 * begins negative, or is the C library's own. */
static int tells(ptrdiff_t offset)
{
	struct initial i = initial(offset);

	return !i.found || i.cpu_id < 0;
}

/* seen is what one thread knows. */
struct seen {
	struct rseqgo_registration registration;
	int claimed; /* the area that a library claims is here */
};

/* look asks about the calling thread. Some libraries register a thread when it
 * first allocates. */
static void *look(void *result)
{
	struct seen *s = result;

	rseqgo_allocate();
	s->registration = rseqgo_look();
	if (rseqgo_claim && *rseqgo_claim) {
		struct initial i = initial(*rseqgo_claim);

		s->claimed = i.found && i.cpu_id < 0;
	}
	return NULL;
}

/* look_elsewhere looks from a thread made for the purpose, which takes no
 * signals, as the calling one. Returns zero or an errno. */
static int look_elsewhere(struct seen *s)
{
	pthread_t thread;
	int e = pthread_create(&thread, NULL, look, s);

	if (!e)
		pthread_join(thread, NULL);
	return e;
}

static int set_foreign(const struct rseqgo_registration *r)
{
	struct rseqgo_info *f = &rseqgo_found;

	f->via = rseqgo_claim && r->offset == *rseqgo_claim ?
			 RSEQGO_VIA_SYMBOL :
			 RSEQGO_VIA_KERNEL;
	f->offset = r->offset;
	f->len = r->len;
	f->signature = r->signature;
	f->owner = RSEQGO_FOREIGN;
	__atomic_store_n(&f->error, 0, __ATOMIC_RELAXED);
	/* Of one that nobody was seen to register, what each has. */
	__atomic_store_n(&f->size,
			 rseqgo_registered_size(r->len ? r->len :
							 RSEQGO_ORIGINAL_LEN),
			 __ATOMIC_RELEASE);
	return 0;
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
	__atomic_store_n(&f->error, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&f->size, rseqgo_registered_size(f->len),
			 __ATOMIC_RELEASE);
	return 0;
}

/* decide finds out who owns the areas, by what the kernel says of this thread
 * and of a new one, and returns why nobody does: an errno or an RSEQGO_ constant. */
static int decide(void)
{
	struct seen this_thread = { 0 }, new_thread = { 0 };
	struct rseqgo_registration *here = &this_thread.registration,
				   *there = &new_thread.registration;
	int e = rseqgo_kills();

	if (e)
		return e;
	e = rseqgo_call(NULL, 0, 0, 0);
	if (e != -EINVAL)
		return e ? -e : EPROTO;
	look(&this_thread);
	if (here->state == RSEQGO_COULD_NOT_ASK && here->error != EINVAL)
		return here->error;
	/* Half of what has to be known decides nothing. */
	e = look_elsewhere(&new_thread);
	if (e)
		return e;
	if (here->state == RSEQGO_REGISTERED &&
	    there->state == RSEQGO_REGISTERED) {
		/* Another library registers every thread. A thread that it
		 * missed must be told by its cpu_id. */
		if (here->offset != there->offset || here->len != there->len ||
		    !tells(here->offset))
			return RSEQGO_ELSEWHERE;
		return set_foreign(here);
	}
	if (here->state != RSEQGO_NOT_REGISTERED &&
	    there->state != RSEQGO_NOT_REGISTERED)
		return RSEQGO_ELSEWHERE;
	/* Another library registers some threads, or nobody any. One that says
	 * by its symbols that it registers threads keeps its right to all: it
	 * may end the process where its registration fails. */
	if (rseqgo_claim) {
		struct rseqgo_registration claimed = { .offset = *rseqgo_claim };

		if (!this_thread.claimed || !new_thread.claimed)
			return RSEQGO_ELSEWHERE;
		if (here->state == RSEQGO_REGISTERED && here->offset == claimed.offset)
			claimed = *here;
		else if (there->state == RSEQGO_REGISTERED && there->offset == claimed.offset)
			claimed = *there;
		return set_foreign(&claimed);
	}
	return rseqgo_forbidden ? RSEQGO_FORBIDDEN : set_self();
}

static uint64_t now(void)
{
	struct timespec t = { 0 };

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* stays says whether an error is the answer for the life of the process. */
static int stays(int e)
{
	return e == ENOSYS || e == RSEQGO_KILLED || e == RSEQGO_FORBIDDEN;
}

/* find_out has decide called by one thread at a time. It returns 0 if another one
 * is at it. Meanwhile the thread is not interrupted by a signal, whose handler might ask,
 * fork or jump away, nor cancelled. */
static int find_out(struct rseqgo_info *f)
{
	pid_t self = getpid(), holder = 0;
	sigset_t all, before;
	int cancel, e, mine;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	do
		mine = __atomic_compare_exchange_n(&deciding, &holder, self, 0,
						   __ATOMIC_ACQUIRE,
						   __ATOMIC_RELAXED);
	while (!mine && holder != self);
	if (mine) {
		e = __atomic_load_n(&f->error, __ATOMIC_RELAXED);
		if (!f->size && !stays(e)) {
			e = decide();
			if (e) {
				pause_before *= 2;
				if (pause_before < PAUSE_MIN)
					pause_before = PAUSE_MIN;
				if (pause_before > PAUSE_MAX)
					pause_before = PAUSE_MAX;
				__atomic_store_n(&until, now() + pause_before,
						 __ATOMIC_RELAXED);
				__atomic_store_n(&f->error, e, __ATOMIC_RELEASE);
			}
		}
		__atomic_store_n(&deciding, 0, __ATOMIC_RELEASE);
	}
	pthread_setcancelstate(cancel, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return mine;
}

void rseqgo_disown(void)
{
	__atomic_store_n(&rseqgo_found.owner, RSEQGO_NONE, __ATOMIC_RELAXED);
	__atomic_store_n(&rseqgo_found.error, ENOSYS, __ATOMIC_RELAXED);
	__atomic_store_n(&rseqgo_found.size, 0, __ATOMIC_RELEASE);
}

int rseqgo_register(int insist)
{
	struct rseqgo_info *f = (struct rseqgo_info *)rseqgo_discover();
	uint32_t size = __atomic_load_n(&f->size, __ATOMIC_ACQUIRE);
	int e = __atomic_load_n(&f->error, __ATOMIC_ACQUIRE);

	if (!size) {
		if (stays(e) || (e && !insist &&
				 now() < __atomic_load_n(&until, __ATOMIC_RELAXED)))
			return REFUSED;
		if (!find_out(f))
			return RSEQGO_BEING_FOUND_OUT;
		size = __atomic_load_n(&f->size, __ATOMIC_ACQUIRE);
		if (!size)
			return REFUSED;
	}
	if (__atomic_load_n(&f->owner, __ATOMIC_RELAXED) == RSEQGO_SELF)
		return register_own();
	return rseqgo_cpu_id(f);
}

int rseqgo_register_thread(void)
{
	return rseqgo_register(0);
}
