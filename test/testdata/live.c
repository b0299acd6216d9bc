/* Includes live.c with the functions that it calls replaced: a round in which the disturbance
 * did not happen must not count. The argument says what goes wrong. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../../internal.h"

static int held, no_proc, pin_error, lose_descriptor, exhaust;

static int hooked_pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	if (held && how == SIG_UNBLOCK) /* as if the thread did not run on */
		return 0;
	return pthread_sigmask(how, set, old);
}

static int hooked_open(const char *path, int flags)
{
	if (no_proc) {
		errno = ENOENT;
		return -1;
	}
	return open(path, flags);
}

static int hooked_sched_setaffinity(pid_t tid, size_t size, const cpu_set_t *set)
{
	if (pin_error) {
		errno = pin_error;
		return -1;
	}
	return sched_setaffinity(tid, size, set);
}

static enum rseqgo_spin hooked_spin(const volatile uint32_t *flag, uint64_t limit,
				    struct rseqgo_area *area, const void *descriptor)
{
	time_t end = time(NULL) + 2;

	if (exhaust)
		return RSEQGO_SPIN_EXHAUSTED;
	if (!lose_descriptor && !held)
		return rseqgo_v1_cs_spin(flag, limit, area, descriptor);
	/* No section, but it looks like one that runs on. */
	do {
		__atomic_store_n(&area->rseq_cs, (uintptr_t)descriptor, __ATOMIC_RELAXED);
		if (time(NULL) > end)
			return RSEQGO_SPIN_EXHAUSTED;
	} while (!*flag);
	/* Or like one that was disturbed before it started: the kernel clears rseq_cs. */
	__atomic_store_n(&area->rseq_cs, held ? (uintptr_t)descriptor : 0, __ATOMIC_RELAXED);
	return RSEQGO_SPIN_SAW_FLAG;
}

#define PATIENCE 1
#define pthread_sigmask hooked_pthread_sigmask
#define open hooked_open
#define sched_setaffinity hooked_sched_setaffinity
#define rseqgo_v1_cs_spin hooked_spin
#include "../../live.c"

static void nothing(int signal)
{
	(void)signal;
}

int main(int argc, char **argv)
{
	enum rseqgo_disturbance how = RSEQGO_SIGNALLED;
	const char *what = argc > 1 ? argv[1] : "";
	struct sigaction action = { .sa_handler = nothing };
	struct rseqgo_live l;
	int error = 0, aborted = 0; /* what is expected; any if negative */

	rseqgo_register_thread();
	sigaction(SIGURG, &action, NULL);
	if (!strcmp(what, "right")) {
		aborted = 3;
	} else if (!strcmp(what, "held")) {
		held = 1;
		error = ETIMEDOUT;
	} else if (!strcmp(what, "no handler")) {
		signal(SIGURG, SIG_DFL);
		error = ENOTSUP;
		aborted = -1;
	} else if (!strcmp(what, "no proc")) {
		no_proc = 1;
		error = -1; /* the signal may have come before the file was opened */
		aborted = -1;
	} else if (!strcmp(what, "pin")) {
		how = RSEQGO_PREEMPTED;
		pin_error = EPERM;
		error = EPERM;
	} else if (!strcmp(what, "descriptor")) {
		how = RSEQGO_PREEMPTED;
		lose_descriptor = 1;
		error = ETIMEDOUT;
	} else if (!strcmp(what, "exhausted")) {
		how = RSEQGO_PREEMPTED;
		exhaust = 1;
		error = ETIMEDOUT;
	} else {
		return 2;
	}
	l = rseqgo_live_check(how, 3, 0);
	printf("aborted %d, survived %d, error %d (%s)\n", l.aborted, l.survived, l.error,
	       strerror(l.error));
	return l.survived || (error >= 0 && l.error != error) ||
	       (aborted >= 0 && l.aborted != aborted) ||
	       (l.aborted < 3) != (l.error != 0);
}
