//go:build linux && !android && cgo && !purego
/* SPDX-License-Identifier: MIT
 *
 * Readers and critical sections for amd64. cs_common.h has the prototype and pseudocode
 * of each operation; docs/architecture.md tells how Go gets here and what an abort does.
 *
 * Calling convention: Go's ABIInternal, since Go calls these functions directly, from the
 * declarations in internal/section. The arguments are in rax, rbx, rcx, rdi, rsi, r8,
 * r9, r10, r11 and the results in the same, in this order. rdx is the context of a
 * closure call. r14 (Go's g), r15, xmm15, rsp and rbp stay as they are, and the stack
 * is neither written nor read. Go does not promise that convention, so the function
 * convention, below, checks it before Go calls any other. If it does not hold, PORTABLE
 * in cs_common.h says what happens.
 *
 * Each operation is a macro that is used for both kinds of index:
 *
 *	<name>:		leaves if it cannot run; rseq_cs = descriptor
 *	<name>_start:	compares the thread's index, loads, compares, stores
 *	<name>_commit:	right behind the store that commits
 *			exits: compare failed, raced, not registered, ...
 *	signature
 *	<name>_abort:	the kernel continues here if the thread was preempted,
 *			migrated or sent a signal between start and commit
 *
 * rdx is the distance from the thread pointer to the area, r11 scratch. An operation on
 * the thread's own index finds the address of its word, or of its block's address, before
 * the section starts; all else that its arguments point to is read and written inside. It
 * keeps its arguments in their registers until it has committed, for another try and for
 * the slow path. An operation that names its index makes one try, and may change them.
 */
	.include "cs_amd64.h"
	.include "cs_common.h"

/* convention(a, b, c, d, e, f, g, h, i) returns (b+1, c+2, d+3, e+4, f+5, g+6, h+7,
 * i+8, a+9): all nine argument and result registers. Besides these it changes only rdx,
 * so calling it is safe under any convention. */
	FUNCTION rseqgo_v1_convention
	movq	%rax, %rdx
	leaq	1(%rbx), %rax
	leaq	2(%rcx), %rbx
	leaq	3(%rdi), %rcx
	leaq	4(%rsi), %rdi
	leaq	5(%r8), %rsi
	leaq	6(%r9), %r8
	leaq	7(%r10), %r9
	leaq	8(%r11), %r10
	leaq	9(%rdx), %r11
	.ifdef	RSEQGO_WRONG_CONVENTION	/* for a test */
	xchgq	%rax, %rbx
	.endif
	ret
	END_FUNCTION rseqgo_v1_convention

/* OPEN loads a word of the gate into rdx, the distance from the thread pointer to the
 * area, and leaves for CLOSED if it is zero. Only rdx has changed then, the context of
 * closure calls, which a direct call does not pass. So CLOSED finds the arguments where
 * the caller put them, under any convention. */
	.macro	OPEN name, word
	movq	rseqgo_v1_gate + \word(%rip), %rdx
	testq	%rdx, %rdx
	jz	.L\name\()_closed
	.endm

/* CLOSED goes on to the portable function if there is one, else to the slow path. */
	.macro	CLOSED op, name
.L\name\()_closed:
	cmpq	$0, rseqgo_v1_portable_\op(%rip)
	je	.L\name\()_unregistered
	jmp	*rseqgo_v1_portable_\op(%rip)
	.endm

/* SLOW jumps to the function value slow, an argument, with this operation's arguments; the
 * gate of this program or library takes the place of slow. */
	.macro	SLOW slow
	movq	\slow, %rdx
	leaq	rseqgo_v1_gate(%rip), \slow
	jmp	*(%rdx)
	.endm

/* The readers, of a field: int32_t read(slow), and of an index: int32_t read_index(index,
 * slow), whose first argument is the kind of index. See READERS for the names.
 *
 *	if (area->cpu_id < 0) return slow(...)
 *	return area->field
 *
 * mm_cid and node_id are valid only in the area of a registered thread. In: slow rax, or
 * index al and slow rbx. */
	.macro	READER op, name, field, slow, other
	FUNCTION rseqgo_v1_\name
	OPEN	\name, GATE_READ_\field
	.ifnb	\other
	testb	%al, %al
	jne	\other
	.endif
	movl	%fs:RSEQ_CPU_ID(%rdx), %ecx
	testl	%ecx, %ecx
	js	.L\name\()_unregistered
	.ifnc	\field, cpu_id
	movl	%fs:RSEQ_INDEX_\field(%rdx), %ecx
	.endif
	movl	%ecx, %eax
	ret
	CLOSED	\op, \name
.L\name\()_unregistered:
	SLOW	\slow
	END_FUNCTION rseqgo_v1_\name
	.endm
	READERS %rax, %rbx

/* INJECT is a delay loop in a build for tests, and nothing in any other. It takes as many
 * rounds as a word says, or until that becomes zero. It clobbers r12 and the flags. */
	.macro	INJECT point
	.ifdef	RSEQGO_INJECT
	movl	rseqgo_v1_inject + 4 * \point(%rip), %r12d
881:	cmpl	$0, rseqgo_v1_inject + 4 * \point(%rip)
	je	882f
	decl	%r12d
	jnz	881b
882:
	.endif
	.endm

/* START starts the section. A thread whose index is not i leaves for elsewhere. */
	.macro	START name, index, i, elsewhere
	leaq	\name\()_descriptor(%rip), %r11
	INJECT	1
	movq	%r11, %fs:RSEQ_RSEQ_CS(%rdx)
	HIDDEN	\name\()_start
	INJECT	2
	.ifc	\index, mm_cid
	/* The mm_cid of an unregistered area is 0, which is a valid one. */
	cmpl	$0, %fs:RSEQ_CPU_ID(%rdx)
	js	.L\name\()_unregistered
	EXIT_POINT \name, .L\name\()_unregistered
	.endif
	cmpl	\i, %fs:RSEQ_INDEX_\index(%rdx)
	jne	\elsewhere
	EXIT_POINT \name, \elsewhere
	INJECT	3
	.endm

/* ENTER begins an operation that names its index. i is its register, i32 the lower half of
 * that. The first argument, in al, is the kind of index: 0 for cpu_id, 1 for mm_cid.
 * An index that is not below the number of possible ones leaves before the section
 * starts. */
	.macro	ENTER name, index, other, i, i32
	FUNCTION \name
	OPEN	\name, GATE_CS_\index
	.ifnb	\other
	testb	%al, %al
	jne	\other
	.endif
	cmpq	rseqgo_v1_gate + GATE_POSSIBLE(%rip), \i
	jae	.L\name\()_range
	START	\name, \index, \i32, .L\name\()_elsewhere
	.endm

/* COMPARE_FAILS records the exit point of the branches just before it. */
	.macro	COMPARE_FAILS name
	EXIT_POINT \name, .L\name\()_compare_failed
	.set	.L\name\()_compares, 1
	.endm

/* COMMIT stands behind the store that commits, and ends the function. The status goes into
 * the register result. */
	.macro	COMMIT op, name, index, result=%eax
	HIDDEN	\name\()_commit
	INJECT	6
	movl	$DONE, \result
	ret
	.ifdef	.L\name\()_compares
.L\name\()_compare_failed:
	movl	$COMPARE_FAILED, \result
	ret
	.endif
.L\name\()_elsewhere:
	.ifc	\index, cpu_id
	cmpl	$0, %fs:RSEQ_CPU_ID(%rdx)
	js	.L\name\()_unregistered
	.endif
	movl	$RACED, \result
	ret
	CLOSED	\op, \name
.L\name\()_unregistered:
	movl	$NOT_REGISTERED, \result
	ret
.L\name\()_range:
	movl	$OUT_OF_RANGE, \result
	ret
	SIGNATURE
	HIDDEN	\name\()_abort
	movl	$RACED, \result
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

/* RELEASES names an operation's releasing variant: on x86 every store releases. */
	.macro	RELEASES op
	ALIAS	rseqgo_v1_cs_\op\()_release_cpu_id, rseqgo_v1_cs_\op\()_cpu_id
	ALIAS	rseqgo_v1_cs_\op\()_release_mm_cid, rseqgo_v1_cs_\op\()_mm_cid
	ALIAS	rseqgo_v1_portable_\op\()_release, rseqgo_v1_portable_\op
	.endm
	.macro	ALIAS name, of
	.globl	\name
	.hidden	\name
	.set	\name, \of
	.endm

/* CURRENT begins an operation on the thread's own index. struct is a register that points
 * to a struct with the number of indexes at offset n: rax, or, with at, a register for the
 * word at that offset behind rax; if that word is zero it leaves for _compare_failed. An
 * index beyond the number leaves. An aborted section starts again at _again. r8 and r10 become the index.
 * tries is a register for the number of tries, if no argument counts them. With told=no
 * the slow path is not told why: an unregistered thread, whose index is negative, leaves
 * as one with an index beyond the number does. */
	.macro	CURRENT name, index, n, tries, struct=%rax, at, told
	FUNCTION \name
	OPEN	\name, GATE_CS_\index
	.ifnb	\at
	movq	\at(%rax), \struct
	testq	\struct, \struct
	jz	.L\name\()_compare_failed
	.endif
	.ifnb	\tries
	xorl	\tries, \tries
	.endif
.L\name\()_again:
	movl	%fs:RSEQ_INDEX_\index(%rdx), %r8d
	.ifc	\index, cpu_id
	.ifnc	\told, no
	testl	%r8d, %r8d
	js	.L\name\()_unregistered
	.endif
	.endif
	movq	%r8, %r10
	cmpq	\n(\struct), %r8	/* signed: n may be negative */
	jge	.L\name\()_beyond
	.endm

/* LEAVE ends an operation on the thread's own index without effect: with a status if
 * there is a register for it, and by the slow path if there is one. */
	.macro	LEAVE status, result, slow
	.ifnb	\result
	movl	$\status, \result
	.endif
	.ifnb	\slow
	SLOW	\slow
	.else
	ret
	.endif
	.endm

/* LEAVES has the exits of an operation on the thread's own index, and ends the function.
 * A struct without words for CPUs may have words for concurrency ids; those are for the
 * function other. tries counts the tries. */
	.macro	LEAVES op, name, tries, result, slow, other, struct=%rax
.L\name\()_beyond:
	.ifnb	\other
	cmpq	$0, CURRENT_N_MM_CID(\struct)
	jne	\other
	.endif
	LEAVE	OUT_OF_RANGE, \result, \slow
	CLOSED	\op, \name
.L\name\()_unregistered:
	LEAVE	NOT_REGISTERED, \result, \slow
	SIGNATURE
	HIDDEN	\name\()_abort
	incl	\tries
	cmpl	$TRIES, \tries
	jb	.L\name\()_again
	LEAVE	RACED, \result, \slow
	END_FUNCTION \name
	DESCRIPTOR \name
	.endm

/* Makes rseqgo_v1_cs_add_cpu_id and rseqgo_v1_cs_add_mm_cid.
 *
 * In: cells rax, delta rbx; r10 the word's address: computed before the section starts,
 * since a load from the area right behind the store of rseq_cs is slow; now only the
 * comparison waits for that, and it is predicted. edi counts the tries. The addq
 * commits. */
	.macro	OP_ADD op, name, index, other
	CURRENT	\name, \index, CURRENT_N, %edi
	imulq	CELLS_STRIDE(%rax), %r10
	addq	CELLS_BASE(%rax), %r10
	START	\name, \index, %r8d, \name\()_abort
	addq	%rbx, (%r10)
	HIDDEN	\name\()_commit
	INJECT	6
	movl	$DONE, %eax
	ret
	LEAVES	\op, \name, %edi, %eax
	.endm
	BOTH	OP_ADD, add

/* WORDS begins an operation on the words with which the struct at rax begins: r10 becomes
 * the address of the first word of the thread's own index, as in add. The number of
 * indexes is loaded first; it is zero until there are words. */
	.macro	WORDS name, index, other, tries
	.ifnb	\other
	CURRENT	\name, \index, CURRENT_N, \tries, told=no
	.else
	CURRENT	\name, \index, CURRENT_N_MM_CID, \tries, told=no
	.endif
	imulq	CELLS_STRIDE(%rax), %r10
	addq	CELLS_BASE(%rax), %r10
	.endm

/* COMPARE_STATE leaves, inside a section, if the words are not open. After their state was
 * changed no section begins to write them, and after a fence of all CPUs none still does. */
	.macro	COMPARE_STATE name, words
	cmpq	$WORDS_OPEN, WORDS_STATE(\words)
	jne	.L\name\()_compare_failed
	COMPARE_FAILS \name
	.endm

/* Makes rseqgo_v1_cs_count_cpu_id and rseqgo_v1_cs_count_mm_cid.
 *
 * In: counter rax, delta rbx, slow rcx; tries edi. The addq commits. */
	.macro	OP_COUNT op, name, index, other
	WORDS	\name, \index, \other, %edi
	START	\name, \index, %r8d, \name\()_abort
	addq	%rbx, (%r10)
	HIDDEN	\name\()_commit
	INJECT	6
	ret
	LEAVES	\op, \name, %edi, , %rcx, \other
	.endm
	BOTH	OP_COUNT, count

/* Makes rseqgo_v1_cs_count_float_cpu_id and rseqgo_v1_cs_count_float_mm_cid.
 *
 * In: counter rax, delta rbx, slow rcx; tries edi; the sum xmm0. The movsd commits. */
	.macro	OP_COUNT_FLOAT op, name, index, other
	WORDS	\name, \index, \other, %edi
	movq	%rbx, %xmm0
	START	\name, \index, %r8d, \name\()_abort
	addsd	(%r10), %xmm0
	INJECT	4
	movsd	%xmm0, (%r10)
	HIDDEN	\name\()_commit
	INJECT	6
	ret
	LEAVES	\op, \name, %edi, , %rcx, \other
	.endm
	BOTH	OP_COUNT_FLOAT, count_float

/* Makes rseqgo_v1_cs_observe_cpu_id and rseqgo_v1_cs_observe_mm_cid.
 *
 * In: histogram rax, bucket rbx, v rcx, slow rdi; tries esi; b r10, n r8, n % 2 r11, the
 * sum xmm0. The movq to count commits. */
	.macro	OP_OBSERVE op, name, index, other
	WORDS	\name, \index, \other, %esi
	addq	%rbx, %r10
	movq	%rcx, %xmm0
	START	\name, \index, %r8d, \name\()_abort
	COMPARE_STATE \name, %rax
	movq	BUCKET_COUNT(%r10), %r8
	movl	%r8d, %r11d
	andl	$1, %r11d
	addsd	BUCKET_SUMS(%r10,%r11,8), %xmm0
	xorl	$1, %r11d
	INJECT	4
	movsd	%xmm0, BUCKET_SUMS(%r10,%r11,8)
	incq	%r8
	INJECT	5
	movq	%r8, BUCKET_COUNT(%r10)
	HIDDEN	\name\()_commit
	INJECT	6
	ret
.L\name\()_compare_failed:
	SLOW	%rdi
	LEAVES	\op, \name, %esi, , %rdi, \other
	.endm
	BOTH	OP_OBSERVE, observe

/* Makes rseqgo_v1_cs_read_lock_cpu_id and rseqgo_v1_cs_read_lock_mm_cid.
 *
 * In: lock rax, delta rbx, which is 1 or -1, slow rcx; w r9, r10 the word's address, as
 * in add. edi counts the tries. The addq commits. */
	.macro	OP_READ_LOCK op, name, index, other
	.ifnb	\other
	CURRENT	\name, \index, CURRENT_N, %edi, %r9, LOCK_WORDS, no
	.else
	CURRENT	\name, \index, CURRENT_N_MM_CID, %edi, %r9, LOCK_WORDS, no
	.endif
	imulq	CELLS_STRIDE(%r9), %r10
	addq	CELLS_BASE(%r9), %r10
	START	\name, \index, %r8d, \name\()_abort
	COMPARE_STATE \name, %r9
	INJECT	4
	addq	%rbx, 4(%r10,%rbx,4)
	HIDDEN	\name\()_commit
	INJECT	6
	movl	$1, %eax
	ret
.L\name\()_compare_failed:
	SLOW	%rcx
	LEAVES	\op, \name, %edi, , %rcx, \other, %r9
	.endm
	BOTH	OP_READ_LOCK, read_lock

/* LIST begins an operation on a list: r9 becomes the block of the thread's own index, and
 * r11 its count. Both are loaded inside the section, so after another block was published
 * and the CPU was fenced no section uses the old one. */
	.macro	LIST name, index, other
	.ifnb	\other
	CURRENT	\name, \index, CURRENT_N
	.else
	CURRENT	\name, \index, CURRENT_N_MM_CID
	.endif
	shlq	$3, %r10
	addq	LIST_BLOCKS(%rax), %r10
	START	\name, \index, %r8d, \name\()_abort
	movq	(%r10), %r9
	movq	BLOCK_COUNT(%r9), %r11
	.endm

/* LIST_END stands behind the result of an operation on a list, and ends the function.
 * status is zero in a call, counts the tries, and tells the slow path why. */
	.macro	LIST_END op, name, slow, status, other
	ret
.L\name\()_compare_failed:
	LEAVE	COMPARE_FAILED, \status, \slow
	LEAVES	\op, \name, \status, \status, \slow, \other
	.endm

/* Makes rseqgo_v1_cs_push_cpu_id and rseqgo_v1_cs_push_mm_cid.
 *
 * In: list rax, v rbx, slow rcx, status edi. The movq to count commits. */
	.macro	OP_PUSH op, name, index, other
	LIST	\name, \index, \other
	cmpq	BLOCK_CAP(%r9), %r11
	jae	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	movq	%rbx, BLOCK_ITEMS(%r9,%r11,8)
	incq	%r11
	INJECT	5
	movq	%r11, BLOCK_COUNT(%r9)
	HIDDEN	\name\()_commit
	INJECT	6
	movl	$1, %eax
	LIST_END	\op, \name, %rcx, %edi, \other
	.endm
	BOTH	OP_PUSH, push

/* Makes rseqgo_v1_cs_pop_cpu_id and rseqgo_v1_cs_pop_mm_cid.
 *
 * In: list rax, slow rbx, status ecx; v r8. The movq to count commits. */
	.macro	OP_POP op, name, index, other
	LIST	\name, \index, \other
	subq	$1, %r11
	jb	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	movq	BLOCK_ITEMS(%r9,%r11,8), %r8
	INJECT	5
	movq	%r11, BLOCK_COUNT(%r9)
	HIDDEN	\name\()_commit
	INJECT	6
	movq	%r8, %rax
	movl	$1, %ebx
	LIST_END	\op, \name, %rbx, %ecx, \other
	.endm
	BOTH	OP_POP, pop

/* Makes rseqgo_v1_cs_push_batch_cpu_id and rseqgo_v1_cs_push_batch_mm_cid.
 *
 * In: list rax, v rbx, n rcx, slow rdi, status esi; the new n r8, r10 where it copies
 * to, r13 scratch. v is read inside the section. The addq to count commits. */
	.macro	OP_PUSH_BATCH op, name, index, other
	LIST	\name, \index, \other
	movq	BLOCK_CAP(%r9), %r8
	leaq	BLOCK_ITEMS(%r9,%r11,8), %r10
	subq	%r11, %r8
	cmpq	%rcx, %r8
	cmovaq	%rcx, %r8
	xorl	%r11d, %r11d
	testq	%r8, %r8
	jz	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
1:	movq	(%rbx,%r11,8), %r13
	movq	%r13, (%r10,%r11,8)
	incq	%r11
	cmpq	%r8, %r11
	jb	1b
	INJECT	5
	addq	%r8, BLOCK_COUNT(%r9)
	HIDDEN	\name\()_commit
	INJECT	6
	movq	%r8, %rax
	LIST_END	\op, \name, %rdi, %esi, \other
	.endm
	BOTH	OP_PUSH_BATCH, push_batch

/* Makes rseqgo_v1_cs_pop_batch_cpu_id and rseqgo_v1_cs_pop_batch_mm_cid.
 *
 * In: list rax, v rbx, n rcx, slow rdi, status esi; the new n r8, r10 where it copies
 * from, r13 scratch. v is written inside the section. The subq from count commits. */
	.macro	OP_POP_BATCH op, name, index, other
	LIST	\name, \index, \other
	leaq	BLOCK_ITEMS - 8(%r9,%r11,8), %r10
	cmpq	%rcx, %r11
	cmovaq	%rcx, %r11
	movq	%r11, %r8
	xorl	%r11d, %r11d
	testq	%r8, %r8
	jz	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
1:	movq	(%r10), %r13
	movq	%r13, (%rbx,%r11,8)
	subq	$8, %r10
	incq	%r11
	cmpq	%r8, %r11
	jb	1b
	INJECT	5
	subq	%r8, BLOCK_COUNT(%r9)
	HIDDEN	\name\()_commit
	INJECT	6
	movq	%r8, %rax
	LIST_END	\op, \name, %rdi, %esi, \other
	.endm
	BOTH	OP_POP_BATCH, pop_batch

/* Makes rseqgo_v1_cs_load_cbne_store_cpu_id and rseqgo_v1_cs_load_cbne_store_mm_cid.
 *
 * In: index al, v rbx, expect rcx, newv rdi, i rsi. The movq to v commits. */
	.macro	OP_LOAD_CBNE_STORE op, name, index, other
	ENTER	\name, \index, \other, %rsi, %esi
	cmpq	%rcx, (%rbx)
	jne	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	movq	%rdi, (%rbx)
	COMMIT	\op, \name, \index
	.endm
	BOTH	OP_LOAD_CBNE_STORE, load_cbne_store

/* Makes rseqgo_v1_cs_load_add_store_cpu_id and rseqgo_v1_cs_load_add_store_mm_cid.
 *
 * In: index al, v rbx, count rcx, i rdi. The addq commits. */
	.macro	OP_LOAD_ADD_STORE op, name, index, other
	ENTER	\name, \index, \other, %rdi, %edi
	addq	%rcx, (%rbx)
	COMMIT	\op, \name, \index
	.endm
	BOTH	OP_LOAD_ADD_STORE, load_add_store

/* Makes rseqgo_v1_cs_load_cbeq_store_add_load_store_cpu_id and
 * rseqgo_v1_cs_load_cbeq_store_add_load_store_mm_cid.
 *
 * In: index al, v rbx, expectnot rcx, voffp rdi, i rsi; load rax. The movq to v commits. */
	.macro	OP_LOAD_CBEQ_STORE_ADD_LOAD_STORE op, name, index, other
	ENTER	\name, \index, \other, %rsi, %esi
	movq	(%rbx), %rax
	cmpq	%rcx, %rax
	je	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	movq	(%rax,%rdi), %r11
	INJECT	5
	movq	%r11, (%rbx)
	COMMIT	\op, \name, \index, %ebx
	.endm
	BOTH	OP_LOAD_CBEQ_STORE_ADD_LOAD_STORE, load_cbeq_store_add_load_store

/* Makes rseqgo_v1_cs_load_add_load_load_add_store_cpu_id and
 * rseqgo_v1_cs_load_add_load_load_add_store_mm_cid.
 *
 * In: index al, ptr rbx, off rcx, inc rdi, i rsi. The addq commits. */
	.macro	OP_LOAD_ADD_LOAD_LOAD_ADD_STORE op, name, index, other
	ENTER	\name, \index, \other, %rsi, %esi
	addq	(%rbx), %rcx
	INJECT	4
	movq	(%rcx), %r11
	INJECT	5
	addq	%rdi, (%r11)
	COMMIT	\op, \name, \index
	.endm
	BOTH	OP_LOAD_ADD_LOAD_LOAD_ADD_STORE, load_add_load_load_add_store

/* Makes rseqgo_v1_cs_load_cbne_load_cbne_store_cpu_id and
 * rseqgo_v1_cs_load_cbne_load_cbne_store_mm_cid.
 *
 * In: index al, v rbx, expect rcx, v2 rdi, expect2 rsi, newv r8, i r9. The movq to v
 * commits. */
	.macro	OP_LOAD_CBNE_LOAD_CBNE_STORE op, name, index, other
	ENTER	\name, \index, \other, %r9, %r9d
	cmpq	%rcx, (%rbx)
	jne	.L\name\()_compare_failed
	INJECT	4
	cmpq	%rsi, (%rdi)
	jne	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	5
	movq	%r8, (%rbx)
	COMMIT	\op, \name, \index
	.endm
	BOTH	OP_LOAD_CBNE_LOAD_CBNE_STORE, load_cbne_load_cbne_store

/* Makes rseqgo_v1_cs_load_cbne_store_store_cpu_id,
 * rseqgo_v1_cs_load_cbne_store_store_mm_cid,
 * rseqgo_v1_cs_load_cbne_store_store_release_cpu_id and
 * rseqgo_v1_cs_load_cbne_store_store_release_mm_cid.
 *
 * In: index al, v rbx, expect rcx, v2 rdi, newv2 rsi, newv r8, i r9. The movq to v
 * commits. */
	.macro	OP_LOAD_CBNE_STORE_STORE op, name, index, other
	ENTER	\name, \index, \other, %r9, %r9d
	cmpq	%rcx, (%rbx)
	jne	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	movq	%rsi, (%rdi)
	INJECT	5
	movq	%r8, (%rbx)
	COMMIT	\op, \name, \index
	.endm
	BOTH	OP_LOAD_CBNE_STORE_STORE, load_cbne_store_store
	RELEASES load_cbne_store_store

/* Makes rseqgo_v1_cs_load_cbne_memcpy_store_cpu_id,
 * rseqgo_v1_cs_load_cbne_memcpy_store_mm_cid,
 * rseqgo_v1_cs_load_cbne_memcpy_store_release_cpu_id and
 * rseqgo_v1_cs_load_cbne_memcpy_store_release_mm_cid.
 *
 * In: index al, v rbx, expect rcx, dst rdi, src rsi, len r8, newv r9, i r10. src is read
 * inside the section. The movq to v commits. */
	.macro	OP_LOAD_CBNE_MEMCPY_STORE op, name, index, other
	ENTER	\name, \index, \other, %r10, %r10d
	cmpq	%rcx, (%rbx)
	jne	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	subq	$8, %r8
	jb	2f
1:	movq	(%rsi), %r11		/* words */
	movq	%r11, (%rdi)
	addq	$8, %rsi
	addq	$8, %rdi
	subq	$8, %r8
	jae	1b
2:	addq	$8, %r8
	jz	4f
3:	movb	(%rsi), %r11b		/* the bytes that are left */
	movb	%r11b, (%rdi)
	incq	%rsi
	incq	%rdi
	decq	%r8
	jnz	3b
4:	INJECT	5
	movq	%r9, (%rbx)
	COMMIT	\op, \name, \index
	.endm
	BOTH	OP_LOAD_CBNE_MEMCPY_STORE, load_cbne_memcpy_store
	RELEASES load_cbne_memcpy_store

/* spin. In: flag rdi, limit rsi, area rdx, descriptor rcx. */
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
