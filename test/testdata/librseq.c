/* Registers threads as librseq does (src/rseq.c, 2024 and 2025) where the C library registers
 * nothing: a thread is registered when the program calls it. The registration of the first
 * thread may fail. If a later one fails, the process is aborted; so it is if the thread is
 * already registered, which the kernel refuses. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../glibc.h"

ptrdiff_t rseq_offset;
unsigned int rseq_size = -1U, rseq_flags;

static __thread struct {
	uint32_t words[256];
} area __attribute__((tls_model("initial-exec"), aligned(1024))) = { { 0, (uint32_t)-1 } };

__attribute__((constructor)) static void init(void)
{
	rseq_offset = (char *)&area - rseqgo_thread_pointer();
	rseq_size = 0;
}

int rseq_register_current_thread(void)
{
	unsigned int length = rseq_size < 32 ? 32 : rseq_size;

	if (syscall(SYS_rseq, &area, length, 0, RSEQGO_SIG)) {
		if (rseq_size > 0) {
			perror("librseq: incoherent success and failure");
			abort();
		}
		return -1;
	}
	if (!rseq_size) {
		rseq_size = getauxval(RSEQGO_AT_RSEQ_FEATURE_SIZE);
		if (rseq_size < 20)
			rseq_size = 20;
	}
	return 0;
}
