//go:build linux && cgo && !purego && (amd64 || arm64)

/* SPDX-License-Identifier: MIT
 *
 * The live check: threads that are disturbed inside a critical section, to see
 * whether the kernel aborts it. See internal.h.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Seconds for one round; a slice of the scheduler is some milliseconds, but a
 * machine may have much else to run. */
enum { PATIENCE = 10 };
/* How often spin looks for the flag before it gives the round up: some seconds on
 * a fast machine, since a disturber may wait long for a processor. */
#define SPINS (UINT64_C(1) << 33)

/* What the flag says if the disturber did not disturb. */
enum { STOP = 2 };

/* live is what the two threads of a check share: the victim runs sections, the
 * disturber acts while the victim is inside one. */
struct live {
	enum rseqgo_disturbance how;
	int rounds, unarmed;
	struct rseqgo_live result; /* the victim's */

	pid_t victim;
	pthread_t victim_thread;
	struct rseqgo_area *area; /* the victim's */
	uint32_t entered;	  /* rounds begun */
	uint32_t left;		  /* rounds ended */
	uint32_t flag;		  /* set once the disturbance is over */
	uint32_t settled;	  /* rounds that the disturber is done with */
	int failed;		  /* an errno of the disturber's */
};

static uint32_t load(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void store(uint32_t *p, uint32_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

/* await yields until the other thread has counted to round. */
static void await(const uint32_t *counter, uint32_t round)
{
	while (load(counter) < round)
		sched_yield();
}

/* More CPUs than any kernel can be built for; CPU_SETSIZE is 1,024. */
enum { MASK_CPUS = 65536 };

/* A set of CPUs. The kernel answers EINVAL to one that is shorter than its own. */
struct cpus {
	cpu_set_t sets[MASK_CPUS / CPU_SETSIZE];
};

/* pin binds a thread to one CPU; returns zero or an errno. */
static int pin(pid_t tid, int cpu)
{
	struct cpus one = { 0 };

	CPU_SET(cpu % CPU_SETSIZE, &one.sets[cpu / CPU_SETSIZE]);
	return sched_setaffinity(tid, sizeof(one), one.sets) ? errno : 0;
}

/* other_cpu returns an allowed CPU that is not cpu, or -1. */
static int other_cpu(const struct cpus *allowed, int cpu)
{
	for (int other = 0; other < MASK_CPUS; other++)
		if (other != cpu &&
		    CPU_ISSET(other % CPU_SETSIZE,
			      &allowed->sets[other / CPU_SETSIZE]))
			return other;
	return -1;
}

static int late(const struct timespec *since)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec - since->tv_sec > PATIENCE;
}

/* inside says whether the victim is in the section of this round. A section
 * that was armed says so itself; the kernel clears the word, if at all, only
 * when the victim runs again. */
static int inside(const struct live *l, uint32_t round)
{
	return load(&l->entered) == round &&
	       (l->unarmed ||
		__atomic_load_n(&l->area->rseq_cs, __ATOMIC_ACQUIRE));
}

/* wait_for yields until the victim is inside or has left. */
static int wait_for(const struct live *l, uint32_t round)
{
	struct timespec since;

	clock_gettime(CLOCK_MONOTONIC, &since);
	while (!inside(l, round)) {
		if (load(&l->left) >= round || late(&since))
			return 0;
		sched_yield();
	}
	return 1;
}

static void *disturb(void *arg)
{
	struct live *l = arg;
	struct timespec moment = { 0, 1000000 };
	struct cpus allowed = { 0 };
	int cpu, e;

	sched_getaffinity(0, sizeof(allowed), allowed.sets);
	for (uint32_t round = 1; round <= (uint32_t)l->rounds; round++) {
		e = 0;
		if (!wait_for(l, round)) {
			e = load(&l->left) < round ? ETIMEDOUT : 0;
		} else switch (l->how) {
		case RSEQGO_PREEMPTED:
			/* Done, if this thread runs where the victim did and
			 * nobody changed their affinity. */
			cpu = (int)load(&l->area->cpu_id);
			e = sched_getcpu() == cpu ? 0 : EBUSY;
			break;
		case RSEQGO_SIGNALLED:
			e = pthread_kill(l->victim_thread, SIGURG);
			for (int i = 0; i < 20 && load(&l->left) < round; i++)
				nanosleep(&moment, NULL);
			break;
		case RSEQGO_MIGRATED:
			cpu = other_cpu(&allowed, (int)load(&l->area->cpu_id));
			e = cpu < 0 ? ENODEV : pin(l->victim, cpu);
			break;
		}
		if (e) /* the round tells nothing */
			l->failed = e;
		store(&l->flag, e ? STOP : 1);
		store(&l->settled, round);
		await(&l->left, round);
	}
	return NULL;
}

static void *suffer(void *arg)
{
	const struct rseqgo_info *f = &rseqgo_found;
	struct live *l = arg;
	struct sched_param normal = { 0 };
	sigset_t urgent;
	pthread_t disturber;
	int cpu = sched_getcpu();

	l->victim = syscall(SYS_gettid);
	l->victim_thread = pthread_self();
	/* A real-time thread would not be preempted by its equal. */
	syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &normal); /* musl's does nothing */
	if (rseqgo_register_thread() < 0) {
		l->result.error = ENOSYS;
		return NULL;
	}
	/* On an area with another signature the kernel would kill. */
	if ((f->owner == RSEQGO_FOREIGN || f->via == RSEQGO_VIA_KERNEL) &&
	    f->signature != RSEQGO_SIG) {
		l->result.error = EPERM;
		return NULL;
	}
	l->area = (struct rseqgo_area *)rseqgo_area(f);
	if (l->how == RSEQGO_PREEMPTED) {
		/* Both on one CPU: the disturber inherits this. */
		l->result.error = cpu < 0 ? errno : pin(0, cpu);
		if (l->result.error)
			return NULL;
	}
	l->result.error = pthread_create(&disturber, NULL, disturb, l);
	if (l->result.error)
		return NULL;
	sigemptyset(&urgent);
	sigaddset(&urgent, SIGURG);
	if (l->how == RSEQGO_SIGNALLED)
		pthread_sigmask(SIG_UNBLOCK, &urgent, NULL);
	for (uint32_t round = 1; round <= (uint32_t)l->rounds; round++) {
		store(&l->flag, 0);
		__atomic_store_n(&l->area->rseq_cs, 0, __ATOMIC_RELAXED);
		store(&l->entered, round);
		switch (rseqgo_v1_cs_spin(&l->flag, SPINS, l->area,
					  l->unarmed ? NULL : rseqgo_v1_cs_spin_descriptor)) {
		case RSEQGO_SPIN_ABORTED:
			l->result.aborted++;
			break;
		case RSEQGO_SPIN_SAW_FLAG:
			if (load(&l->flag) != STOP)
				l->result.survived++;
			break;
		case RSEQGO_SPIN_EXHAUSTED:
			break;
		}
		store(&l->left, round);
		await(&l->settled, round);
	}
	pthread_join(disturber, NULL);
	if (!l->result.error)
		l->result.error = l->failed;
	return NULL;
}

struct rseqgo_live rseqgo_live_check(enum rseqgo_disturbance how, int rounds,
				     int unarmed)
{
	struct live l = { .how = how, .rounds = rounds, .unarmed = unarmed };
	sigset_t all, before;
	pthread_t victim;

	/* No signal but the one that is meant. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	l.result.error = pthread_create(&victim, NULL, suffer, &l);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!l.result.error)
		pthread_join(victim, NULL);
	return l.result;
}
