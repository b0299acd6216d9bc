/* SPDX-License-Identifier: MIT
 *
 * Takes every exit of each section of rseqgo.h, and interrupts each section at each of its
 * points: once on an area of its own, where a signal handler does what the kernel does, so
 * that it works on any machine and emulator; and once on the C library's area, if there is
 * one. Prints what is wrong, and which of the two it did. Valid as C99 to C17 and as C++.
 */
#define _GNU_SOURCE 1
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

#ifdef __cplusplus
extern "C" {
#endif
/* The point at which sections wait until points_hold is 0, and whether one waits. */
__attribute__((visibility("hidden"))) volatile int points_hold, points_arrived;
#ifdef __cplusplus
}
#endif

#if defined(__x86_64__)
#define RSEQGO_INJECT_ASM(point)                                                    \
	"770:\tcmpl $" #point ", points_hold(%%rip)\n\t"                            \
	"jne 771f\n\t"                                                              \
	"movl $1, points_arrived(%%rip)\n\t"                                        \
	"jmp 770b\n"                                                                \
	"771:\t"
#define RSEQGO_INJECT_CLOBBER
#define PC(context) ((context)->uc_mcontext.gregs[REG_RIP])
#elif defined(__aarch64__)
#define RSEQGO_INJECT_ASM(point)                                                    \
	"770:\tadrp x12, points_hold\n\t"                                           \
	"ldr w12, [x12, :lo12:points_hold]\n\t"                                     \
	"cmp w12, #" #point "\n\t"                                                  \
	"b.ne 771f\n\t"                                                             \
	"mov w13, #1\n\t"                                                           \
	"adrp x12, points_arrived\n\t"                                              \
	"str w13, [x12, :lo12:points_arrived]\n\t"                                  \
	"b 770b\n"                                                                  \
	"771:\t"
#define RSEQGO_INJECT_CLOBBER , "x12", "x13"
#define PC(context) ((context)->uc_mcontext.pc)
#else
#define RSEQGO_INJECT_ASM(point)                                                    \
	"770:\tlw t3, points_hold\n\t"                                              \
	"li t4, " #point "\n\t"                                                     \
	"bne t3, t4, 771f\n\t"                                                      \
	"li t3, 1\n\t"                                                              \
	"sw t3, points_arrived, t4\n\t"                                             \
	"j 770b\n"                                                                  \
	"771:\t"
#define RSEQGO_INJECT_CLOBBER , "t3", "t4"
#define PC(context) ((context)->uc_mcontext.__gregs[REG_PC])
#endif
#include "../../rseqgo.h"

struct rseqgo_gate rseqgo_v1_gate;

/* glibc's symbols; weak, since other C libraries lack them. */
extern
#ifdef __cplusplus
	"C"
#endif
	const ptrdiff_t __rseq_offset __attribute__((weak));
extern
#ifdef __cplusplus
	"C"
#endif
	const unsigned int __rseq_size __attribute__((weak));

/* An area is never at the distance zero from the thread pointer, where a program's first
 * thread-local variable is on riscv64. */
static __thread struct {
	char apart[64];
	struct rseqgo_area area;
} own;
static struct rseqgo_area *area; /* of the main thread, which runs the sections */
static int real;                 /* the kernel has registered it */
static int failures;

#define EXPECT(condition, ...)                                                      \
	do {                                                                        \
		if (!(condition)) {                                                 \
			printf("line %d: expected %s: ", __LINE__, #condition);     \
			printf(__VA_ARGS__);                                        \
			printf("\n");                                               \
			failures++;                                                 \
		}                                                                   \
	} while (0)

/* The data of the operations. */
enum { LONGEST = 19 };
static struct {
	int64_t v, v2, load, sum;
	int64_t node[2];
	uintptr_t holder[2], holder_at;
	char src[LONGEST + 1], dst[LONGEST + 1];
} d;

enum op {
	ADD_STORE,
	CBNE_STORE,
	CBEQ_STORE_ADD_LOAD_STORE,
	ADD_LOAD_LOAD_ADD_STORE,
	CBNE_LOAD_CBNE_STORE,
	CBNE_STORE_STORE,
	CBNE_STORE_STORE_RELEASE,
	CBNE_MEMCPY_STORE,
	CBNE_MEMCPY_STORE_RELEASE,
	OPS
};

static void reset(void)
{
	memset(&d, 0, sizeof(d));
	d.v = 5;
	d.v2 = 6;
	d.sum = 10;
	d.node[1] = 77;
	d.holder[1] = (uintptr_t)&d.sum;
	d.holder_at = (uintptr_t)d.holder;
	strcpy(d.src, "0123456789abcdefghi");
}

/* first returns the word that the operation compares, or adds to. */
static int64_t first(int op)
{
	return op == CBEQ_STORE_ADD_LOAD_STORE ? (int64_t)(intptr_t)d.node : 5;
}

static enum rseqgo_status run(int op, enum rseqgo_index by, int64_t i, size_t len)
{
	switch (op) {
	case ADD_STORE:
		return rseqgo_load_add_store(by, &d.v, 3, i);
	case CBNE_STORE:
		return rseqgo_load_cbne_store(by, &d.v, 5, 9, i);
	case CBEQ_STORE_ADD_LOAD_STORE:
		return rseqgo_load_cbeq_store_add_load_store(by, &d.v, 0, 8, &d.load, i);
	case ADD_LOAD_LOAD_ADD_STORE:
		return rseqgo_load_add_load_load_add_store(by, &d.holder_at, 8, 4, i);
	case CBNE_LOAD_CBNE_STORE:
		return rseqgo_load_cbne_load_cbne_store(by, &d.v, 5, &d.v2, 6, 9, i);
	case CBNE_STORE_STORE:
		return rseqgo_load_cbne_store_store(by, &d.v, 5, &d.v2, 11, 9, i);
	case CBNE_STORE_STORE_RELEASE:
		return rseqgo_load_cbne_store_store_release(by, &d.v, 5, &d.v2, 11, 9, i);
	case CBNE_MEMCPY_STORE:
		return rseqgo_load_cbne_memcpy_store(by, &d.v, 5, d.dst, d.src, len, 9,
						     i);
	default:
		return rseqgo_load_cbne_memcpy_store_release(by, &d.v, 5, d.dst, d.src,
							     len, 9, i);
	}
}

/* done checks that the operation took effect. */
static void done(int op, size_t len)
{
	static const int64_t v[OPS] = { 8, 9, 77, 5, 9, 9, 9, 9, 9 };
	int copied = 0;

	EXPECT(d.v == v[op], "operation %d, %ld", op, (long)d.v);
	switch (op) {
	case CBEQ_STORE_ADD_LOAD_STORE:
		EXPECT(d.load == (int64_t)(intptr_t)d.node, "%ld", (long)d.load);
		break;
	case ADD_LOAD_LOAD_ADD_STORE:
		EXPECT(d.sum == 14, "%ld", (long)d.sum);
		break;
	case CBNE_STORE_STORE:
	case CBNE_STORE_STORE_RELEASE:
		EXPECT(d.v2 == 11, "%ld", (long)d.v2);
		break;
	case CBNE_MEMCPY_STORE:
	case CBNE_MEMCPY_STORE_RELEASE:
		while (copied < LONGEST && d.dst[copied] == d.src[copied])
			copied++;
		EXPECT((size_t)copied == len, "%d of %d bytes", copied, (int)len);
	}
}

/* not_done checks that it did not: the words that count have not changed. */
static void not_done(int op)
{
	EXPECT(d.v == first(op), "operation %d, %ld", op, (long)d.v);
	EXPECT(d.sum == 10, "operation %d, %ld", op, (long)d.sum);
}

static void start(int op)
{
	reset();
	d.v = first(op);
	points_arrived = 0;
}

/* Does what the kernel does, on an area of our own: a thread that gets a signal between start
 * and commit goes on at abort. Then the handler lets the section go on. */
static volatile sig_atomic_t handled, aborted;

static void handler(int sig, siginfo_t *info, void *context)
{
	const struct rseqgo_cs *cs;
	uint64_t pc = PC((ucontext_t *)context);
	uint32_t signature;

	(void)sig;
	(void)info;
	memcpy(&cs, (char *)area + RSEQGO_OFFSETOF_RSEQ_CS, sizeof(cs));
	if (!real && cs) {
		EXPECT((uintptr_t)cs % 32 == 0 && !cs->version && !cs->flags, "descriptor");
		EXPECT(cs->abort_ip - cs->start_ip >= cs->post_commit_offset,
		       "abort inside");
		memcpy(&signature, (char *)(uintptr_t)cs->abort_ip - 4, 4);
		EXPECT(signature == RSEQGO_SIG, "%#x", signature);
		if (pc - cs->start_ip < cs->post_commit_offset) {
			PC((ucontext_t *)context) = cs->abort_ip;
			aborted = 1;
		}
		memset((char *)area + RSEQGO_OFFSETOF_RSEQ_CS, 0, sizeof(cs));
	}
	points_hold = 0;
	handled = 1;
}

static pthread_t main_thread;
static int armed, over;

/* A thread that sends a signal when a section waits, once for each time that armed is set. */
static void *interrupt(void *argument)
{
	while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
		if (__atomic_load_n(&armed, __ATOMIC_ACQUIRE) && points_arrived) {
			__atomic_store_n(&armed, 0, __ATOMIC_RELAXED);
			pthread_kill(main_thread, SIGURG);
		}
		sched_yield();
	}
	return argument;
}

static void points(int op, enum rseqgo_index by)
{
	for (int point = 1; point <= 6; point++) {
		enum rseqgo_status status;

		if (point == 5 && (op == ADD_STORE || op == CBNE_STORE))
			continue; /* these have no second step */
		/* Repeat if the kernel aborted it before the point. */
		do {
			start(op);
			handled = aborted = 0;
			points_hold = point;
			__atomic_store_n(&armed, 1, __ATOMIC_RELEASE);
			status = run(op, by, rseqgo_current(by), LONGEST);
			if (status == RSEQGO_RACED)
				not_done(op);
			if (points_arrived)
				while (!handled)
					sched_yield();
			points_hold = 0;
		} while (!handled || (real && point == 1 && status == RSEQGO_RACED));
		if (point == 1 || point == 6) {
			EXPECT(status == RSEQGO_DONE, "operation %d, point %d: %d", op,
			       point, status);
			EXPECT(!aborted, "operation %d, point %d", op, point);
			done(op, LONGEST);
		} else {
			EXPECT(status == RSEQGO_RACED, "operation %d, point %d: %d", op,
			       point, status);
			EXPECT(real || aborted, "operation %d, point %d", op, point);
		}
	}
}

/* Repeats until it was not interrupted. */
static enum rseqgo_status undisturbed(int op, enum rseqgo_index by, size_t len)
{
	enum rseqgo_status status;

	do {
		int64_t v = d.v, v2 = d.v2;

		status = run(op, by, rseqgo_current(by), len);
		if (status == RSEQGO_RACED)
			d.v = v, d.v2 = v2;
	} while (real && status == RSEQGO_RACED);
	return status;
}

static void ways_out(int op, enum rseqgo_index by)
{
	static const size_t lengths[] = { 0, 1, 7, 8, 9, 16, LONGEST };
	enum rseqgo_status status;
	int64_t index = rseqgo_current(by);

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		start(op);
		status = undisturbed(op, by, lengths[i]);
		EXPECT(status == RSEQGO_DONE, "operation %d: %d", op, status);
		done(op, lengths[i]);
	}
	if (op != ADD_STORE && op != ADD_LOAD_LOAD_ADD_STORE) {
		int64_t other = op == CBEQ_STORE_ADD_LOAD_STORE ? 0 : 4;

		start(op);
		d.v = other;
		status = undisturbed(op, by, LONGEST);
		EXPECT(status == RSEQGO_COMPARE_FAILED, "operation %d: %d", op, status);
		EXPECT(d.v == other && d.v2 == 6 && !d.dst[0], "operation %d", op);
	}
	if (op == CBNE_LOAD_CBNE_STORE) {
		start(op);
		d.v2 = 7;
		status = undisturbed(op, by, LONGEST);
		EXPECT(status == RSEQGO_COMPARE_FAILED, "%d", status);
		EXPECT(d.v == 5, "%ld", (long)d.v);
	}

	start(op);
	status = run(op, by, -1, LONGEST);
	EXPECT(status == RSEQGO_OUT_OF_RANGE, "operation %d: %d", op, status);
	status = run(op, by, (int64_t)rseqgo_v1_gate.possible, LONGEST);
	EXPECT(status == RSEQGO_OUT_OF_RANGE, "operation %d: %d", op, status);
	not_done(op);
	if (rseqgo_v1_gate.possible > 1 && !real) {
		status = run(op, by, index ? 0 : 1, LONGEST);
		EXPECT(status == RSEQGO_RACED, "operation %d, another index: %d", op,
		       status);
		not_done(op);
	}
	if (!real) {
		struct rseqgo_gate open = rseqgo_v1_gate;
		struct rseqgo_area registered = *area;

		/* The concurrency id is 0, as a registered thread's may be. */
		area->cpu_id = (uint32_t)RSEQGO_CPU_ID_UNINITIALIZED;
		area->mm_cid = 0;
		for (int64_t i = 0; i < 2; i++) {
			status = run(op, by, i, LONGEST);
			EXPECT(status == RSEQGO_NOT_REGISTERED,
			       "operation %d, not registered: %d", op, status);
		}
		EXPECT(rseqgo_current(by) < 0, "%d", rseqgo_current(by));
		not_done(op);
		area->cpu_id = registered.cpu_id;
		area->mm_cid = registered.mm_cid;
		rseqgo_v1_gate.cs_cpu_id = rseqgo_v1_gate.cs_mm_cid = 0;
		status = run(op, by, index, LONGEST);
		EXPECT(status == RSEQGO_NOT_REGISTERED, "operation %d, closed: %d", op,
		       status);
		EXPECT(rseqgo_current(by) < 0, "%d", rseqgo_current(by));
		rseqgo_v1_gate = open;
		not_done(op);
	}
}

static void cells(enum rseqgo_index by)
{
	int64_t words[16 * 4] = { 0 };
	struct rseqgo_cells c = { words, 4, 128 };
	int index = rseqgo_current(by);
	enum rseqgo_status status = rseqgo_cells_add(by, &c, 7);

	if (index >= c.n) {
		EXPECT(status == RSEQGO_OUT_OF_RANGE, "%d", status);
		return;
	}
	EXPECT(status == RSEQGO_DONE, "%d", status);
	if (!real)
		EXPECT(words[16 * index] == 7, "%ld", (long)words[16 * index]);
	EXPECT(words[0] + words[16] + words[32] + words[48] == 7, "index %d", index);
	c.n = 0;
	status = rseqgo_cells_add(by, &c, 7);
	EXPECT(status == RSEQGO_OUT_OF_RANGE, "%d", status);
	EXPECT(words[0] + words[16] + words[32] + words[48] == 7, "index %d", index);
}

static void play(enum rseqgo_index by)
{
	for (int op = 0; op < OPS; op++) {
		ways_out(op, by);
		points(op, by);
	}
	cells(by);
}

int main(int argc, char **argv)
{
	struct sigaction action;
	pthread_t thread;
	struct rseqgo_area before;

	memset(&action, 0, sizeof(action));
	action.sa_sigaction = handler;
	action.sa_flags = SA_SIGINFO;
	sigaction(SIGURG, &action, NULL);
	main_thread = pthread_self();
	if (pthread_create(&thread, NULL, interrupt, NULL))
		return 2;

	area = &own.area;
	area->cpu_id_start = area->cpu_id = 1;
	area->mm_cid = 2;
	before = own.area;
	rseqgo_v1_gate.cs_cpu_id = rseqgo_v1_gate.cs_mm_cid =
		(uintptr_t)((char *)area - rseqgo_thread_pointer());
	rseqgo_v1_gate.possible = 4;
	play(RSEQGO_BY_CPU);
	play(RSEQGO_BY_CONCURRENCY_ID);
	memset((char *)&before + RSEQGO_OFFSETOF_RSEQ_CS, 0, 8);
	memset((char *)area + RSEQGO_OFFSETOF_RSEQ_CS, 0, 8);
	EXPECT(!memcmp(&before, area, sizeof(before)), "only rseq_cs is written");
	printf("its own area\n");

	(void)argv;
	if (argc == 1 && &__rseq_size && __rseq_size) {
		real = 1;
		area = (struct rseqgo_area *)(rseqgo_thread_pointer() + __rseq_offset);
		rseqgo_v1_gate.cs_cpu_id = (uintptr_t)__rseq_offset;
		rseqgo_v1_gate.possible = 1 << 16;
		play(RSEQGO_BY_CPU);
		printf("the C library's area\n");
	}
	__atomic_store_n(&over, 1, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	return failures != 0;
}
