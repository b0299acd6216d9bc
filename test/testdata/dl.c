/* A program, static or not, that loads the C part with dlopen. With -DNAMESPACE it loads it
 * into a namespace of its own, which has a copy of the C library. With -DFAR the program has
 * 20 KB of thread-local data. Prints its own area, and what the C part reports. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>

extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

#ifdef FAR
__thread char far[20000] = { 1 };
#endif

int main(int argc, char **argv)
{
#ifdef NAMESPACE
	void *lib = argc > 1 ? dlmopen(LM_ID_NEWLM, argv[1], RTLD_NOW) : NULL;
#else
	void *lib = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
#endif
	char text[200];

	if (!lib) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
#ifdef FAR
	far[argc]++;
#endif
	((int (*)(char *, int))dlsym(lib, "shim_report"))(text, sizeof(text));
	printf("%td %u: %s\n", &__rseq_offset ? __rseq_offset : 0,
	       &__rseq_size ? __rseq_size : 0, text);
	return 0;
}
