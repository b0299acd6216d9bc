/* SPDX-License-Identifier: MIT
 *
 * What the C files share with each other and with Go; glibc.h is for C users. Each file
 * calls only what stands before it here:
 *
 *	ask.c	asks the kernel
 *	glibc.c	the C library's symbols, and librseq's
 *	own.c	an area of this package's own
 *	owner.c	who the owner is: the constructor and the decision
 *	live.c	the live check: does the kernel abort sections?
 *
 * live.c also runs a section of cs_<arch>.s.
 */
#ifndef RSEQGO_INTERNAL_H
#define RSEQGO_INTERNAL_H

#include "glibc.h"

#define rseqgo_ask rseqgo_v1_ask
#define rseqgo_look rseqgo_v1_look
#define rseqgo_call rseqgo_v1_call
#define rseqgo_field_bytes rseqgo_v1_field_bytes
#define rseqgo_filter_kills rseqgo_v1_filter_kills
#define rseqgo_claim rseqgo_v1_claim
#define rseqgo_find_symbols rseqgo_v1_find_symbols
#define rseqgo_own_offset rseqgo_v1_own_offset
#define rseqgo_unregistered_offset rseqgo_v1_unregistered_offset
#define rseqgo_own_prepare rseqgo_v1_own_prepare
#define rseqgo_own_register rseqgo_v1_own_register
#define rseqgo_register rseqgo_v1_register
#define rseqgo_signature_known rseqgo_v1_signature_known
#define rseqgo_allocate rseqgo_v1_allocate
#define rseqgo_forget_areas rseqgo_v1_forget_areas
#define rseqgo_live_check rseqgo_v1_live_check

/* ---- ask.c */

/* In the kernel's half of the address space, and a multiple of every alignment: an
 * address that cannot be registered. */
#define RSEQGO_KERNEL_ADDRESS ((void *)~(uintptr_t)0xfffff)

/* What the kernel says of the calling thread's registration. */
enum rseqgo_state {
	RSEQGO_COULD_NOT_ASK,  /* a filter answers; or, with EINVAL, the thread may be
				  registered at another address */
	RSEQGO_REGISTERED,
	RSEQGO_UNREGISTERED,   /* this thread has no registration at all */
};

struct rseqgo_registration {
	enum rseqgo_state state;
	ptrdiff_t offset;   /* bytes from the thread pointer, if registered */
	uint32_t len;       /* length, if registered */
	uint32_t signature; /* RSEQGO_SIG if registered with it, else 0 */
	int error;          /* why it could not be asked: the errno of rseq(2), or
			       EPROTO if it pretended success */
};

/* rseqgo_call is rseq(2): it returns zero or minus an errno. */
RSEQGO_HIDDEN int rseqgo_call(const void *area, uint32_t len, int flags,
			      uint32_t signature);

/* rseqgo_filter_kills returns RSEQGO_KILLED if a seccomp filter kills for rseq(2), zero if
 * not, or the errno that kept it from finding out. If there may be a filter, a child
 * process makes the call. */
RSEQGO_HIDDEN int rseqgo_filter_kills(void);

/* rseqgo_ask asks the kernel whether the calling thread is registered at offset, and with
 * which length; it tries likely_len first. It changes nothing. */
RSEQGO_HIDDEN struct rseqgo_registration rseqgo_ask(ptrdiff_t offset,
						    uint32_t likely_len);

/* rseqgo_look asks the kernel whether the calling thread is registered, and where; it
 * tries the offset guess before others, unless that is 0. It changes nothing. */
RSEQGO_HIDDEN struct rseqgo_registration rseqgo_look(ptrdiff_t guess);

/* rseqgo_field_bytes returns how many bytes of a registration of len bytes are
 * fields: the smaller of len and the kernel's feature size, which is 20 at least. */
RSEQGO_HIDDEN uint32_t rseqgo_field_bytes(uint32_t len);

/* ---- glibc.c */

/* rseqgo_find_symbols fills what the C library says of itself and of its areas. Call it
 * where dlsym can be called. */
RSEQGO_HIDDEN void rseqgo_find_symbols(struct rseqgo_info *info);

/* Where another library says, by its symbols, that it registers threads: the distance of
 * the thread-local symbol __rseq_abi, or librseq's rseq_offset. It points to zero while
 * the distance is not known. NULL: there is no such library. */
extern const ptrdiff_t *rseqgo_claim RSEQGO_HIDDEN;

/* rseqgo_claimed_offset returns that distance, 0 if there is none. */
static inline ptrdiff_t rseqgo_claimed_offset(void)
{
	return rseqgo_claim ? *rseqgo_claim : 0;
}

/* ---- own.c */

/* rseqgo_own_offset returns where the own area is in each thread. */
RSEQGO_HIDDEN ptrdiff_t rseqgo_own_offset(void);

/* rseqgo_unregistered_offset returns the offset of a dummy area whose cpu_id is always
 * negative. It is used after rseqgo_forget_areas. */
RSEQGO_HIDDEN ptrdiff_t rseqgo_unregistered_offset(void);

/* rseqgo_own_prepare makes the key whose destructor unregisters threads, and stores the
 * length that each registration has. It returns zero or an errno. After success it must
 * not be called again. */
RSEQGO_HIDDEN int rseqgo_own_prepare(uint32_t kernel_feature_size,
				     uint32_t kernel_align, uint32_t *len);

/* rseqgo_own_register registers the calling thread's own area, if it is not registered,
 * and returns the CPU number, or a negative number if the thread has no usable area. */
RSEQGO_HIDDEN int rseqgo_own_register(void);

/* ---- owner.c, and what glibc.h declares */

/* rseqgo_register is rseqgo_register_thread. With insist, a search for the owner that
 * failed is made again at once. RSEQGO_OWNER_PENDING: another thread is searching, and was
 * not waited for, because a signal handler must not wait. */
RSEQGO_HIDDEN int rseqgo_register(int insist);
enum { RSEQGO_OWNER_PENDING = -5 };

/* rseqgo_signature_known says whether the owner is known to register with RSEQGO_SIG: this
 * package does, and so does a C library that was found by its symbols. For any other owner
 * info->signature counts, which is the kernel's answer. */
RSEQGO_HIDDEN int rseqgo_signature_known(const struct rseqgo_info *info);

/* rseqgo_forget_areas makes the areas unknown for the life of the process: the kernel has
 * no registration of them. */
RSEQGO_HIDDEN void rseqgo_forget_areas(void);

/* rseqgo_allocate allocates and frees memory of a few sizes, because a library that
 * replaces malloc may register the thread then. */
RSEQGO_HIDDEN void rseqgo_allocate(void);

/* ---- cs_<arch>.s */

/* Results of spin. */
enum rseqgo_spin {
	RSEQGO_SPIN_ABORTED,   /* the kernel aborted it */
	RSEQGO_SPIN_SAW_FLAG,  /* it saw the flag */
	RSEQGO_SPIN_EXHAUSTED, /* neither happened */
};

/* A section that waits for a flag, for the live check and the tests. */
RSEQGO_HIDDEN enum rseqgo_spin
rseqgo_v1_cs_spin(const volatile uint32_t *flag, uint64_t limit,
		  struct rseqgo_area *area, const void *descriptor);
extern const char rseqgo_v1_cs_spin_descriptor[] RSEQGO_HIDDEN;

/* ---- live.c */

/* What happens to a thread inside a section in a live check. Go has the same as
 * section.Disturbance; glibc.go compares them. */
enum rseqgo_disturbance {
	RSEQGO_PREEMPTED, /* another thread runs on its CPU meanwhile */
	RSEQGO_SIGNALLED, /* it handles a SIGURG, which Go expects at any time */
	RSEQGO_MIGRATED,  /* it is moved to another CPU */
};

/* In how many rounds the section was aborted, as it must be, and in how many it ran on
 * though it was disturbed. error is 0, an errno or one of those below; if it is not 0,
 * fewer rounds counted than were asked for. ETIMEDOUT: none counted for some seconds. */
struct rseqgo_live {
	int aborted, survived;
	int error;
};

enum {
	RSEQGO_LIVE_NOT_REGISTERED = -1,  /* the thread made for it has no area */
	RSEQGO_LIVE_OTHER_SIGNATURE = -2, /* the kernel would end the process */
};

/* rseqgo_live_check disturbs a thread made for the purpose in a section until so many
 * rounds count. No result depends on time: the flag is set only when the disturbance is
 * over, as far as the kernel shows; a round in which that cannot be known does not count
 * and is run again. Unarmed, the section has no descriptor, so nothing aborts it, which
 * shows that the check can fail. */
RSEQGO_HIDDEN struct rseqgo_live
rseqgo_live_check(enum rseqgo_disturbance how, int rounds, int unarmed);

#endif /* RSEQGO_INTERNAL_H */
