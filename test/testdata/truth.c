/* Prints as JSON what the package should report about this machine's C library and kernel. It
 * shares no code with the package. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <sys/auxv.h>

int main(void)
{
	unsigned int *size = dlsym(RTLD_DEFAULT, "__rseq_size");
	unsigned int *flags = dlsym(RTLD_DEFAULT, "__rseq_flags");

	printf("{\"symbols\": %s, \"size\": %u, \"flags\": %u, \"feature_size\": %lu, \"align\": %lu}\n",
	       size ? "true" : "false", size ? *size : 0, flags ? *flags : 0, getauxval(27), getauxval(28));
	return 0;
}
