/* SPDX-License-Identifier: MIT
 *
 * Lists of free blocks, one for each CPU, that Go and C code share.
 *
 * Threads take a block from the list of the CPU that they run on, and give it to the
 * list of the CPU that they run on then, by a critical section of package rseq each.
 * The words are plain: only the threads of one CPU touch a list, one after the other,
 * and the kernel orders what a CPU's threads do, as it orders what one thread does on
 * its way from CPU to CPU. So the thread that takes a block sees what the thread
 * that gave it has written to it. A thread that is no longer on the CPU whose list it looks at may read
 * anything; its section fails and has done nothing.
 *
 * Nor does it matter that the same block may be the head again later: a take is one
 * section, the read of the link included, and a give links to whatever is the head.
 */
#include <stdint.h>

/* struct block is in one place: on a list, or with the thread that took it. */
struct block {
	int64_t next;  /* address of the next one on the list, or 0 */
	int64_t owner; /* which worker has it; 0: none */
	int64_t uses;  /* how often it was taken */
	char data[40];
};

/* struct list is a CPU's, in cache lines that no other CPU writes. */
struct list {
	int64_t head; /* address of the first block, or 0 */
	char apart[120];
};

struct shared {
	struct list *lists; /* by CPU number */
	int64_t cpus;
	struct block *blocks; /* all */
	int64_t count;
};

/* struct tally is what a worker did, a goroutine or a C thread. */
struct tally {
	int64_t taken, given;
	int64_t raced;  /* sections that were tried again */
	int64_t empty;  /* takes that found no block on this CPU */
	int64_t doubly; /* blocks taken that another worker had too */
	int64_t failed; /* why it ended: a section's status, or 0 */
};

/* What a worker takes before it gives back. */
enum { BATCH = 4 };

/* shared_new returns empty lists and zero blocks, NULL without memory. */
struct shared *shared_new(int64_t cpus, int64_t blocks);
void shared_free(struct shared *s);

/* shared_run runs as many threads as there are tallies. Each brings its part of
 * count blocks, and takes and gives so many rounds. Their numbers as owners begin with
 * first. It returns zero or an errno. */
int shared_run(struct shared *s, struct block *blocks, int64_t count, int64_t first,
	       int64_t rounds, struct tally *tallies, int threads);
