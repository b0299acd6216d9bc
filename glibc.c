//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

/* SPDX-License-Identifier: MIT
 *
 * The symbols by which the C library, and librseq, publish where threads are
 * registered.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <sys/auxv.h>
#ifdef __GLIBC__
#include <gnu/libc-version.h>
#endif

/* glibc's public symbols, version GLIBC_2.35. These references are for fully
 * static programs, where dlsym finds nothing. They are weak, so that no program needs
 * GLIBC_2.35 because of them. They are not hidden: that would keep them out of dynamic
 * links, but one hidden reference makes the linker refuse the strong ones of other C
 * code in the same program. In a dynamic program dlsym comes first; where it finds
 * nothing, these are NULL. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));
extern const unsigned int __rseq_flags __attribute__((weak));

/* librseq's (its include/rseq/rseq.h), up to the versions of 2025 that register
 * threads; weak for programs that link it statically. */
extern int rseq_register_current_thread(void) __attribute__((weak));
extern ptrdiff_t rseq_offset __attribute__((weak));

const ptrdiff_t *rseqgo_claim;

/* usable_size returns how many bytes of fields an area has whose size the C library
 * exports as libc_size. The rule is that of librseq's src/rseq.c. glibc 2.35 to 2.40
 * export 32 or 20 on any kernel (2.40: glibc 2e456ccf0c) and register 32 bytes, so
 * for these two the kernel's feature size counts, up to 32. Any other size comes from
 * glibc 2.41 or later (93d0bfbe8f) and is the size of the fields. */
static uint32_t usable_size(uint32_t libc_size)
{
	if (libc_size != RSEQGO_ORIGINAL_FEATURE_SIZE &&
	    libc_size != RSEQGO_ORIGINAL_LEN)
		return libc_size;
	return rseqgo_field_bytes(RSEQGO_ORIGINAL_LEN);
}

/* read_claim looks for a library that registers a thread when the program tells it to, or
 * when the thread allocates memory. */
static void read_claim(void)
{
	static ptrdiff_t distance;
	const char *abi = dlsym(RTLD_DEFAULT, "__rseq_abi");

	if (abi) {
		distance = abi - rseqgo_thread_pointer();
		rseqgo_claim = &distance;
	} else if (dlsym(RTLD_DEFAULT, "rseq_register_current_thread")) {
		rseqgo_claim = dlsym(RTLD_DEFAULT, "rseq_offset");
		if (!rseqgo_claim) /* a version that has no such symbol */
			rseqgo_claim = &distance;
	} else if (rseq_register_current_thread) {
		rseqgo_claim = &rseq_offset ? &rseq_offset : &distance;
	}
}

static int has_headers(struct dl_phdr_info *info, size_t size, void *headers)
{
	(void)size;
	return info->dlpi_phdr == headers;
}

/* in_static_program says whether a static program loaded this library, and with it another
 * C library than its own. That one's dl_iterate_phdr leaves the program out. (So it does in a
 * namespace that dlmopen made, where the symbols are set if the C library sets them.) */
static int in_static_program(void)
{
	return !dl_iterate_phdr(has_headers, (void *)getauxval(AT_PHDR));
}

void rseqgo_find_symbols(struct rseqgo_info *f)
{
	const ptrdiff_t *offset = dlsym(RTLD_DEFAULT, "__rseq_offset");
	const unsigned int *size = dlsym(RTLD_DEFAULT, "__rseq_size");
	const unsigned int *flags = dlsym(RTLD_DEFAULT, "__rseq_flags");

	f->via = RSEQGO_VIA_DLSYM;
	if (!offset || !size || !flags) {
		offset = &__rseq_offset;
		size = &__rseq_size;
		flags = &__rseq_flags;
		f->via = RSEQGO_VIA_DIRECT;
	}
	read_claim();
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
	} else if (offset && size && !*offset && !*size && in_static_program() &&
		   !rseqgo_filter_kills()) {
		/* The symbols exist and were never set. The program's C library
		 * may have registered the thread. */
		struct rseqgo_registration r = rseqgo_look(rseqgo_claimed_offset());

		if (r.state == RSEQGO_REGISTERED) {
			f->owner = RSEQGO_LIBC;
			f->via = RSEQGO_VIA_KERNEL;
			f->offset = r.offset;
			f->len = r.len;
			f->signature = r.signature;
			f->size = rseqgo_field_bytes(r.len);
		}
	}
	if (f->owner == RSEQGO_NONE)
		f->via = RSEQGO_VIA_NONE;
}
