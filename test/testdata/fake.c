/* Simulates C libraries and kernels that this machine does not have, by including the C
 * files with the functions that they call replaced.
 *
 * fake LIBC_SIZE FEATURE_SIZE ALIGN: if LIBC_SIZE is -1 the C library has no symbols, and if
 * it is -2 their values were never set.
 * Prints owner, via, libc_size, size, kernel_feature_size, kernel_align. With one more
 * argument it registers an area for this thread, and prints owner, len and size. */
#define getauxval fake_getauxval
#define dlsym fake_dlsym
#define __rseq_offset absent_offset
#define __rseq_size absent_size
#define __rseq_flags absent_flags
#include "../../ask.c"
#include "../../glibc.c"
#include "../../own.c"
#include "../../owner.c"
#undef getauxval
#undef dlsym

unsigned long getauxval(unsigned long type);

static long libc_size = -1;
static unsigned long feature_size, align;

unsigned long fake_getauxval(unsigned long type)
{
	return type == 27 ? feature_size : type == 28 ? align : getauxval(type);
}

void *fake_dlsym(void *handle, const char *name)
{
	static ptrdiff_t offset;
	static unsigned int size, flags;

	(void)handle;
	if (libc_size == -1)
		return NULL;
	offset = libc_size < 0 ? 0 : -160;
	size = libc_size < 0 ? 0 : libc_size;
	return !strcmp(name, "__rseq_offset") ? (void *)&offset :
	       !strcmp(name, "__rseq_size")   ? (void *)&size :
	       !strcmp(name, "__rseq_flags")  ? (void *)&flags :
						NULL;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	libc_size = atol(argv[1]);
	feature_size = atol(argv[2]);
	align = atol(argv[3]);
	found_done = 0; /* the constructor ran with the real sources */
	find();
	const struct rseqgo_info *i = rseqgo_discover();
	if (argc > 4) {
		if (rseqgo_register_thread() < 0)
			return 1;
		printf("%d %u %u\n", i->owner, i->len, i->size);
		return 0;
	}
	printf("%d %d %u %u %u %u\n", i->owner, i->via, i->libc_size, i->size,
	       i->kernel_feature_size, i->kernel_align);
	return 0;
}
