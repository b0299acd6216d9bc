/* "idle [THREADS [leave]]": a program whose threads do nothing. Prints that it runs. With a
 * second argument its first thread ends. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *idle(void *unused)
{
	free(malloc(1));
	for (;;)
		pause();
	return unused;
}

int main(int argc, char **argv)
{
	pthread_attr_t small;
	pthread_t t;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	for (int n = argc > 1 ? atoi(argv[1]) : 1; n > 1; n--)
		if (pthread_create(&t, &small, idle, NULL))
			return 1;
	puts("runs");
	fflush(stdout);
	if (argc > 2)
		pthread_exit(NULL);
	idle(NULL);
	return 0;
}
