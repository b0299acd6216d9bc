//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

/* SPDX-License-Identifier: MIT
 *
 * Asks the kernel about the calling thread's registration, without changing it, and
 * whether a seccomp filter answers in the kernel's place.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <link.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Lengths up to this are tried; Linux 7.2 has 33. */
enum { MAX_LEN = 256 };

/* How many bytes beyond the size of all modules' TLS, on either side of the thread
 * pointer, a C library's area is looked for: struct pthread has 2.3 KiB in glibc 2.36. */
enum { LIBC_SPAN = 8192 };

int rseqgo_call(const void *area, uint32_t len, int flags, uint32_t signature)
{
	int saved = errno;
	int result = 0;

	if (syscall(RSEQGO_NR_RSEQ, area, len, flags, signature))
		result = -errno;
	errno = saved;
	return result;
}

int rseqgo_filter_kills(void)
{
	sigset_t all, before;
	int status = 0, e = 0;
	pid_t child, got;

	if (!prctl(PR_GET_SECCOMP, 0, 0, 0, 0))
		return 0;
	/* There is a filter, or prctl itself was refused, by a filter perhaps. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	/* A fork that runs no fork handlers and sends no SIGCHLD. */
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
	else if (WIFSIGNALED(status)) /* EINTR: something else ended it */
		e = WTERMSIG(status) == SIGSYS ? RSEQGO_KILLED : EINTR;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return e;
}

/* unregister_wrongly tries to unregister with a wrong signature. The kernel answers
 * EPERM if and only if address and length are the registered ones, else EINVAL, and
 * does nothing in either case (kernel/rseq.c). The signature is random: a fixed one could
 * be that of some library, and the call would unregister its area. */
static int unregister_wrongly(const void *area, uint32_t len)
{
	struct timespec now = { 0 };
	uint32_t wrong;

	clock_gettime(CLOCK_MONOTONIC, &now);
	wrong = (uint32_t)now.tv_nsec * 2654435761U ^ (uint32_t)(uintptr_t)&now;
	if (wrong == RSEQGO_SIG)
		wrong++;
	return rseqgo_call(area, len, RSEQGO_FLAG_UNREGISTER, wrong);
}

/* why_not_ask returns zero if the kernel answers, or the errno that came in its place. A
 * filter may say EPERM to every call, so it asks about an address that cannot be
 * registered. */
static int why_not_ask(void)
{
	int e = unregister_wrongly(RSEQGO_KERNEL_ADDRESS, RSEQGO_ORIGINAL_LEN);

	if (!e) /* a filter pretends success */
		return EPROTO;
	return e == -EINVAL ? 0 : -e;
}

/* unregistered_or_unknown tries to register at a kernel address. That fails with EFAULT
 * only in an unregistered thread. EINVAL means that the thread is registered, or
 * comes from a filter. */
static struct rseqgo_registration unregistered_or_unknown(void)
{
	int e = rseqgo_call(RSEQGO_KERNEL_ADDRESS, RSEQGO_ORIGINAL_LEN, 0,
			    RSEQGO_SIG);
	struct rseqgo_registration r = { .error = e ? -e : EPROTO };

	if (e == -EFAULT)
		r = (struct rseqgo_registration){ .state = RSEQGO_UNREGISTERED };
	return r;
}

/* try_len asks whether the thread is registered at exactly offset and len. */
static int try_len(ptrdiff_t offset, uint32_t len, struct rseqgo_registration *r)
{
	const void *area = rseqgo_thread_pointer() + offset;

	if (unregister_wrongly(area, len) != -EPERM)
		return 0;
	*r = (struct rseqgo_registration){ RSEQGO_REGISTERED, offset, len, 0, 0 };
	/* Registered already: EBUSY for the right signature, EPERM for another. */
	if (rseqgo_call(area, len, 0, RSEQGO_SIG) == -EBUSY)
		r->signature = RSEQGO_SIG;
	return 1;
}

struct rseqgo_registration rseqgo_ask(ptrdiff_t offset, uint32_t likely_len)
{
	struct rseqgo_registration r = { .error = why_not_ask() };

	if (r.error || try_len(offset, likely_len, &r))
		return r;
	for (uint32_t len = RSEQGO_ORIGINAL_LEN; len <= MAX_LEN; len++)
		if (try_len(offset, len, &r))
			return r;
	return unregistered_or_unknown();
}

static int add_tls(struct dl_phdr_info *info, size_t size, void *sum)
{
	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_TLS)
			*(size_t *)sum += info->dlpi_phdr[i].p_memsz +
					  info->dlpi_phdr[i].p_align;
	return 0;
}

/* tls_size returns how many bytes the modules' TLS can take in a thread. Called from a
 * library that a static program loaded, dl_iterate_phdr leaves the program out, so
 * the program's headers come from the auxiliary vector. */
static size_t tls_size(void)
{
	size_t sum = 0;
	struct dl_phdr_info program = {
		.dlpi_phdr = (const void *)getauxval(AT_PHDR),
		.dlpi_phnum = getauxval(AT_PHNUM),
	};

	if (program.dlpi_phdr)
		add_tls(&program, sizeof(program), &sum);
	dl_iterate_phdr(add_tls, &sum);
	return sum;
}

struct rseqgo_registration rseqgo_look(ptrdiff_t guess)
{
	struct rseqgo_registration r = { .error = why_not_ask() };
	uint32_t len = getauxval(RSEQGO_AT_RSEQ_FEATURE_SIZE);
	ptrdiff_t span;

	if (r.error)
		return r;
	r = unregistered_or_unknown();
	if (r.state == RSEQGO_UNREGISTERED || r.error != EINVAL)
		return r;
	if (guess) {
		r = rseqgo_ask(guess, RSEQGO_ORIGINAL_LEN);
		if (r.state == RSEQGO_REGISTERED)
			return r;
	}
	span = (tls_size() + LIBC_SPAN) & -(size_t)RSEQGO_ORIGINAL_ALIGN;
	/* So that each address that is tried is aligned. */
	span += (uintptr_t)rseqgo_thread_pointer() % RSEQGO_ORIGINAL_ALIGN;
	for (ptrdiff_t at = -span; at < span; at += RSEQGO_ORIGINAL_ALIGN) {
		if (try_len(at, RSEQGO_ORIGINAL_LEN, &r))
			return r;
		if (len > RSEQGO_ORIGINAL_LEN && try_len(at, len, &r))
			return r;
	}
	return r;
}

uint32_t rseqgo_field_bytes(uint32_t len)
{
	uint32_t known = getauxval(RSEQGO_AT_RSEQ_FEATURE_SIZE);

	if (known < RSEQGO_ORIGINAL_FEATURE_SIZE)
		known = RSEQGO_ORIGINAL_FEATURE_SIZE;
	return len < known ? len : known;
}
