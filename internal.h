/* SPDX-License-Identifier: MIT
 *
 * What the C files and their Go callers share; not for C users.
 */
#ifndef RSEQGO_INTERNAL_H
#define RSEQGO_INTERNAL_H

#include "glibc.h"

#define rseqgo_found rseqgo_v1_found
#define rseqgo_ask rseqgo_v1_ask
#define rseqgo_look rseqgo_v1_look
#define rseqgo_call rseqgo_v1_call
#define rseqgo_registered_size rseqgo_v1_registered_size
#define rseqgo_claim rseqgo_v1_claim
#define rseqgo_forbidden rseqgo_v1_forbidden
#define rseqgo_register rseqgo_v1_register
#define rseqgo_allocate rseqgo_v1_allocate
#define rseqgo_disown rseqgo_v1_disown
#define rseqgo_own_offset rseqgo_v1_own_offset
#define rseqgo_never_offset rseqgo_v1_never_offset
#define rseqgo_kills rseqgo_v1_kills
#define rseqgo_live_check rseqgo_v1_live_check

/* In the kernel's half of the address space, a multiple of every alignment:
 * what can never be registered. */
#define RSEQGO_KERNEL_ADDRESS ((void *)~(uintptr_t)0xfffff)

extern struct rseqgo_info rseqgo_found RSEQGO_HIDDEN;

/* Where another library says that it registers threads, by its symbols: the distance
 * of the thread-local symbol __rseq_abi, or what librseq calls rseq_offset; points to
 * zero as long as that is not known. NULL: there is no such library. */
extern const ptrdiff_t *rseqgo_claim RSEQGO_HIDDEN;

/* The environment forbids to register areas of our own: RSEQ_GO_REGISTER=0. */
extern int rseqgo_forbidden RSEQGO_HIDDEN;

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

/* rseqgo_registered_size returns how many bytes of a registration of len bytes
 * are fields: no more than the kernel knows. */
RSEQGO_HIDDEN uint32_t rseqgo_registered_size(uint32_t len);

/* rseqgo_disown forgets the areas, which the kernel refuted. */
RSEQGO_HIDDEN void rseqgo_disown(void);

/* rseqgo_own_offset returns where this package's own area is in each thread. */
RSEQGO_HIDDEN ptrdiff_t rseqgo_own_offset(void);

/* rseqgo_never_offset returns where in each thread there seems to be an area whose
 * cpu_id is negative for ever. */
RSEQGO_HIDDEN ptrdiff_t rseqgo_never_offset(void);

/* rseqgo_kills finds out whether a seccomp filter kills for rseq(2), by having a child
 * process call it, unless there is no filter: zero if it does not, RSEQGO_KILLED, or the
 * errno for which that could not be found out now. */
RSEQGO_HIDDEN int rseqgo_kills(void);

/* rseqgo_register is rseqgo_register_thread; who insists has an answer that may change
 * asked for again at once. RSEQGO_BEING_FOUND_OUT: another thread is finding out who the
 * owner is; it was not waited for, since a signal handler must not. */
RSEQGO_HIDDEN int rseqgo_register(int insist);
enum { RSEQGO_BEING_FOUND_OUT = -5 };

/* rseqgo_allocate allocates and frees memory of a few sizes: a library that replaces
 * malloc may register the thread then. */
RSEQGO_HIDDEN void rseqgo_allocate(void);

/* What spin in cs_<arch>.s answers. */
enum rseqgo_spin {
	RSEQGO_SPIN_ABORTED,   /* the kernel aborted it */
	RSEQGO_SPIN_SAW_FLAG,  /* it ran on and saw the flag */
	RSEQGO_SPIN_EXHAUSTED, /* neither happened */
};

/* A section that waits for a flag, to be disturbed in. */
RSEQGO_HIDDEN enum rseqgo_spin
rseqgo_v1_cs_spin(const volatile uint32_t *flag, uint64_t limit,
		  struct rseqgo_area *area, const void *descriptor);
extern const char rseqgo_v1_cs_spin_descriptor[] RSEQGO_HIDDEN;

/* What befalls a thread inside a section in a live check. */
enum rseqgo_disturbance {
	RSEQGO_PREEMPTED, /* another thread runs on its CPU, and it again */
	RSEQGO_SIGNALLED, /* it handles a SIGURG, which Go expects at any time */
	RSEQGO_MIGRATED,  /* it is moved to another CPU */
};

/* In how many rounds the section was aborted, as it must be, and in how many it ran on
 * though it was disturbed; fewer than were asked for if there is an error, which says
 * why: an errno or one of those below. ETIMEDOUT: no round told anything for some
 * seconds. */
struct rseqgo_live {
	int aborted, survived;
	int error;
};

enum {
	RSEQGO_LIVE_NOT_REGISTERED = -1,  /* the thread made for it has no area */
	RSEQGO_LIVE_OTHER_SIGNATURE = -2, /* the kernel would kill */
};

/* rseqgo_live_check disturbs a thread made for the purpose in a section until so many
 * rounds told something. No round is decided by time: the section is let go only when
 * the disturbance is over, as far as the kernel shows; a round of which that cannot be
 * said tells nothing, and is played again. Unarmed, the section is none: then nothing
 * aborts it, which shows that the check can fail. */
RSEQGO_HIDDEN struct rseqgo_live
rseqgo_live_check(enum rseqgo_disturbance how, int rounds, int unarmed);

#endif /* RSEQGO_INTERNAL_H */
