//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

/* SPDX-License-Identifier: MIT
 *
 * The C part of program shared. */
#define _GNU_SOURCE
#include "shared.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

static enum rseqgo_status once(struct work *w, int op, int i)
{
	struct share *s = &w->shares[i];
	int64_t *v = &s->words[op];
	int64_t old = __atomic_load_n(v, __ATOMIC_RELAXED);
	int64_t three[3] = { old, old + 1, old + 2 };

	switch (op) {
	case ADD:
		return rseqgo_load_add_store(w->by, v, 1, i);
	case CBNE:
		return rseqgo_load_cbne_store(w->by, v, old, old + 1, i);
	case STORE:
		return rseqgo_load_cbne_store_store(w->by, v, old, &s->aside[op], old,
						    old + 1, i);
	case STORE_RELEASE:
		return rseqgo_load_cbne_store_store_release(w->by, v, old, &s->aside[op],
							    old, old + 1, i);
	case COPY:
		return rseqgo_load_cbne_memcpy_store(w->by, v, old, s->copy[op], three,
						     sizeof(three), old + 1, i);
	case COPY_RELEASE:
		return rseqgo_load_cbne_memcpy_store_release(
			w->by, v, old, s->copy[op], three, sizeof(three), old + 1, i);
	case THROUGH:
		return rseqgo_load_add_load_load_add_store(w->by, &s->at,
							   sizeof(uintptr_t), 1, i);
	default:
		return rseqgo_load_cbne_load_cbne_store(w->by, v, old, &s->same, 5,
							old + 1, i);
	}
}

/* do_one does an operation once, and repeats it while it is interrupted. */
static int do_one(struct work *w, int op)
{
	struct rseqgo_cells cells = { &w->shares[0].words[CELLS], w->n,
				      sizeof(struct share) };

	for (int late = 0;;) {
		int i = op == CELLS ? 0 : rseqgo_current(w->by);
		enum rseqgo_status status;

		if (i < 0)
			status = RSEQGO_NOT_REGISTERED;
		else if (i >= w->n)
			status = RSEQGO_OUT_OF_RANGE;
		else if (op == CELLS)
			status = rseqgo_cells_add(w->by, &cells, 1);
		else
			status = once(w, op, i);
		switch (status) {
		case RSEQGO_DONE:
			w->done[op]++;
			return 1;
		case RSEQGO_COMPARE_FAILED: /* another thread came first */
		case RSEQGO_RACED:
			w->raced[op]++;
			continue;
		case RSEQGO_NOT_REGISTERED: /* the thread's first operation */
			if (!late++ && rseqgo_register_thread() >= 0)
				continue;
			break;
		default:
			break;
		}
		w->failed = status;
		return 0;
	}
}

void work(struct work *w)
{
	int all = 0;

	for (int64_t round = 0; round < w->rounds || !all; round++) {
		all = 1;
		for (int op = 0; op < OPS; op++) {
			if (!do_one(w, op))
				return;
			all &= op == CELLS || w->raced[op] > 0;
		}
	}
}

struct worker {
	pthread_t thread;
	struct work *w;
	int over;
};

static void *run(void *argument)
{
	struct worker *worker = argument;

	work(worker->w);
	__atomic_store_n(&worker->over, 1, __ATOMIC_RELEASE);
	return NULL;
}

int work_in_threads(struct work *w, int n)
{
	struct worker *workers = calloc(n, sizeof(*workers));
	int error = workers ? 0 : ENOMEM, started = 0, running;

	for (; !error && started < n; started += !error) {
		workers[started].w = &w[started];
		error = pthread_create(&workers[started].thread, NULL, run,
				       &workers[started]);
	}
	do {
		running = 0;
		for (int i = 0; i < started; i++) {
			if (__atomic_load_n(&workers[i].over, __ATOMIC_ACQUIRE))
				continue;
			/* Go uses this signal, so the program expects it at any time. */
			pthread_kill(workers[i].thread, SIGURG);
			running++;
		}
		sched_yield();
	} while (running);
	for (int i = 0; i < started; i++)
		pthread_join(workers[i].thread, NULL);
	free(workers);
	return error;
}
