/* "churn THREADS": a program whose threads keep making threads. Prints that it runs. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *end(void *unused)
{
	return unused;
}

static void *make(void *unused)
{
	pthread_attr_t detached;

	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	for (;;) {
		pthread_t t;

		if (pthread_create(&t, &detached, end, NULL))
			usleep(1000);
	}
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t t;

	for (int n = argc > 1 ? atoi(argv[1]) : 1; n > 0; n--)
		if (pthread_create(&t, NULL, make, NULL))
			return 1;
	puts("runs");
	fflush(stdout);
	pause();
	return 0;
}
