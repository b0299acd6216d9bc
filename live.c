//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

/* SPDX-License-Identifier: MIT
 *
 * The live check: a thread is disturbed inside a critical section, to see whether the
 * kernel aborts it. See internal.h.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Seconds without a round that counts, after which the check gives up. A busy machine
 * may need that long. */
#ifndef PATIENCE /* shorter in a test */
#define PATIENCE 10
#endif
/* How often spin looks for the flag before the round ends without a result: some 100 ms
 * of the victim's time, which is many time slices under any scheduling policy. */
#define SPINS (UINT64_C(1) << 27)

/* Values of the flag: the victim was disturbed, or it could not be. */
enum { DISTURBED = 1, NOT_DISTURBED = 2 };

/* live is what the two threads of a check share: the victim runs sections, the
 * disturber acts while the victim is inside one. */
struct live {
	enum rseqgo_disturbance how;
	int rounds, unarmed;
	struct rseqgo_live result; /* the victim's */

	pid_t victim;
	pthread_t victim_thread;
	struct rseqgo_area *area; /* the victim's */
	uint32_t begun;	  /* rounds that the victim has begun */
	uint32_t done;		  /* rounds that it has ended */
	uint32_t flag;		  /* set when the disturber has acted */
	uint32_t acted;		  /* rounds in which the disturber has acted */
	uint32_t stopping;	  /* it begins no more rounds */
	int failed;		  /* the disturber's errno of the last round that
				     does not count */
};

static uint32_t load(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void store(uint32_t *p, uint32_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

/* doze gives the processor up for a moment under any scheduling policy. No result
 * depends on how long that takes. */
static void doze(void)
{
	struct timespec moment = { 0, 50000 };

	nanosleep(&moment, NULL);
}

static int late(const struct timespec *since)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec - since->tv_sec > PATIENCE;
}

/* await waits until the other thread has counted to round, and returns 0 if it does not
 * in time. */
static int await(const uint32_t *counter, uint32_t round)
{
	struct timespec since;

	clock_gettime(CLOCK_MONOTONIC, &since);
	while (load(counter) < round) {
		if (late(&since))
			return 0;
		doze();
	}
	return 1;
}

/* More CPUs than any kernel can be built for. */
enum { MASK_CPUS = 65536 };

/* A set of CPUs. The kernel answers EINVAL to one that is shorter than its own. */
struct cpus {
	cpu_set_t sets[MASK_CPUS / 8 / sizeof(cpu_set_t)];
};

/* pin binds a thread to one CPU; returns zero or an errno. */
static int pin(pid_t tid, int cpu)
{
	struct cpus one = { 0 };

	CPU_SET_S(cpu, sizeof(one), one.sets);
	return sched_setaffinity(tid, sizeof(one), one.sets) ? errno : 0;
}

/* other_cpu returns an allowed CPU that is not cpu, or -1. */
static int other_cpu(const struct cpus *allowed, int cpu)
{
	for (int other = 0; other < MASK_CPUS; other++)
		if (other != cpu &&
		    CPU_ISSET_S(other, sizeof(*allowed), allowed->sets))
			return other;
	return -1;
}

/* inside says whether the victim is in the section of this round. An armed section
 * shows in rseq_cs, which the kernel clears, if at all, only when the victim runs
 * again. */
static int inside(const struct live *l, uint32_t round)
{
	return load(&l->begun) == round &&
	       (l->unarmed ||
		__atomic_load_n(&l->area->rseq_cs, __ATOMIC_ACQUIRE));
}

/* wait_for waits until the victim is inside, and returns 0 if it has left the section or
 * begins no more rounds. */
static int wait_for(const struct live *l, uint32_t round)
{
	while (!inside(l, round)) {
		if (load(&l->done) >= round || load(&l->stopping))
			return 0;
		doze();
	}
	return 1;
}

/* pending says whether the signal is still pending for the victim: 1, 0, or minus an
 * errno. The kernel takes a signal from that set when the thread is about to return to
 * user mode; it aborts the section and enters the handler before the thread runs on. */
static int pending(const struct live *l)
{
	char path[64], status[4096];
	unsigned long long set;
	const char *line;
	ssize_t n;
	int fd, e;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", (int)l->victim);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, status, sizeof(status) - 1);
	e = n < 0 ? errno : ENODATA;
	close(fd);
	if (n < 0)
		return -e;
	status[n] = 0;
	line = strstr(status, "\nSigPnd:");
	if (!line || sscanf(line, "\nSigPnd: %llx", &set) != 1)
		return -e;
	return set >> (SIGURG - 1) & 1;
}

/* signalled sends the victim a signal, and waits until the victim has taken it or left
 * the section. */
static int signalled(const struct live *l, uint32_t round)
{
	struct sigaction action;
	int e;

	/* Without a handler the kernel drops the signal. */
	if (sigaction(SIGURG, NULL, &action) || action.sa_handler == SIG_DFL ||
	    action.sa_handler == SIG_IGN)
		return ENOTSUP;
	e = pthread_kill(l->victim_thread, SIGURG);
	if (e)
		return e;
	while ((e = pending(l)) > 0) {
		if (load(&l->done) >= round)
			return 0;
		doze();
	}
	return -e;
}

static void *disturb(void *arg)
{
	struct live *l = arg;
	struct cpus allowed = { 0 };
	int cpu, e;

	sched_getaffinity(0, sizeof(allowed), allowed.sets);
	for (uint32_t round = 1; !load(&l->stopping); round++) {
		e = 0;
		if (wait_for(l, round)) switch (l->how) {
		case RSEQGO_PREEMPTED:
			/* This thread runs, so the victim was preempted, if
			 * both are still bound to one CPU. */
			cpu = (int)load(&l->area->cpu_id);
			e = sched_getcpu() == cpu ? 0 : EBUSY;
			break;
		case RSEQGO_SIGNALLED:
			e = signalled(l, round);
			break;
		case RSEQGO_MIGRATED:
			cpu = other_cpu(&allowed, (int)load(&l->area->cpu_id));
			e = cpu < 0 ? ENODEV : pin(l->victim, cpu);
			break;
		}
		if (e) /* the round does not count */
			__atomic_store_n(&l->failed, e, __ATOMIC_RELAXED);
		store(&l->flag, e ? NOT_DISTURBED : DISTURBED);
		store(&l->acted, round);
		while (load(&l->done) < round && !load(&l->stopping))
			doze();
	}
	return NULL;
}

/* run_round runs one round and says whether it counts. */
static int run_round(struct live *l, uint32_t round)
{
	int counts = 0;

	store(&l->flag, 0);
	__atomic_store_n(&l->area->rseq_cs, 0, __ATOMIC_RELAXED);
	store(&l->begun, round);
	switch (rseqgo_v1_cs_spin(&l->flag, SPINS, l->area,
				  l->unarmed ? NULL : rseqgo_v1_cs_spin_descriptor)) {
	case RSEQGO_SPIN_ABORTED:
		l->result.aborted++;
		counts = 1;
		break;
	case RSEQGO_SPIN_SAW_FLAG:
		/* If the kernel cleared rseq_cs, the thread was disturbed
		 * between arming and the section's start. */
		if (load(&l->flag) == DISTURBED &&
		    (l->unarmed ||
		     __atomic_load_n(&l->area->rseq_cs, __ATOMIC_RELAXED))) {
			l->result.survived++;
			counts = 1;
		}
		break;
	case RSEQGO_SPIN_EXHAUSTED:
		break;
	}
	store(&l->done, round);
	return counts;
}

static void *run_victim(void *arg)
{
	const struct rseqgo_info *f = rseqgo_discover();
	struct live *l = arg;
	struct sched_param normal = { 0 };
	struct timespec since;
	sigset_t urgent;
	pthread_t disturber;
	int cpu = sched_getcpu();

	l->victim = syscall(SYS_gettid);
	l->victim_thread = pthread_self();
	/* A real-time thread is not preempted by one of equal priority. */
	syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &normal); /* musl's does nothing */
	rseqgo_allocate(); /* some libraries register a thread then */
	if (rseqgo_register_thread() < 0) {
		l->result.error = RSEQGO_LIVE_NOT_REGISTERED;
		return NULL;
	}
	/* At a wrong signature the kernel ends the process. */
	if (!rseqgo_signature_known(f) &&
	    (f->len ? f->signature :
		      rseqgo_ask(f->offset, RSEQGO_ORIGINAL_LEN).signature) !=
		    RSEQGO_SIG) {
		l->result.error = RSEQGO_LIVE_OTHER_SIGNATURE;
		return NULL;
	}
	l->area = (struct rseqgo_area *)rseqgo_area(f);
	if (l->how == RSEQGO_PREEMPTED) {
		/* The disturber inherits the affinity, so both run on one CPU. */
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
	clock_gettime(CLOCK_MONOTONIC, &since);
	for (uint32_t round = 1;; round++) {
		int in_time, failed;

		if (run_round(l, round))
			clock_gettime(CLOCK_MONOTONIC, &since);
		if (l->result.aborted + l->result.survived >= l->rounds)
			break;
		in_time = await(&l->acted, round) && !late(&since);
		failed = __atomic_load_n(&l->failed, __ATOMIC_RELAXED);
		/* EBUSY: another process changed their affinity meanwhile. */
		if (!in_time || (failed && failed != EBUSY)) {
			l->result.error = ETIMEDOUT;
			break;
		}
	}
	store(&l->stopping, 1);
	pthread_join(disturber, NULL);
	if (l->result.error && l->failed)
		l->result.error = l->failed;
	return NULL;
}

struct rseqgo_live rseqgo_live_check(enum rseqgo_disturbance how, int rounds,
				     int unarmed)
{
	struct live l = { .how = how, .rounds = rounds, .unarmed = unarmed };
	sigset_t all, before;
	pthread_t victim;
	int cancel, e;

	/* l must not go away while the threads use it. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	/* The threads take no signal but the victim's SIGURG. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	e = pthread_create(&victim, NULL, run_victim, &l);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (e)
		l.result.error = e;
	else
		pthread_join(victim, NULL);
	pthread_setcancelstate(cancel, NULL);
	return l.result;
}
