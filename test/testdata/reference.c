/* A program that refers to glibc's rseq symbols by name: strongly, or weakly with -DWEAK.
 * Prints the values that it reads by name, or "NULL", and those that it reads by dlsym. With
 * -DHIDDEN: another object of the program, with a weak hidden reference. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>

#if defined(HIDDEN)
#define REFERENCE __attribute__((weak, visibility("hidden")))
#elif defined(WEAK)
#define REFERENCE __attribute__((weak))
#else
#define REFERENCE
#endif
extern const ptrdiff_t __rseq_offset REFERENCE;
extern const unsigned int __rseq_size REFERENCE;

#ifdef HIDDEN
const void *hidden(void) { return &__rseq_offset; }
#else
int main(void)
{
	const ptrdiff_t *offset = dlsym(RTLD_DEFAULT, "__rseq_offset");
	const unsigned int *size = dlsym(RTLD_DEFAULT, "__rseq_size");

	if (&__rseq_offset && &__rseq_size)
		printf("%td %u\n", __rseq_offset, __rseq_size);
	else
		printf("NULL\n");
	printf("%td %u\n", *offset, *size);
	return 0;
}
#endif
