/* The C part of the package as a shared object. With -DTRIVIAL without the C part: only two
 * calls that the C part makes too. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <sys/auxv.h>
#include "../../internal.h"

#ifdef TRIVIAL
int shim_report(char *text, int size)
{
	return snprintf(text, size, "%lu %p", getauxval(AT_PAGESZ), dlsym(RTLD_DEFAULT, "no_such_symbol"));
}
#else

int shim_report(char *text, int size)
{
	const struct rseqgo_info *i = rseqgo_discover();

	return snprintf(text, size, "owner %d via %d offset %td own %lu size %u len %u signature %#x cpu %d",
			i->owner, i->via, i->offset,
			(unsigned long)(rseqgo_thread_pointer() + rseqgo_own_offset()) % 64,
			i->size, i->len, i->signature, rseqgo_cpu_id(i));
}
#endif
