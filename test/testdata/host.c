/* A C program that uses this package: linked in, or with an argument from the library of
 * that name. With a second argument it starts that many threads before it loads the library.
 * Each thread pins itself to each CPU that it may use and compares what Go reads. Then the
 * program prints what Query returns. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef LINKED
char *RseqJSON(void);
int RseqCPU(void);
#endif

static int (*cpu)(void);
static pthread_barrier_t loaded;

static void *compare(void *wait)
{
	enum { SETS = 64 }; /* more CPUs than any kernel can be built for */
	cpu_set_t allowed[SETS] = { 0 };

	if (wait)
		pthread_barrier_wait(&loaded);
	sched_getaffinity(0, sizeof(allowed), allowed);
	for (int i = 0; i < (int)sizeof(allowed) * 8; i++) {
		cpu_set_t one[SETS] = { 0 };

		if (!CPU_ISSET_S(i, sizeof(allowed), allowed))
			continue;
		CPU_SET_S(i, sizeof(one), one);
		sched_setaffinity(0, sizeof(one), one);
		if (cpu() != i) {
			fprintf(stderr, "pinned to %d, read %d\n", i, cpu());
			exit(1);
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	char *(*json)(void) = NULL;
	int threads = argc > 2 ? atoi(argv[2]) : 0;
	pthread_t *thread = calloc(threads + 1, sizeof(*thread));

	pthread_barrier_init(&loaded, NULL, threads + 1);
	for (int i = 0; i < threads; i++)
		pthread_create(&thread[i], NULL, compare, &loaded);
#ifdef LINKED
	json = RseqJSON;
	cpu = RseqCPU;
#endif
	if (argc > 1) {
		void *lib = dlopen(argv[1], RTLD_NOW);

		if (!lib) {
			fprintf(stderr, "%s\n", dlerror());
			return 1;
		}
		json = (char *(*)(void))dlsym(lib, "RseqJSON");
		cpu = (int (*)(void))dlsym(lib, "RseqCPU");
	}
	pthread_barrier_wait(&loaded);
	for (int i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	compare(NULL);
	puts(json());
	return 0;
}
