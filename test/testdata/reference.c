/* A program that refers to glibc's rseq symbols by name, not by dlsym, strongly or with
 * -DWEAK weakly. Prints what it sees through the reference, "NULL" if nothing, and what
 * dlsym says. With -DHIDDEN: another part of the program, whose weak reference is hidden. */
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
