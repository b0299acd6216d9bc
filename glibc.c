//go:build linux && !android && cgo && !purego && (amd64 || arm64)

/* SPDX-License-Identifier: MIT
 *
 * Finds the area that the C library registered, and has the kernel confirm or
 * find a registration. See glibc.h for what is found, fallback.c for what
 * happens where the C library registered nothing.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <gnu/libc-version.h>
#endif

/* Lengths up to this are tried; Linux 7.2 has 33. */
enum { MAX_LEN = 256 };

/* How far from the ends of the program's static TLS a C library's area is
 * looked for: struct pthread has 2.3 KiB in glibc 2.36. */
enum { LIBC_SPAN = 8192 };

/* glibc's public symbols, version GLIBC_2.35. These references are for fully
 * static programs, where dlsym finds nothing. They are weak: no program needs
 * GLIBC_2.35 for their sake. They are not hidden, although that would keep
 * them out of dynamic links, because one hidden reference makes the linker
 * refuse the strong ones of other C code in the same program. In a dynamic
 * program their value is not used: it depends on the linker. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));
extern const unsigned int __rseq_flags __attribute__((weak));

/* librseq's (its include/rseq/rseq.h), up to the versions of 2025 that register
 * threads; weak for programs that link it statically. */
extern int rseq_register_current_thread(void) __attribute__((weak));
extern ptrdiff_t rseq_offset __attribute__((weak));

struct rseqgo_info rseqgo_found;
const ptrdiff_t *rseqgo_claim;
int rseqgo_forbidden;
static int found_done;

int rseqgo_call(const void *area, uint32_t len, int flags, uint32_t signature)
{
	int saved = errno;
	int result = 0;

	if (syscall(RSEQGO_NR_RSEQ, area, len, flags, signature))
		result = -errno;
	errno = saved;
	return result;
}

/* unregister_wrongly tries to unregister with a signature that is surely
 * wrong: -EPERM if and only if address and length are the registered ones,
 * -EINVAL otherwise, no effect in either case (kernel/rseq.c). The signature is
 * drawn anew each time, since the right one, of another library that we know
 * nothing of, would unregister. */
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

/* can_ask says whether it is the kernel that answers: a filter may say EPERM to
 * everything, so ask first about an address that nobody can register. Returns
 * zero or the errno that came instead. */
static int can_ask(void)
{
	int e = unregister_wrongly(RSEQGO_KERNEL_ADDRESS, RSEQGO_ORIGINAL_LEN);

	if (!e) /* a filter pretends that it was done */
		return EPROTO;
	return e == -EINVAL ? 0 : -e;
}

/* registered_anywhere: a registration at a kernel address fails with EFAULT in
 * an unregistered thread alone. EINVAL means registered, or a filter. */
static struct rseqgo_registration registered_anywhere(void)
{
	int e = rseqgo_call(RSEQGO_KERNEL_ADDRESS, RSEQGO_ORIGINAL_LEN, 0,
			    RSEQGO_SIG);
	struct rseqgo_registration r = { .error = e ? -e : EPROTO };

	if (e == -EFAULT)
		r = (struct rseqgo_registration){ .state = RSEQGO_NOT_REGISTERED };
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
	struct rseqgo_registration r = { .error = can_ask() };

	if (r.error || try_len(offset, likely_len, &r))
		return r;
	for (uint32_t len = RSEQGO_ORIGINAL_LEN; len <= MAX_LEN; len++)
		if (try_len(offset, len, &r))
			return r;
	return registered_anywhere();
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

/* tls_size returns how many bytes the modules' TLS can take in a thread. In a
 * library that a static program loaded, dl_iterate_phdr does not know the
 * program, the auxiliary vector does. */
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

struct rseqgo_registration rseqgo_look(void)
{
	struct rseqgo_registration r = { .error = can_ask() };
	uint32_t len = rseqgo_found.kernel_feature_size;
	ptrdiff_t span;

	if (r.error)
		return r;
	r = registered_anywhere();
	if (r.state == RSEQGO_NOT_REGISTERED || r.error != EINVAL)
		return r;
	if (rseqgo_claim && *rseqgo_claim) {
		r = rseqgo_ask(*rseqgo_claim, RSEQGO_ORIGINAL_LEN);
		if (r.state == RSEQGO_REGISTERED)
			return r;
	}
	span = (tls_size() + LIBC_SPAN) & -(size_t)RSEQGO_ORIGINAL_ALIGN;
	span += (uintptr_t)rseqgo_thread_pointer() % RSEQGO_ORIGINAL_ALIGN;
	for (ptrdiff_t at = -span; at < span; at += RSEQGO_ORIGINAL_ALIGN) {
		if (try_len(at, RSEQGO_ORIGINAL_LEN, &r))
			return r;
		if (len > RSEQGO_ORIGINAL_LEN && try_len(at, len, &r))
			return r;
	}
	return r;
}

uint32_t rseqgo_registered_size(uint32_t len)
{
	uint32_t known = rseqgo_found.kernel_feature_size;

	if (known < RSEQGO_ORIGINAL_FEATURE_SIZE)
		known = RSEQGO_ORIGINAL_FEATURE_SIZE;
	return len < known ? len : known;
}

/* The rule of librseq's src/rseq.c: glibc 2.35 to 2.40 export 32 or 20 whatever
 * the kernel provides (2.40: glibc 2e456ccf0c), so those two mean what the
 * kernel says, up to the 32 bytes that are registered. Any other size comes
 * from glibc 2.41 or later (93d0bfbe8f) and means itself. */
static uint32_t usable_size(uint32_t libc_size)
{
	if (libc_size != RSEQGO_ORIGINAL_FEATURE_SIZE &&
	    libc_size != RSEQGO_ORIGINAL_LEN)
		return libc_size;
	return rseqgo_registered_size(RSEQGO_ORIGINAL_LEN);
}

/* find_claim looks for a library that registers threads when it is told to, or
 * when they allocate. */
static void find_claim(void)
{
	static ptrdiff_t distance;
	const char *abi = dlsym(RTLD_DEFAULT, "__rseq_abi");

	if (abi) {
		distance = abi - rseqgo_thread_pointer();
		rseqgo_claim = &distance;
	} else if (dlsym(RTLD_DEFAULT, "rseq_register_current_thread")) {
		rseqgo_claim = dlsym(RTLD_DEFAULT, "rseq_offset");
		if (!rseqgo_claim) /* a version that we know nothing of */
			rseqgo_claim = &distance;
	} else if (rseq_register_current_thread) {
		rseqgo_claim = &rseq_offset ? &rseq_offset : &distance;
	}
}

/* find runs where dlsym can be called. That is while the loader runs this
 * program's or library's constructors, on the loader's thread, before Go's own
 * start (which has no priority). From Go's init it can deadlock: in a library
 * that a C program loads with dlopen, another constructor may wait for Go
 * while the loader's lock is held and Go's init, on another thread, waits for
 * that lock. */
static __attribute__((constructor(101))) void find(void)
{
	struct rseqgo_info *f = &rseqgo_found;
	const ptrdiff_t *offset = dlsym(RTLD_DEFAULT, "__rseq_offset");
	const unsigned int *size = dlsym(RTLD_DEFAULT, "__rseq_size");
	const unsigned int *flags = dlsym(RTLD_DEFAULT, "__rseq_flags");
	const char *registers = secure_getenv("RSEQ_GO_REGISTER");

	f->via = RSEQGO_VIA_DLSYM;
	if (!offset || !size || !flags) {
		offset = &__rseq_offset;
		size = &__rseq_size;
		flags = &__rseq_flags;
		f->via = RSEQGO_VIA_DIRECT;
	}
	f->kernel_feature_size = getauxval(RSEQGO_AT_RSEQ_FEATURE_SIZE);
	f->kernel_align = getauxval(RSEQGO_AT_RSEQ_ALIGN);
	find_claim();
	rseqgo_forbidden = registers && !strcmp(registers, "0");
#ifdef __GLIBC__
	snprintf(f->libc, sizeof(f->libc), "glibc %s", gnu_get_libc_version());
#else
	/* musl has neither a version macro nor a function that tells it. */
	snprintf(f->libc, sizeof(f->libc), "not glibc (musl?)");
#endif
	if (offset && size && flags && *size) {
		f->owner = RSEQGO_LIBC;
		f->offset = *offset;
		f->libc_size = *size;
		f->flags = *flags;
		f->size = usable_size(*size);
	} else if (offset && size && !*offset && !*size) {
		/* Symbols that were never set: this is a library that a static
		 * program loaded, with a second C library beside the program's
		 * own, which registered the thread. */
		struct rseqgo_registration r = rseqgo_look();

		if (r.state == RSEQGO_REGISTERED) {
			f->owner = RSEQGO_LIBC;
			f->via = RSEQGO_VIA_KERNEL;
			f->offset = r.offset;
			f->len = r.len;
			f->signature = r.signature;
			f->size = rseqgo_registered_size(r.len);
		}
	}
	if (f->owner == RSEQGO_NONE) {
		f->via = RSEQGO_VIA_NONE;
		f->offset = rseqgo_own_offset();
	}
	found_done = 1;
}

const struct rseqgo_info *rseqgo_discover(void)
{
	/* Not yet set only in a constructor that runs before ours, on the
	 * loader's thread. */
	if (!found_done)
		find();
	return &rseqgo_found;
}
