/* A static program that loads the C part with dlopen. With -DFAR it has 20 KB
 * of thread-local data. Prints its own area and what the C part reports. */
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
	void *lib = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
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
