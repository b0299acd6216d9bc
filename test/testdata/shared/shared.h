/* SPDX-License-Identifier: MIT
 *
 * The words that Go and C add to: for each operation, a word for each index. */
#ifndef DELAY
#define DELAY "20" /* rounds at each point of the sections in C, to be interrupted there */
#endif
#if defined(__x86_64__)
#define RSEQGO_INJECT_ASM(point)                                                    \
	"movl $" DELAY ", %%r11d\n"                                                 \
	"770:\tdecl %%r11d\n\t"                                                     \
	"jnz 770b\n\t"
#define RSEQGO_INJECT_CLOBBER , "r11"
#elif defined(__aarch64__)
#define RSEQGO_INJECT_ASM(point)                                                    \
	"mov w12, #" DELAY "\n"                                                     \
	"770:\tsubs w12, w12, #1\n\t"                                               \
	"b.ne 770b\n\t"
#define RSEQGO_INJECT_CLOBBER , "x12"
#else
#define RSEQGO_INJECT_ASM(point)                                                    \
	"li t3, " DELAY "\n"                                                        \
	"770:\taddi t3, t3, -1\n\t"                                                 \
	"bnez t3, 770b\n\t"
#define RSEQGO_INJECT_CLOBBER , "t3"
#endif
#include "rseqgo.h"

enum { CELLS, ADD, CBNE, STORE, STORE_RELEASE, COPY, COPY_RELEASE, THROUGH, TWO, OPS };

/* The data of an index, in cache lines of its own. */
struct share {
	int64_t words[OPS]; /* that are added to */
	int64_t aside[OPS]; /* that may have any value */
	int64_t copy[OPS][3];
	int64_t same;         /* 5 */
	uintptr_t holder[2];  /* the second is the address of words[THROUGH] */
	uintptr_t at;         /* the address of holder */
	char apart[128];
} __attribute__((aligned(128)));

struct work {
	enum rseqgo_index by;
	struct share *shares; /* for each index */
	int64_t n;
	int64_t rounds;
	int64_t done[OPS], raced[OPS];
	int failed; /* the status that ended the work, or 0 */
};

/* work does rounds of each operation, and goes on until each has raced. Any thread may call
 * it. */
void work(struct work *w);

/* work_in_threads does that in n threads, and sends them signals meanwhile. It returns zero or
 * an errno. */
int work_in_threads(struct work *w, int n);
