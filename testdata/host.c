/* A C program with this package inside: linked in, or, with an argument, in the
 * library of that name. Pins itself to each CPU that it may use, compares, and
 * prints what Query says. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef LINKED
char *RseqJSON(void);
int RseqCPU(void);
#endif

int main(int argc, char **argv)
{
	char *(*json)(void) = NULL;
	int (*cpu)(void) = NULL;
	cpu_set_t allowed, one;

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
	sched_getaffinity(0, sizeof(allowed), &allowed);
	for (int i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, &allowed))
			continue;
		CPU_ZERO(&one);
		CPU_SET(i, &one);
		sched_setaffinity(0, sizeof(one), &one);
		if (cpu() != i) {
			fprintf(stderr, "pinned to %d, read %d\n", i, cpu());
			return 1;
		}
	}
	puts(json());
	return 0;
}
