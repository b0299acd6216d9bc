/* A process with four threads. The first waits in vfork, where no signal and no tracer can
 * stop it. Prints that it runs. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

static void *wait_for_ever(void *unused)
{
	for (;;)
		pause();
	return unused;
}

int main(void)
{
	pthread_t t;

	for (int n = 0; n < 3; n++)
		if (pthread_create(&t, NULL, wait_for_ever, NULL))
			return 1;
	puts("runs");
	fflush(stdout);
	if (!vfork()) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return 0;
}
