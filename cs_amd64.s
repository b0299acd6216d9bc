//go:build linux && !android && cgo
/* SPDX-License-Identifier: MIT
 *
 * Critical sections for amd64, in the order of cs_arm64.s. docs/architecture.md
 * tells how Go gets here and what an abort does.
 *
 * Calling convention: Go's ABI0, so the arguments are on the caller's stack from
 * 8(%rsp) on, the result behind them, and every register but rsp and rbp is
 * free. A section reads its arguments before it starts, writes their slots and
 * nothing else on the stack, and never calls. The first argument, but for those on
 * the thread's own index, is the index: 0 for cpu_id, 1 for mm_cid; each operation is
 * written once, as a macro, and made for both.
 *
 *	<name>:		arguments, refusals, rseq_cs = descriptor
 *	<name>_start:	the thread's index is compared, loads, compares
 *	<name>_commit:	right behind the one store that does it
 *			exits: compare failed, raced, not registered, ...
 *	signature
 *	<name>_abort:	the kernel continues here if the thread was preempted,
 *			migrated or sent a signal between start and commit
 *
 * r10 is the distance from the thread pointer to the area, r8 the index that the
 * caller expects or that the thread had, rax scratch.
 */
	.include "cs_amd64.h"
	.include "cs.h"

/* DISPATCH leaves for other if the first argument says mm_cid. */
	.macro	DISPATCH other
	.ifnb	\other
	cmpb	$0, 8(%rsp)
	jne	\other
	.endif
	.endm

/* INJECT is a delay loop for the tests, nothing in a normal build: so many rounds
 * as a word says, or until that turns zero. It clobbers r11 and the flags. */
	.macro	INJECT point
	.ifdef	RSEQGO_INJECT
	movl	rseqgo_v1_inject + 4 * \point(%rip), %r11d
881:	cmpl	$0, rseqgo_v1_inject + 4 * \point(%rip)
	je	882f
	decl	%r11d
	jnz	881b
882:
	.endif
	.endm

/* START starts the section; a thread whose index is not r8 leaves for elsewhere. */
	.macro	START name, index, elsewhere
	leaq	\name\()_descriptor(%rip), %rax
	INJECT	1
	movq	%rax, %fs:RSEQ_RSEQ_CS(%r10)
	HIDDEN	\name\()_start
	INJECT	2
	.ifc	\index, mm_cid
	/* An unregistered area's mm_cid is 0, as CPU 0's thread's may be. */
	cmpl	$0, %fs:RSEQ_CPU_ID(%r10)
	js	.L\name\()_unregistered
	EXIT_POINT \name, .L\name\()_unregistered
	.endif
	cmpl	%r8d, %fs:RSEQ_INDEX_\index(%r10)
	jne	\elsewhere
	EXIT_POINT \name, \elsewhere
	INJECT	3
	.endm

/* ENTER starts the section of an operation that names its index, argument
 * at(%rsp): refused, or an index that cannot be, leave before. */
	.macro	ENTER name, index, at
	movq	rseqgo_v1_cs_offset_\index(%rip), %r10
	movq	\at(%rsp), %r8
	testq	%r10, %r10
	jz	.L\name\()_unregistered
	cmpq	rseqgo_v1_cs_possible(%rip), %r8
	jae	.L\name\()_range
	START	\name, \index, .L\name\()_elsewhere
	.endm

/* COMPARE_FAILS is the exit of the branches just before it. */
	.macro	COMPARE_FAILS name
	EXIT_POINT \name, .L\name\()_compare_failed
	.set	.L\name\()_compares, 1
	.endm

/* COMMIT stands behind the committing store and ends the function; result is
 * where the status goes. */
	.macro	COMMIT name, index, result
	HIDDEN	\name\()_commit
	INJECT	6
	movl	$DONE, \result(%rsp)
	ret
	.ifdef	.L\name\()_compares
.L\name\()_compare_failed:
	movl	$COMPARE_FAILED, \result(%rsp)
	ret
	.endif
.L\name\()_elsewhere:
	.ifc	\index, cpu_id
	cmpl	$0, %fs:RSEQ_CPU_ID(%r10)
	js	.L\name\()_unregistered
	.endif
	movl	$RACED, \result(%rsp)
	ret
.L\name\()_unregistered:
	movl	$NOT_REGISTERED, \result(%rsp)
	ret
.L\name\()_range:
	movl	$OUT_OF_RANGE, \result(%rsp)
	ret
	SIGNATURE
	HIDDEN	\name\()_abort
	movl	$RACED, \result(%rsp)
	ret
	END_FUNCTION \name
	DESCRIPTOR \name
	.endm

/* SIGNATURE is RSEQ_SIG as the operand of ud1, for disassemblers' sake (glibc's
 * bits/rseq.h for x86). */
	.macro	SIGNATURE
	.byte	0x0f, 0xb9, 0x3d
	.long	RSEQ_SIG
	.endm

/* BOTH makes an operation's two functions. */
	.macro	BOTH macro, op
	\macro	rseqgo_v1_cs_\op\()_cpu_id, cpu_id, rseqgo_v1_cs_\op\()_mm_cid
	\macro	rseqgo_v1_cs_\op\()_mm_cid, mm_cid
	.endm

/* RELEASES names an operation's releasing variant: on x86 every store releases. */
	.macro	RELEASES op
	.irp	index, cpu_id, mm_cid
	.globl	rseqgo_v1_cs_\op\()_release_\index
	.hidden	rseqgo_v1_cs_\op\()_release_\index
	.set	rseqgo_v1_cs_\op\()_release_\index, rseqgo_v1_cs_\op\()_\index
	.endr
	.endm

/* OWN begins an operation on the thread's own index: rdi is a struct that has its
 * number of indexes at n. Refused, or beyond that number, it leaves. Where it is
 * interrupted it starts again, at _again, so rdi, rsi, r10 and rbx stay. */
	.macro	OWN name, index, n
	FUNCTION \name
	movq	8(%rsp), %rdi
	movq	rseqgo_v1_cs_offset_\index(%rip), %r10
	movq	16(%rsp), %rsi
	testq	%r10, %r10
	jz	.L\name\()_unregistered
.L\name\()_again:
	movl	%fs:RSEQ_INDEX_\index(%r10), %r8d
	movq	%r8, %rdx
	cmpq	\n(%rdi), %r8		/* signed, and r8 is not negative */
	jge	.L\name\()_beyond
	.endm

/* SAY stores a status, if there is a slot for it. */
	.macro	SAY status, at
	.ifnb	\at
	movl	$\status, \at(%rsp)
	.endif
	.endm

/* OTHERWISE has the ways out of an operation on the thread's own index, for the
 * status at(%rsp), and ends the function. A struct without indexes may have some for
 * the other function. try counts the tries and leaves for _again, or falls through.
 * leave is "ret", or "jmp *%rbx": what the entry in Go assembly put there does the
 * rest, with the same arguments. */
	.macro	OTHERWISE name, at, leave, other, try:vararg
.L\name\()_beyond:
	testl	%r8d, %r8d		/* the cpu_id of an unregistered area */
	js	.L\name\()_unregistered
	.ifnb	\other
	cmpq	$0, OWN_N_MM_CID(%rdi)
	jne	\other
	.endif
	SAY	OUT_OF_RANGE, \at
	\leave
.L\name\()_unregistered:
	SAY	NOT_REGISTERED, \at
	\leave
	SIGNATURE
	HIDDEN	\name\()_abort
	\try
	SAY	RACED, \at
	\leave
	END_FUNCTION \name
	DESCRIPTOR \name
	.endm

/* Status add(struct cells *cells, int64_t delta)
 *
 *	i = current index
 *	if (i >= cells->n) return OUT_OF_RANGE
 *	*(cells->base + i * cells->stride) += delta, if i is still the index
 *
 * and void count(struct counter *cells, int64_t delta), which is done otherwise where
 * it cannot be.
 *
 * in: cells rdi, delta rsi; r8d the index, rdx the word's address: computed before
 * the section starts, since a load right behind the store of rseq_cs beside it is
 * slow, and only the comparison, which is predicted, waits for that. The addq
 * commits. It tries 128 times: counted in the slot of the argument delta, which rsi
 * remembers, so that a first try needs no counter. */
	.macro	ADD_OWN name, index, n
	OWN	\name, \index, \n
	imulq	CELLS_STRIDE(%rdi), %rdx
	addq	CELLS_BASE(%rdi), %rdx
	START	\name, \index, \name\()_abort
	addq	%rsi, (%rdx)
	HIDDEN	\name\()_commit
	INJECT	6
	.endm
	.macro	TRY_ADD name
	incq	16(%rsp)
	movq	16(%rsp), %rcx
	subq	%rsi, %rcx
	cmpq	$TRIES, %rcx
	jb	.L\name\()_again
	.endm
	.macro	OP_ADD name, index
	ADD_OWN	\name, \index, OWN_N
	movl	$DONE, 24(%rsp)
	ret
	OTHERWISE \name, 24, ret, , TRY_ADD \name
	.endm
	OP_ADD	rseqgo_v1_cs_add_cpu_id, cpu_id
	OP_ADD	rseqgo_v1_cs_add_mm_cid, mm_cid

/* The slot of delta is as it was, and what the entry in Go assembly put in rbx goes on. */
	.macro	COUNT_OTHERWISE
	movq	%rsi, 16(%rsp)
	jmp	*%rbx
	.endm
	.macro	OP_COUNT name, index, other, n=OWN_N_MM_CID
	ADD_OWN	\name, \index, \n
	ret
	OTHERWISE \name, , COUNT_OTHERWISE, \other, TRY_ADD \name
	.endm
	BOTH_OWN OP_COUNT, count

/* LIST starts an operation on a list: rax becomes the block of the thread's own
 * index and rcx its count, loaded inside the section, so that who publishes
 * another block and fences has the old one alone. */
	.macro	LIST name, index, n
	OWN	\name, \index, \n
	shlq	$3, %rdx
	addq	LIST_BLOCKS(%rdi), %rdx
	START	\name, \index, \name\()_abort
	movq	(%rdx), %rax
	movq	BLOCK_COUNT(%rax), %rcx
	.endm

/* LISTED stands behind the committing store: status at(%rsp), where the tries are
 * counted too: the caller stored zero there. */
	.macro	LISTED name, at, other
	ret
.L\name\()_compare_failed:
	movl	$COMPARE_FAILED, \at(%rsp)
	jmp	*%rbx
	OTHERWISE \name, \at, "jmp *%rbx", \other, TRY_LIST \name, \at
	.endm
	.macro	TRY_LIST name, at
	incl	\at(%rsp)
	cmpl	$TRIES, \at(%rsp)
	jb	.L\name\()_again
	.endm

/* bool push(struct list *list, uint64_t v, uint32_t status)
 *
 *	b = list->blocks[i]
 *	if (b->count == b->cap) return otherwise(COMPARE_FAILED)
 *	b->items[b->count] = v
 *	b->count++
 *
 * in: list rdi, v rsi. The movq to count commits. */
	.macro	OP_PUSH name, index, other, n=OWN_N_MM_CID
	LIST	\name, \index, \n
	cmpq	BLOCK_CAP(%rax), %rcx
	jae	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	movq	%rsi, BLOCK_ITEMS(%rax,%rcx,8)
	incq	%rcx
	INJECT	5
	movq	%rcx, BLOCK_COUNT(%rax)
	HIDDEN	\name\()_commit
	INJECT	6
	movb	$1, 32(%rsp)
	LISTED	\name, 24, \other
	.endm
	BOTH_OWN OP_PUSH, push

/* (uint64_t v, bool) pop(struct list *list, uint32_t status)
 *
 *	b = list->blocks[i]
 *	if (b->count == 0) return otherwise(COMPARE_FAILED)
 *	v = b->items[b->count - 1]
 *	b->count--
 *
 * in: list rdi; out: v r9. The movq to count commits. */
	.macro	OP_POP name, index, other, n=OWN_N_MM_CID
	LIST	\name, \index, \n
	subq	$1, %rcx
	jb	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	movq	BLOCK_ITEMS(%rax,%rcx,8), %r9
	INJECT	5
	movq	%rcx, BLOCK_COUNT(%rax)
	HIDDEN	\name\()_commit
	INJECT	6
	movq	%r9, 24(%rsp)
	movb	$1, 32(%rsp)
	LISTED	\name, 16, \other
	.endm
	BOTH_OWN OP_POP, pop

/* size_t push_batch(struct list *list, const uint64_t *v, size_t n, uint32_t status)
 *
 *	b = list->blocks[i]
 *	n = min(n, b->cap - b->count)
 *	if (n == 0) return otherwise(COMPARE_FAILED)
 *	memcpy(b->items + b->count, v, n * 8)
 *	b->count += n
 *	return n
 *
 * in: list rdi, v rsi; out: n r8. The addq to count commits. */
	.macro	OP_PUSH_BATCH name, index, other, n=OWN_N_MM_CID
	LIST	\name, \index, \n
	movq	BLOCK_CAP(%rax), %r8
	leaq	BLOCK_ITEMS(%rax,%rcx,8), %r9
	subq	%rcx, %r8
	cmpq	24(%rsp), %r8
	cmovaq	24(%rsp), %r8
	xorl	%ecx, %ecx
	testq	%r8, %r8
	jz	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
1:	movq	(%rsi,%rcx,8), %rdx
	movq	%rdx, (%r9,%rcx,8)
	incq	%rcx
	cmpq	%r8, %rcx
	jb	1b
	INJECT	5
	addq	%r8, BLOCK_COUNT(%rax)
	HIDDEN	\name\()_commit
	INJECT	6
	movq	%r8, 40(%rsp)
	LISTED	\name, 32, \other
	.endm
	BOTH_OWN OP_PUSH_BATCH, push_batch

/* size_t pop_batch(struct list *list, uint64_t *v, size_t n, uint32_t status)
 *
 *	b = list->blocks[i]
 *	n = min(n, b->count)
 *	if (n == 0) return otherwise(COMPARE_FAILED)
 *	for (k = 0; k < n; k++) v[k] = b->items[b->count - 1 - k]
 *	b->count -= n
 *	return n
 *
 * in: list rdi, v rsi; out: n r8. The subq from count commits. */
	.macro	OP_POP_BATCH name, index, other, n=OWN_N_MM_CID
	LIST	\name, \index, \n
	leaq	BLOCK_ITEMS - 8(%rax,%rcx,8), %r9
	cmpq	24(%rsp), %rcx
	cmovaq	24(%rsp), %rcx
	movq	%rcx, %r8
	xorl	%ecx, %ecx
	testq	%r8, %r8
	jz	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
1:	movq	(%r9), %rdx
	movq	%rdx, (%rsi,%rcx,8)
	subq	$8, %r9
	incq	%rcx
	cmpq	%r8, %rcx
	jb	1b
	INJECT	5
	subq	%r8, BLOCK_COUNT(%rax)
	HIDDEN	\name\()_commit
	INJECT	6
	movq	%r8, 40(%rsp)
	LISTED	\name, 32, \other
	.endm
	BOTH_OWN OP_POP_BATCH, pop_batch

/* Status load_cbne_store(index, int64_t *v, expect, newv, int i)
 *
 *	if (*v != expect) return COMPARE_FAILED
 *	*v = newv
 *
 * in: v rdi, expect rsi, newv rdx. The movq to v commits. */
	.macro	OP_LOAD_CBNE_STORE name, index, other
	FUNCTION \name
	DISPATCH \other
	movq	16(%rsp), %rdi
	movq	24(%rsp), %rsi
	movq	32(%rsp), %rdx
	ENTER	\name, \index, 40
	cmpq	%rsi, (%rdi)
	jne	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	movq	%rdx, (%rdi)
	COMMIT	\name, \index, 48
	.endm
	BOTH	OP_LOAD_CBNE_STORE, load_cbne_store

/* Status load_add_store(index, int64_t *v, count, int i)
 *
 *	*v += count
 *
 * in: v rdi, count rsi. The addq commits. */
	.macro	OP_LOAD_ADD_STORE name, index, other
	FUNCTION \name
	DISPATCH \other
	movq	16(%rsp), %rdi
	movq	24(%rsp), %rsi
	ENTER	\name, \index, 32
	addq	%rsi, (%rdi)
	COMMIT	\name, \index, 40
	.endm
	BOTH	OP_LOAD_ADD_STORE, load_add_store

/* (int64_t load, Status) load_cbeq_store_add_load_store(index, int64_t *v,
 *	expectnot, uintptr_t voffp, int i)
 *
 *	load = *v
 *	if (load == expectnot) return COMPARE_FAILED
 *	*v = *(load + voffp)
 *
 * in: v rdi, expectnot rsi, voffp rdx; out: load r9, kept in its slot 48(%rsp)
 * before anything can fail. The movq to v commits. */
	.macro	OP_LOAD_CBEQ_STORE_ADD_LOAD_STORE name, index, other
	FUNCTION \name
	DISPATCH \other
	movq	16(%rsp), %rdi
	movq	24(%rsp), %rsi
	movq	32(%rsp), %rdx
	movq	%rsi, 48(%rsp)
	ENTER	\name, \index, 40
	movq	(%rdi), %r9
	cmpq	%rsi, %r9
	je	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	movq	%r9, 48(%rsp)
	movq	(%r9,%rdx), %rax
	INJECT	5
	movq	%rax, (%rdi)
	COMMIT	\name, \index, 56
	.endm
	BOTH	OP_LOAD_CBEQ_STORE_ADD_LOAD_STORE, load_cbeq_store_add_load_store

/* Status load_add_load_load_add_store(index, uintptr_t *ptr, off, int64_t inc,
 *	int i)
 *
 *	p = *(int64_t **)(*ptr + off)
 *	*p += inc
 *
 * in: ptr rdi, off rsi, inc rdx. The addq commits. */
	.macro	OP_LOAD_ADD_LOAD_LOAD_ADD_STORE name, index, other
	FUNCTION \name
	DISPATCH \other
	movq	16(%rsp), %rdi
	movq	24(%rsp), %rsi
	movq	32(%rsp), %rdx
	ENTER	\name, \index, 40
	addq	(%rdi), %rsi
	INJECT	4
	movq	(%rsi), %rax
	INJECT	5
	addq	%rdx, (%rax)
	COMMIT	\name, \index, 48
	.endm
	BOTH	OP_LOAD_ADD_LOAD_LOAD_ADD_STORE, load_add_load_load_add_store

/* Status load_cbne_load_cbne_store(index, int64_t *v, expect, int64_t *v2,
 *	expect2, newv, int i)
 *
 *	if (*v != expect) return COMPARE_FAILED
 *	if (*v2 != expect2) return COMPARE_FAILED
 *	*v = newv
 *
 * in: v rdi, expect rsi, v2 rdx, expect2 rcx, newv r9. The movq to v commits. */
	.macro	OP_LOAD_CBNE_LOAD_CBNE_STORE name, index, other
	FUNCTION \name
	DISPATCH \other
	movq	16(%rsp), %rdi
	movq	24(%rsp), %rsi
	movq	32(%rsp), %rdx
	movq	40(%rsp), %rcx
	movq	48(%rsp), %r9
	ENTER	\name, \index, 56
	cmpq	%rsi, (%rdi)
	jne	.L\name\()_compare_failed
	INJECT	4
	cmpq	%rcx, (%rdx)
	jne	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	5
	movq	%r9, (%rdi)
	COMMIT	\name, \index, 64
	.endm
	BOTH	OP_LOAD_CBNE_LOAD_CBNE_STORE, load_cbne_load_cbne_store

/* Status load_cbne_store_store(index, int64_t *v, expect, int64_t *v2, newv2,
 *	newv, int i)
 *
 *	if (*v != expect) return COMPARE_FAILED
 *	*v2 = newv2
 *	*v = newv
 *
 * in: v rdi, expect rsi, v2 rdx, newv2 rcx, newv r9. The movq to v commits. */
	.macro	OP_LOAD_CBNE_STORE_STORE name, index, other
	FUNCTION \name
	DISPATCH \other
	movq	16(%rsp), %rdi
	movq	24(%rsp), %rsi
	movq	32(%rsp), %rdx
	movq	40(%rsp), %rcx
	movq	48(%rsp), %r9
	ENTER	\name, \index, 56
	cmpq	%rsi, (%rdi)
	jne	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	movq	%rcx, (%rdx)
	INJECT	5
	movq	%r9, (%rdi)
	COMMIT	\name, \index, 64
	.endm
	BOTH	OP_LOAD_CBNE_STORE_STORE, load_cbne_store_store
	RELEASES load_cbne_store_store

/* Status load_cbne_memcpy_store(index, int64_t *v, expect, void *dst,
 *	const void *src, size_t len, newv, int i)
 *
 *	if (*v != expect) return COMPARE_FAILED
 *	memcpy(dst, src, len)
 *	*v = newv
 *
 * in: v rdx, expect rsi then src, dst rdi, len rcx, newv r9. The movq to v
 * commits. */
	.macro	OP_LOAD_CBNE_MEMCPY_STORE name, index, other
	FUNCTION \name
	DISPATCH \other
	movq	16(%rsp), %rdx
	movq	24(%rsp), %rsi
	movq	32(%rsp), %rdi
	movq	48(%rsp), %rcx
	movq	56(%rsp), %r9
	ENTER	\name, \index, 64
	cmpq	%rsi, (%rdx)
	jne	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	movq	40(%rsp), %rsi
	subq	$8, %rcx
	jb	2f
1:	movq	(%rsi), %rax		/* words */
	movq	%rax, (%rdi)
	addq	$8, %rsi
	addq	$8, %rdi
	subq	$8, %rcx
	jae	1b
2:	addq	$8, %rcx
	jz	4f
3:	movb	(%rsi), %al		/* the bytes that are left */
	movb	%al, (%rdi)
	incq	%rsi
	incq	%rdi
	decq	%rcx
	jnz	3b
4:	INJECT	5
	movq	%r9, (%rdx)
	COMMIT	\name, \index, 72
	.endm
	BOTH	OP_LOAD_CBNE_MEMCPY_STORE, load_cbne_memcpy_store
	RELEASES load_cbne_memcpy_store

/* int spin(const volatile uint32_t *flag, uint64_t limit,
 *	struct rseqgo_area *area, const void *descriptor)
 *
 *	for (; limit; limit--)
 *		if (*flag) return SPIN_SAW_FLAG
 *	return SPIN_EXHAUSTED
 *
 * A section to be disturbed in, for sections.c and the tests; C's calling
 * convention. The caller names the descriptor, rseqgo_v1_cs_spin_descriptor in
 * earnest. in: flag rdi, limit rsi, area rdx, descriptor rcx. Nothing commits. */
	FUNCTION rseqgo_v1_cs_spin
	movq	%rcx, RSEQ_RSEQ_CS(%rdx)
	HIDDEN	rseqgo_v1_cs_spin_start
1:	cmpl	$0, (%rdi)
	jne	.Lspin_saw
	EXIT_POINT rseqgo_v1_cs_spin, .Lspin_saw
	decq	%rsi
	jnz	1b
	HIDDEN	rseqgo_v1_cs_spin_commit
	movl	$SPIN_EXHAUSTED, %eax
	ret
.Lspin_saw:
	movl	$SPIN_SAW_FLAG, %eax
	ret
	SIGNATURE
	HIDDEN	rseqgo_v1_cs_spin_abort
	movl	$SPIN_ABORTED, %eax
	ret
	END_FUNCTION rseqgo_v1_cs_spin
	DESCRIPTOR rseqgo_v1_cs_spin
