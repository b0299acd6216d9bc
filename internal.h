/* SPDX-License-Identifier: MIT
 *
 * What glibc.c, fallback.c and glibc.go share; not for C users.
 */
#ifndef RSEQGO_INTERNAL_H
#define RSEQGO_INTERNAL_H

#include "glibc.h"

#define rseqgo_found rseqgo_v1_found
#define rseqgo_ask rseqgo_v1_ask
#define rseqgo_look rseqgo_v1_look
#define rseqgo_call rseqgo_v1_call
#define rseqgo_usable_size rseqgo_v1_usable_size
#define rseqgo_symbol_offset rseqgo_v1_symbol_offset
#define rseqgo_disown rseqgo_v1_disown
#define rseqgo_own_offset rseqgo_v1_own_offset

/* struct rseq as it was in Linux 4.18: the bytes of fields, and with padding
 * the length and alignment of a legacy registration. */
enum {
	RSEQGO_ORIGINAL_FEATURE_SIZE = 20,
	RSEQGO_ORIGINAL_LEN = 32,
	RSEQGO_ORIGINAL_ALIGN = 32,
};

enum { RSEQGO_FLAG_UNREGISTER = 1 }; /* RSEQ_FLAG_UNREGISTER */

/* In the kernel's half of the address space, a multiple of every alignment:
 * what can never be registered. */
#define RSEQGO_KERNEL_ADDRESS ((void *)~(uintptr_t)0xfffff)

extern struct rseqgo_info rseqgo_found RSEQGO_HIDDEN;

/* Offset of the thread-local symbol __rseq_abi, 0 if there is none. */
extern ptrdiff_t rseqgo_symbol_offset RSEQGO_HIDDEN;

/* What the kernel says of the calling thread's registration. */
enum rseqgo_state {
	RSEQGO_COULD_NOT_ASK,  /* something else answers, or the answer fits
				  both */
	RSEQGO_REGISTERED,
	RSEQGO_NOT_REGISTERED, /* this thread has no registration at all */
};

struct rseqgo_registration {
	enum rseqgo_state state;
	ptrdiff_t offset;   /* bytes from the thread pointer, if registered */
	uint32_t len;       /* length, if registered */
	uint32_t signature; /* RSEQGO_SIG if registered with it, else 0 */
	int error;          /* the errno that rseq(2) gave, if it could not be
			       asked */
};

/* rseqgo_ask has the kernel say whether the calling thread is registered at
 * offset, and with which length; it tries likely_len first. It changes
 * nothing. */
RSEQGO_HIDDEN struct rseqgo_registration rseqgo_ask(ptrdiff_t offset,
						    uint32_t likely_len);

/* rseqgo_look has the kernel say whether the calling thread is registered, and
 * finds out where. COULD_NOT_ASK with EINVAL: somewhere else, or a filter that
 * answers EINVAL. It changes nothing. */
RSEQGO_HIDDEN struct rseqgo_registration rseqgo_look(void);

/* rseqgo_call is rseq(2): zero or minus an errno. */
RSEQGO_HIDDEN int rseqgo_call(const void *area, uint32_t len, int flags,
			      uint32_t signature);

/* rseqgo_usable_size returns how many bytes of fields may be read. */
RSEQGO_HIDDEN uint32_t rseqgo_usable_size(uint32_t libc_size,
					  uint32_t kernel_feature_size);

/* rseqgo_disown forgets the C library's area, which the kernel refuted. */
RSEQGO_HIDDEN void rseqgo_disown(void);

/* rseqgo_own_offset returns where this package's own area is in each thread. */
RSEQGO_HIDDEN ptrdiff_t rseqgo_own_offset(void);

#endif /* RSEQGO_INTERNAL_H */
