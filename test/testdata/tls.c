/* Measures thread-local storage in libraries that are loaded by dlopen: how much room there is,
 * what alignment is possible, and what a read costs.
 *
 * With -DLIBRARY: a library that reads a variable of its own by each model.
 * Without: "tls room LIBRARY N" loads up to N copies, LIBRARY.0, LIBRARY.1 and so on, and
 * prints how many found room. "tls cost LIBRARY" prints the time of a read by the dynamic
 * model (a call of __tls_get_addr), as a multiple of a read at a constant offset. */
#if defined(ALIGNED)
/* With -DALIGNED=N: a library whose thread-local variable is aligned to N. */
static __thread volatile char aligned[64]
	__attribute__((aligned(ALIGNED), tls_model("initial-exec")));
int read_aligned(void) { return aligned[0]; }
#elif defined(LIBRARY)
static __thread volatile int dynamic __attribute__((tls_model("global-dynamic")));
static __thread volatile int constant __attribute__((tls_model("initial-exec")));

__attribute__((noinline)) int read_dynamic(void) { return dynamic; }
__attribute__((noinline)) int read_constant(void) { return constant; }
#else
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds(int (*read)(void))
{
	struct timespec a, b;

	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 0; i < 20000000; i++)
		read();
	clock_gettime(CLOCK_MONOTONIC, &b);
	return (b.tv_sec - a.tv_sec) + 1e-9 * (b.tv_nsec - a.tv_nsec);
}

static int compare(const void *a, const void *b)
{
	return (*(double *)a > *(double *)b) - (*(double *)a < *(double *)b);
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "room")) {
		char name[4096];
		int i;

		for (i = 0; i < atoi(argv[3]); i++) {
			snprintf(name, sizeof(name), "%s.%d", argv[2], i);
			if (!dlopen(name, RTLD_NOW))
				break;
		}
		printf("%d\n", i);
		if (i < atoi(argv[3]))
			fprintf(stderr, "%s\n", dlerror());
		return 0;
	}
	void *lib = argc == 3 ? dlopen(argv[2], RTLD_NOW) : NULL;
	double ratio[9];

	if (!lib)
		return 1;
	for (int i = 0; i < 9; i++)
		ratio[i] = seconds((int (*)(void))dlsym(lib, "read_dynamic")) /
			   seconds((int (*)(void))dlsym(lib, "read_constant"));
	qsort(ratio, 9, sizeof(*ratio), compare);
	printf("%.2f\n", ratio[4]);
	return 0;
}
#endif
