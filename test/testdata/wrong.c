/* Runs the section spin with wrong descriptors, each in a child process, and interrupts it with
 * SIGALRM. Prints how each child ended. It is linked with the C part. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../internal.h"

extern const char rseqgo_v1_cs_spin_start[] RSEQGO_HIDDEN;
extern const char rseqgo_v1_cs_spin_commit[] RSEQGO_HIDDEN;
extern const char rseqgo_v1_cs_spin_abort[] RSEQGO_HIDDEN;

struct descriptor {
	uint32_t version, flags;
	uint64_t start, length, abort;
} __attribute__((aligned(32)));

static void on_alarm(int signal)
{
	(void)signal;
}

static void run(const char *name, const struct descriptor *d)
{
	int status = 0;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child) {
		struct itimerval soon = { { 0, 0 }, { 0, 5000 } };
		struct rlimit none = { 0, 0 };
		uint32_t flag = 0;

		setrlimit(RLIMIT_CORE, &none);
		if (rseqgo_register_thread() < 0)
			_exit(9);
		setitimer(ITIMER_REAL, &soon, NULL);
		_exit(rseqgo_v1_cs_spin(&flag, 1 << 30,
					(void *)rseqgo_area(rseqgo_discover()), d));
	}
	waitpid(child, &status, 0);
	if (WIFSIGNALED(status))
		printf("%s: signal %d\n", name, WTERMSIG(status));
	else
		printf("%s: exit %d\n", name, WEXITSTATUS(status));
}

int main(void)
{
	const struct descriptor right = {
		0, 0, (uintptr_t)rseqgo_v1_cs_spin_start,
		rseqgo_v1_cs_spin_commit - rseqgo_v1_cs_spin_start,
		(uintptr_t)rseqgo_v1_cs_spin_abort,
	};
	struct descriptor wrong;

	signal(SIGALRM, on_alarm);
	run("its own", (const struct descriptor *)rseqgo_v1_cs_spin_descriptor);
	run("the same", &right);
	wrong = right;
	wrong.abort = right.start + right.length; /* no signature before it */
	run("no signature", &wrong);
	wrong = right;
	wrong.length = right.abort + 1 - right.start; /* the abort address is inside */
	run("abort inside", &wrong);
	wrong = right;
	wrong.version = 1;
	run("version 1", &wrong);
	run("unmapped", mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	wrong = right;
	wrong.length = 0; /* the instruction pointer is outside */
	run("elsewhere", &wrong);
	return 0;
}
