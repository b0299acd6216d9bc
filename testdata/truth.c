/* Says of this machine's C library and kernel what the package should say,
 * without any of the package's code: one JSON object. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>

int main(void)
{
	ptrdiff_t *offset = dlsym(RTLD_DEFAULT, "__rseq_offset");
	unsigned int *size = dlsym(RTLD_DEFAULT, "__rseq_size");
	unsigned int *flags = dlsym(RTLD_DEFAULT, "__rseq_flags");
	int32_t words[8] = { 0, -1 };
	char *tp;

#if defined(__x86_64__)
	__asm__("movq %%fs:0, %0" : "=r"(tp));
#else
	__asm__("mrs %0, tpidr_el0" : "=r"(tp));
#endif
	if (offset && size && *size)
		memcpy(words, tp + *offset, sizeof(words));
	printf("{\"symbols\": %s, \"offset\": %td, \"size\": %u, \"flags\": %u,"
	       " \"cpu\": %d, \"sched_getcpu\": %d, \"node\": %d, \"mm_cid\": %d,"
	       " \"feature_size\": %lu, \"align\": %lu}\n",
	       offset ? "true" : "false", offset ? *offset : 0,
	       size ? *size : 0, flags ? *flags : 0, words[1], sched_getcpu(),
	       words[5], words[6], getauxval(27), getauxval(28));
	return 0;
}
