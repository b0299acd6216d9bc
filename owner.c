//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

/* SPDX-License-Identifier: MIT
 *
 * Who owns the areas of this process: the constructor that finds what the C library
 * registered, and the search where it registered nothing. What is known is in info, which
 * others read through rseqgo_discover; glibc.c fills its part once, for the constructor,
 * and all else is written here.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>
#include <unistd.h>

static struct rseqgo_info info;
static int found_done; /* find ran */

/* The environment forbids to register own areas: RSEQ_GO_REGISTER=0. */
static int forbidden;

/* The process of which a thread is in find_owner, 0 if none is. It is no flag, because a
 * child process that is forked meanwhile inherits the value, but not the thread. */
static pid_t finding;

/* When the next search may be, if the last one failed (nanoseconds, CLOCK_MONOTONIC), and
 * the pause before it, which doubles. The thread in find_owner writes them. */
static uint64_t retry_at, retry_pause;
enum { PAUSE_MIN = 50000000 };		      /* 50 ms */
#define PAUSE_MAX (UINT64_C(60) * 1000000000) /* a minute */

/* find runs as a constructor because dlsym can be called there: on the loader's thread,
 * before Go's own start (which has no priority). From Go's init dlsym can deadlock: in
 * a library that a C program loads with dlopen, another constructor may wait for Go
 * while the loader's lock is held, and Go's init, on another thread, would wait for
 * that lock. */
static __attribute__((constructor(101))) void find(void)
{
	struct rseqgo_info *f = &info;
	const char *registers = secure_getenv("RSEQ_GO_REGISTER");

	if (found_done)
		return;
	f->kernel_feature_size = getauxval(RSEQGO_AT_RSEQ_FEATURE_SIZE);
	f->kernel_align = getauxval(RSEQGO_AT_RSEQ_ALIGN);
	forbidden = registers && !strcmp(registers, "0");
	rseqgo_find_symbols(f);
	if (f->owner == RSEQGO_NONE)
		f->offset = rseqgo_own_offset();
	found_done = 1;
}

const struct rseqgo_info *rseqgo_discover(void)
{
	/* It has not run only in a constructor that runs before it. That is on the
	 * loader's thread too, so it can run here. */
	if (!found_done)
		find();
	return &info;
}

int rseqgo_signature_known(const struct rseqgo_info *f)
{
	return f->owner == RSEQGO_SELF ||
	       (f->owner == RSEQGO_LIBC && f->via != RSEQGO_VIA_KERNEL);
}

void rseqgo_allocate(void)
{
	/* volatile: a compiler may remove an allocation that is not used. */
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

/* cpu_id_tells says whether a cpu_id that is not negative means that the area at offset
 * is registered: it is negative at first, or the area is the C library's own. */
static int cpu_id_tells(ptrdiff_t offset)
{
	struct initial i = initial(offset);

	return !i.found || i.cpu_id < 0;
}

/* seen is what one thread found. */
struct seen {
	struct rseqgo_registration registration;
	int claim_here; /* the library's variable is in this thread's TLS, and its
			   cpu_id is negative at first */
};

/* look asks about the calling thread. It allocates first, because some libraries
 * register a thread then. */
static void *look(void *result)
{
	struct seen *s = result;

	rseqgo_allocate();
	s->registration = rseqgo_look(rseqgo_claimed_offset());
	if (rseqgo_claimed_offset()) {
		struct initial i = initial(rseqgo_claimed_offset());

		s->claim_here = i.found && i.cpu_id < 0;
	}
	return NULL;
}

/* look_in_new_thread looks from a thread made for the purpose. It takes no signals, as
 * the calling one does not. Returns zero or an errno. */
static int look_in_new_thread(struct seen *s)
{
	pthread_t thread;
	int e = pthread_create(&thread, NULL, look, s);

	if (!e)
		pthread_join(thread, NULL);
	return e;
}

/* set_owner publishes the owner. len is zero if no registration was seen; then the size is
 * what each has at least. */
static void set_owner(enum rseqgo_owner owner, enum rseqgo_via via,
		      const struct rseqgo_registration *r)
{
	info.owner = owner;
	info.via = via;
	info.offset = r->offset;
	info.len = r->len;
	info.signature = r->signature;
	__atomic_store_n(&info.error, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&info.size,
			 rseqgo_field_bytes(r->len ? r->len :
							 RSEQGO_ORIGINAL_LEN),
			 __ATOMIC_RELEASE);
}

static int set_foreign(const struct rseqgo_registration *r)
{
	set_owner(RSEQGO_FOREIGN,
		  rseqgo_claim && r->offset == *rseqgo_claim ?
			  RSEQGO_VIA_SYMBOL :
			  RSEQGO_VIA_KERNEL,
		  r);
	return 0;
}

static int set_self(void)
{
	struct rseqgo_registration r = { .offset = rseqgo_own_offset(),
					 .signature = RSEQGO_SIG };
	int e = rseqgo_own_prepare(info.kernel_feature_size, info.kernel_align,
				   &r.len);

	if (!e)
		set_owner(RSEQGO_SELF, RSEQGO_VIA_OWN, &r);
	return e;
}

/* find_owner finds the owner by what the kernel says of this thread and of a new one. It
 * returns 0, or why there is no owner: an errno or an RSEQGO_ constant. */
static int find_owner(void)
{
	struct seen this_thread = { 0 }, new_thread = { 0 };
	struct rseqgo_registration *here = &this_thread.registration,
				   *there = &new_thread.registration;
	int e = rseqgo_filter_kills();

	if (e)
		return e;
	e = rseqgo_call(NULL, 0, 0, 0);
	if (e != -EINVAL)
		return e ? -e : EPROTO;
	look(&this_thread);
	if (here->state == RSEQGO_COULD_NOT_ASK && here->error != EINVAL)
		return here->error;
	/* Without a second thread nothing can be decided. */
	e = look_in_new_thread(&new_thread);
	if (e)
		return e;
	if (here->state == RSEQGO_REGISTERED &&
	    there->state == RSEQGO_REGISTERED) {
		/* Another library registers every thread. In a thread that it
		 * missed the cpu_id must be negative. */
		if (here->offset != there->offset || here->len != there->len ||
		    !cpu_id_tells(here->offset))
			return RSEQGO_ELSEWHERE;
		return set_foreign(here);
	}
	/* Neither is known to be unregistered, and not both are registered. */
	if (here->state != RSEQGO_UNREGISTERED &&
	    there->state != RSEQGO_UNREGISTERED)
		return RSEQGO_ELSEWHERE;
	/* Another library registers some threads, or no thread is registered.
	 * If a library says by its symbols that it registers threads, nobody may
	 * register before it: it may end the process if its registration fails. */
	if (rseqgo_claim) {
		struct rseqgo_registration claimed = { .offset = *rseqgo_claim };

		if (!this_thread.claim_here || !new_thread.claim_here)
			return RSEQGO_ELSEWHERE;
		if (here->state == RSEQGO_REGISTERED && here->offset == claimed.offset)
			claimed = *here;
		else if (there->state == RSEQGO_REGISTERED && there->offset == claimed.offset)
			claimed = *there;
		return set_foreign(&claimed);
	}
	return forbidden ? RSEQGO_FORBIDDEN : set_self();
}

static uint64_t now(void)
{
	struct timespec t = { 0 };

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* final says whether an error is the answer for the life of the process. */
static int final(int e)
{
	return e == ENOSYS || e == RSEQGO_KILLED || e == RSEQGO_FORBIDDEN;
}

/* try_find_owner calls find_owner, and returns 0 if another thread of this process is in
 * it. (The number of another process was inherited by a fork, and is replaced.) Meanwhile
 * all signals are blocked, because a handler might register, fork or jump away, and the
 * thread cannot be cancelled. */
static int try_find_owner(struct rseqgo_info *f)
{
	pid_t self = getpid(), holder = 0;
	sigset_t all, before;
	int cancel, e, mine;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	do
		mine = __atomic_compare_exchange_n(&finding, &holder, self, 0,
						   __ATOMIC_ACQUIRE,
						   __ATOMIC_RELAXED);
	while (!mine && holder != self);
	if (mine) {
		e = __atomic_load_n(&f->error, __ATOMIC_RELAXED);
		if (!f->size && !final(e)) {
			e = find_owner();
			if (e) {
				retry_pause *= 2;
				if (retry_pause < PAUSE_MIN)
					retry_pause = PAUSE_MIN;
				if (retry_pause > PAUSE_MAX)
					retry_pause = PAUSE_MAX;
				__atomic_store_n(&retry_at, now() + retry_pause,
						 __ATOMIC_RELAXED);
				__atomic_store_n(&f->error, e, __ATOMIC_RELEASE);
			}
		}
		__atomic_store_n(&finding, 0, __ATOMIC_RELEASE);
	}
	pthread_setcancelstate(cancel, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return mine;
}

void rseqgo_forget_areas(void)
{
	__atomic_store_n(&info.owner, RSEQGO_NONE, __ATOMIC_RELAXED);
	__atomic_store_n(&info.error, ENOSYS, __ATOMIC_RELAXED);
	__atomic_store_n(&info.size, 0, __ATOMIC_RELEASE);
}

int rseqgo_register(int insist)
{
	struct rseqgo_info *f = (struct rseqgo_info *)rseqgo_discover();
	uint32_t size = __atomic_load_n(&f->size, __ATOMIC_ACQUIRE);
	int e = __atomic_load_n(&f->error, __ATOMIC_ACQUIRE);

	if (!size) {
		if (final(e) || (e && !insist &&
				 now() < __atomic_load_n(&retry_at, __ATOMIC_RELAXED)))
			return RSEQGO_CPU_ID_REGISTRATION_FAILED;
		if (!try_find_owner(f))
			return RSEQGO_OWNER_PENDING;
		size = __atomic_load_n(&f->size, __ATOMIC_ACQUIRE);
		if (!size)
			return RSEQGO_CPU_ID_REGISTRATION_FAILED;
	}
	if (__atomic_load_n(&f->owner, __ATOMIC_RELAXED) == RSEQGO_SELF)
		return rseqgo_own_register();
	return rseqgo_cpu_id(f);
}

int rseqgo_register_thread(void)
{
	return rseqgo_register(0);
}
