/* A library for LD_PRELOAD with the tunable off that registers areas as tcmalloc does: the
 * area is the thread-local variable __rseq_abi, registered at a thread's first allocation. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __x86_64__
#define SIGNATURE 0x53053053
#else
#define SIGNATURE 0xd428bc00
#endif

extern void *__libc_malloc(size_t);

__thread struct {
	uint32_t words[8];
} __rseq_abi __attribute__((aligned(32), tls_model("initial-exec"))) = { { 0, (uint32_t)-1 } };

void *malloc(size_t size)
{
	if ((int32_t)__rseq_abi.words[1] == -1 &&
	    syscall(SYS_rseq, &__rseq_abi, 32, 0, SIGNATURE))
		__rseq_abi.words[1] = (uint32_t)-2;
	return __libc_malloc(size);
}

__attribute__((constructor)) static void main_thread(void)
{
	free(malloc(1));
}
