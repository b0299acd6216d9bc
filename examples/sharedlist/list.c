//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

/* SPDX-License-Identifier: MIT
 *
 * C's side of the shared lists. */
#define _GNU_SOURCE
#include "list.h"

#include "rseqgo.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* here returns the list of the CPU that the thread runs on, or NULL and why not in
 * *failed. */
static struct list *here(struct shared *s, int64_t *cpu, int64_t *failed)
{
	*cpu = rseqgo_current(RSEQGO_BY_CPU);
	if (*cpu < 0)
		*cpu = rseqgo_register_thread(); /* this thread's first use */
	if (*cpu < 0 || *cpu >= s->cpus) {
		*failed = *cpu < 0 ? RSEQGO_NOT_REGISTERED : RSEQGO_OUT_OF_RANGE;
		return NULL;
	}
	return &s->lists[*cpu];
}

/* again reports whether a section that was not done may be: it was disturbed, or this
 * thread had no area but has one now. */
static int again(enum rseqgo_status status, struct tally *t)
{
	if (status == RSEQGO_RACED ||
	    (status == RSEQGO_NOT_REGISTERED && rseqgo_register_thread() >= 0)) {
		t->raced++;
		return 1;
	}
	t->failed = status;
	return 0;
}

/* take returns a block, or NULL if there is none on this CPU or t->failed. */
static struct block *take(struct shared *s, struct tally *t)
{
	struct list *list;
	int64_t cpu, block;

	while ((list = here(s, &cpu, &t->failed))) {
		enum rseqgo_status status = rseqgo_load_cbeq_store_add_load_store(
			RSEQGO_BY_CPU, &list->head, 0, offsetof(struct block, next),
			&block, cpu);

		if (status == RSEQGO_DONE) {
			t->taken++;
			return (struct block *)block;
		}
		if (status == RSEQGO_COMPARE_FAILED) {
			t->empty++;
			return NULL;
		}
		if (!again(status, t))
			break;
	}
	return NULL;
}

/* give puts a block on this CPU's list, unless it sets t->failed. */
static void give(struct shared *s, struct block *b, struct tally *t)
{
	struct list *list;
	int64_t cpu;

	while ((list = here(s, &cpu, &t->failed))) {
		int64_t head = __atomic_load_n(&list->head, __ATOMIC_RELAXED);
		enum rseqgo_status status;

		b->next = head; /* still this thread's block */
		status = rseqgo_load_cbne_store(RSEQGO_BY_CPU, &list->head, head,
						(int64_t)b, cpu);
		if (status == RSEQGO_DONE) {
			t->given++;
			return;
		}
		/* Another head: another thread's section was between. */
		if (!again(status == RSEQGO_COMPARE_FAILED ? RSEQGO_RACED : status, t))
			return;
	}
}

struct worker {
	pthread_t thread;
	struct shared *shared;
	struct block *blocks; /* that it brings */
	int64_t count, owner, rounds;
	struct tally tally;
};

static void *work(void *argument)
{
	struct worker *w = argument;
	struct tally *t = &w->tally;
	struct block *has[BATCH];

	for (int64_t i = 0; i < w->count && !t->failed; i++)
		give(w->shared, &w->blocks[i], t);
	for (int64_t round = 0; round < w->rounds && !t->failed; round++) {
		int n = 0;

		while (n < BATCH && (has[n] = take(w->shared, t))) {
			t->doubly += has[n]->owner != 0;
			has[n]->owner = w->owner;
			has[n++]->uses++;
		}
		if (!n)
			sched_yield();
		while (n--) {
			t->doubly += has[n]->owner != w->owner;
			has[n]->owner = 0;
			give(w->shared, has[n], t);
		}
	}
	return NULL;
}

int shared_run(struct shared *s, struct block *blocks, int64_t count, int64_t first,
	       int64_t rounds, struct tally *tallies, int threads)
{
	struct worker *workers = calloc(threads, sizeof(*workers));
	int error = workers ? 0 : ENOMEM, started = 0;

	while (!error && started < threads) {
		struct worker *w = &workers[started];
		int64_t from = count * started / threads;

		w->shared = s;
		w->blocks = blocks + from;
		w->count = count * (started + 1) / threads - from;
		w->owner = first + started;
		w->rounds = rounds;
		error = pthread_create(&w->thread, NULL, work, w);
		started += !error;
	}
	for (int i = 0; i < started; i++) {
		pthread_join(workers[i].thread, NULL);
		tallies[i] = workers[i].tally;
	}
	free(workers);
	return error;
}

struct shared *shared_new(int64_t cpus, int64_t blocks)
{
	struct shared *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->cpus = cpus;
	s->count = blocks;
	s->lists = aligned_alloc(sizeof(*s->lists), cpus * sizeof(*s->lists));
	s->blocks = calloc(blocks, sizeof(*s->blocks));
	if (!s->lists || !s->blocks) {
		shared_free(s);
		return NULL;
	}
	memset(s->lists, 0, cpus * sizeof(*s->lists));
	return s;
}

void shared_free(struct shared *s)
{
	free(s->lists);
	free(s->blocks);
	free(s);
}
