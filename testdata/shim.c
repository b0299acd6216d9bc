/* The C part of the package as a plain shared object. */
#include <stdio.h>
#include "../glibc.h"

int shim_report(char *text, int size)
{
	const struct rseqgo_info *i = rseqgo_discover();

	return snprintf(text, size, "owner %d via %d offset %td size %u len %u signature %#x cpu %d",
			i->owner, i->via, i->offset, i->size, i->len,
			i->signature, rseqgo_cpu_id(i));
}
