//go:build linux && cgo && (amd64 || arm64)

/* SPDX-License-Identifier: MIT
 *
 * Finds the area that the C library registered. See glibc.h for what is found
 * and glibc.go for what becomes of it.
 */
#define _GNU_SOURCE
#include "glibc.h"

#include <dlfcn.h>
#include <stdio.h>
#include <sys/auxv.h>
#ifdef __GLIBC__
#include <gnu/libc-version.h>
#endif

/* include/uapi/linux/auxvec.h since Linux 6.3 (317c8194e6ae). */
enum { AUXV_RSEQ_FEATURE_SIZE = 27, AUXV_RSEQ_ALIGN = 28 };

/* Sizes of struct rseq: as it was in Linux 4.18, without and with the padding
 * at its end. */
enum { ORIGINAL_FEATURE_SIZE = 20, ORIGINAL_SIZE = 32 };

/* glibc's public symbols, version GLIBC_2.35. These references are for fully
 * static programs, where dlsym finds nothing. They are weak: no program needs
 * GLIBC_2.35 for their sake. They are not hidden, although that would keep
 * them out of dynamic links, because one hidden reference makes the linker
 * refuse the strong ones of other C code in the same program. In a dynamic
 * program their value is not used: it depends on the linker. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));
extern const unsigned int __rseq_flags __attribute__((weak));

static struct rseqgo_info found;
static int found_done;

/* usable_size applies the rule of librseq's src/rseq.c: glibc 2.35 to 2.40
 * export 32 or 20 whatever the kernel provides (2.40: glibc 2e456ccf0c), so
 * those two mean what the kernel says, up to the 32 bytes that are registered.
 * Any other size comes from glibc 2.41 or later (93d0bfbe8f) and means itself. */
static uint32_t usable_size(uint32_t libc_size, uint32_t kernel_feature_size)
{
	if (libc_size != ORIGINAL_FEATURE_SIZE && libc_size != ORIGINAL_SIZE)
		return libc_size;
	if (kernel_feature_size < ORIGINAL_FEATURE_SIZE)
		return ORIGINAL_FEATURE_SIZE;
	if (kernel_feature_size < ORIGINAL_SIZE)
		return kernel_feature_size;
	return ORIGINAL_SIZE;
}

/* find runs where dlsym can be called. That is while the loader runs this
 * program's or library's constructors, on the loader's thread, before Go's own
 * start (which has no priority). From Go's init it can deadlock: in a library
 * that a C program loads with dlopen, another constructor may wait for Go
 * while the loader's lock is held and Go's init, on another thread, waits for
 * that lock. */
static __attribute__((constructor(101))) void find(void)
{
	const ptrdiff_t *offset = dlsym(RTLD_DEFAULT, "__rseq_offset");
	const unsigned int *size = dlsym(RTLD_DEFAULT, "__rseq_size");
	const unsigned int *flags = dlsym(RTLD_DEFAULT, "__rseq_flags");

	found.via = RSEQGO_VIA_DLSYM;
	if (!offset || !size || !flags) {
		offset = &__rseq_offset;
		size = &__rseq_size;
		flags = &__rseq_flags;
		found.via = RSEQGO_VIA_DIRECT;
	}
	if (!offset || !size || !flags)
		found.via = RSEQGO_VIA_NONE;

	found.kernel_feature_size = (uint32_t)getauxval(AUXV_RSEQ_FEATURE_SIZE);
	found.kernel_align = (uint32_t)getauxval(AUXV_RSEQ_ALIGN);
	if (found.via != RSEQGO_VIA_NONE) {
		found.offset = *offset;
		found.libc_size = *size;
		found.flags = *flags;
		found.size = usable_size(*size, found.kernel_feature_size);
	}
#ifdef __GLIBC__
	snprintf(found.libc, sizeof(found.libc), "glibc %s",
		 gnu_get_libc_version());
#else
	/* musl has neither a version macro nor a function that tells it. */
	snprintf(found.libc, sizeof(found.libc), "not glibc (musl?)");
#endif
	found_done = 1;
}

const struct rseqgo_info *rseqgo_discover(void)
{
	/* Not yet set only where constructors do not run: the go command's
	 * internal linking, which this package does not support, and a
	 * constructor that runs before ours, on the loader's thread. */
	if (!found_done)
		find();
	return &found;
}
