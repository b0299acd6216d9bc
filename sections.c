//go:build linux && !android && cgo && !purego && (amd64 || arm64)

/* SPDX-License-Identifier: MIT
 *
 * The live check: threads that are disturbed inside a critical section, to see
 * whether the kernel aborts it. See internal.h.
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

/* Seconds after which the check gives up, if no round told anything meanwhile: a
 * machine may have much else to run. */
#ifndef PATIENCE /* the tests have less */
#define PATIENCE 10
#endif
/* How often spin looks for the flag before the round is given up: some 100 ms of the
 * victim's time, many slices of the scheduler, so that whatever its policy it ends. */
#define SPINS (UINT64_C(1) << 27)

/* What the flag says: see that the disturbance is over, or that there was none. */
enum { OVER = 1, STOP = 2 };

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
	uint32_t ended;		  /* no more rounds, says the victim */
	int failed;		  /* an errno of the disturber's: why a round
				     told nothing */
};

static uint32_t load(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void store(uint32_t *p, uint32_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

/* doze gives the processor up for a moment, whatever the scheduler's policy. Nothing is
 * concluded from how long it takes. */
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

/* await waits until the other thread has counted to round; 0 if it does not. */
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

/* inside says whether the victim is in the section of this round. A section
 * that was armed says so itself; the kernel clears the word, if at all, only
 * when the victim runs again. */
static int inside(const struct live *l, uint32_t round)
{
	return load(&l->entered) == round &&
	       (l->unarmed ||
		__atomic_load_n(&l->area->rseq_cs, __ATOMIC_ACQUIRE));
}

/* wait_for waits until the victim is inside; 0 if it has left, or has no more rounds. */
static int wait_for(const struct live *l, uint32_t round)
{
	while (!inside(l, round)) {
		if (load(&l->left) >= round || load(&l->ended))
			return 0;
		doze();
	}
	return 1;
}

/* pending says whether the victim still has to take the signal: 1, 0, or minus an
 * errno. The kernel takes a signal off that set on the thread's way to user mode, where
 * it runs nothing more before it was aborted and its handler called. */
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

/* signalled sends the victim a signal and waits until it has taken it, or has left. */
static int signalled(const struct live *l, uint32_t round)
{
	struct sigaction action;
	int e;

	/* One that nobody handles is not even sent. */
	if (sigaction(SIGURG, NULL, &action) || action.sa_handler == SIG_DFL ||
	    action.sa_handler == SIG_IGN)
		return ENOTSUP;
	e = pthread_kill(l->victim_thread, SIGURG);
	if (e)
		return e;
	while ((e = pending(l)) > 0) {
		if (load(&l->left) >= round)
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
	for (uint32_t round = 1; !load(&l->ended); round++) {
		e = 0;
		if (wait_for(l, round)) switch (l->how) {
		case RSEQGO_PREEMPTED:
			/* Done, if this thread runs where the victim did and
			 * nobody changed their affinity. */
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
		if (e) /* the round tells nothing */
			__atomic_store_n(&l->failed, e, __ATOMIC_RELAXED);
		store(&l->flag, e ? STOP : OVER);
		store(&l->settled, round);
		while (load(&l->left) < round && !load(&l->ended))
			doze();
	}
	return NULL;
}

/* play plays a round and says whether it told anything. */
static int play(struct live *l, uint32_t round)
{
	int told = 0;

	store(&l->flag, 0);
	__atomic_store_n(&l->area->rseq_cs, 0, __ATOMIC_RELAXED);
	store(&l->entered, round);
	switch (rseqgo_v1_cs_spin(&l->flag, SPINS, l->area,
				  l->unarmed ? NULL : rseqgo_v1_cs_spin_descriptor)) {
	case RSEQGO_SPIN_ABORTED:
		l->result.aborted++;
		told = 1;
		break;
	case RSEQGO_SPIN_SAW_FLAG:
		/* Where the kernel took the descriptor away it did look, and the
		 * thread was disturbed between arming and the section's start. */
		if (load(&l->flag) == OVER &&
		    (l->unarmed ||
		     __atomic_load_n(&l->area->rseq_cs, __ATOMIC_RELAXED))) {
			l->result.survived++;
			told = 1;
		}
		break;
	case RSEQGO_SPIN_EXHAUSTED:
		break;
	}
	store(&l->left, round);
	return told;
}

static void *suffer(void *arg)
{
	const struct rseqgo_info *f = &rseqgo_found;
	struct live *l = arg;
	struct sched_param normal = { 0 };
	struct timespec since;
	sigset_t urgent;
	pthread_t disturber;
	int cpu = sched_getcpu();

	l->victim = syscall(SYS_gettid);
	l->victim_thread = pthread_self();
	/* A real-time thread would not be preempted by its equal. */
	syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &normal); /* musl's does nothing */
	rseqgo_allocate(); /* some libraries register a thread then */
	if (rseqgo_register_thread() < 0) {
		l->result.error = RSEQGO_LIVE_NOT_REGISTERED;
		return NULL;
	}
	/* On an area with another signature the kernel would kill. */
	if ((f->owner == RSEQGO_FOREIGN || f->via == RSEQGO_VIA_KERNEL) &&
	    (f->len ? f->signature :
		      rseqgo_ask(f->offset, RSEQGO_ORIGINAL_LEN).signature) !=
		    RSEQGO_SIG) {
		l->result.error = RSEQGO_LIVE_OTHER_SIGNATURE;
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
	clock_gettime(CLOCK_MONOTONIC, &since);
	for (uint32_t round = 1;; round++) {
		int in_time, failed;

		if (play(l, round))
			clock_gettime(CLOCK_MONOTONIC, &since);
		if (l->result.aborted + l->result.survived >= l->rounds)
			break;
		in_time = await(&l->settled, round) && !late(&since);
		failed = __atomic_load_n(&l->failed, __ATOMIC_RELAXED);
		/* Moved by somebody else meanwhile: that passes. */
		if (!in_time || (failed && failed != EBUSY)) {
			l->result.error = ETIMEDOUT;
			break;
		}
	}
	store(&l->ended, 1);
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

	/* The threads have l. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	/* No signal but the one that is meant. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	e = pthread_create(&victim, NULL, suffer, &l);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (e)
		l.result.error = e;
	else
		pthread_join(victim, NULL);
	pthread_setcancelstate(cancel, NULL);
	return l.result;
}
