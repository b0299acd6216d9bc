//go:build linux && !android && cgo && !purego
/* SPDX-License-Identifier: MIT
 *
 * Critical sections for amd64, in the order of cs_arm64.s. docs/architecture.md
 * tells how Go gets here and what an abort does.
 *
 * Calling convention: Go's ABIInternal, since Go calls these functions itself, from the
 * declarations in internal/section. The arguments are in rax, rbx, rcx, rdi, rsi, r8,
 * r9, r10, r11 and the results in the same, in this order. rdx is the context of a
 * closure call. r14 (Go's g), r15, xmm15, rsp and rbp stay as they are, and the stack
 * is neither written nor read. That convention is not promised, so convention, below,
 * asks for it before Go calls anything else; see PORTABLE in cs_common.h for the answer no.
 *
 * Each operation is written once, as a macro, and made for both kinds of index.
 *
 *	<name>:		refusals, rseq_cs = descriptor
 *	<name>_start:	the thread's index is compared, loads, compares
 *	<name>_commit:	right behind the one store that does it
 *			exits: compare failed, raced, not registered, ...
 *	signature
 *	<name>_abort:	the kernel continues here if the thread was preempted,
 *			migrated or sent a signal between start and commit
 *
 * rdx is the distance from the thread pointer to the area, r11 scratch. Arguments stay
 * in their registers until the operation is committed, for another try and for the
 * slow path.
 */
	.include "cs_amd64.h"
	.include "cs_common.h"

/* convention(a, b, c, d, e, f, g, h, i) returns (b+1, c+2, d+3, e+4, f+5, g+6, h+7,
 * i+8, a+9): all nine argument and result registers. Nothing else is touched, so that
 * calling it is safe under any convention. */
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
 * area, or leaves if it is zero. No register but rdx has changed then: it is the context
 * of closure calls, which a call by name does not pass, so CLOSED finds the arguments
 * where the caller has put them under whatever convention. */
	.macro	OPEN name, word
	movq	rseqgo_v1_gate + \word(%rip), %rdx
	testq	%rdx, %rdx
	jz	.L\name\()_closed
	.endm

/* CLOSED is where OPEN leaves for: to the portable function, or to the slow path. */
	.macro	CLOSED op, name
.L\name\()_closed:
	cmpq	$0, rseqgo_v1_portable_\op(%rip)
	je	.L\name\()_unregistered
	jmp	*rseqgo_v1_portable_\op(%rip)
	.endm

/* SLOW calls the function value slow, an argument, in place of this operation and with
 * its arguments, but for slow itself: that is now this program's or library's gate. */
	.macro	SLOW slow
	movq	\slow, %rdx
	leaq	rseqgo_v1_gate(%rip), \slow
	jmp	*(%rdx)
	.endm

/* int32_t read(slow), the readers of a field, and int32_t read_index(index, slow), whose
 * first argument says which kind of index:
 *
 *	if (area->cpu_id < 0) return slow(...)
 *	return area->field
 *
 * mm_cid and node_id are right only in the area of a registered thread. in: slow rax, or
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

/* INJECT is a delay loop for the tests, nothing in a normal build: so many rounds
 * as a word says, or until that turns zero. It clobbers r12 and the flags. */
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

/* START starts the section; a thread whose index is not i leaves for elsewhere. */
	.macro	START name, index, i, elsewhere
	leaq	\name\()_descriptor(%rip), %r11
	INJECT	1
	movq	%r11, %fs:RSEQ_RSEQ_CS(%rdx)
	HIDDEN	\name\()_start
	INJECT	2
	.ifc	\index, mm_cid
	/* An unregistered area's mm_cid is 0, as CPU 0's thread's may be. */
	cmpl	$0, %fs:RSEQ_CPU_ID(%rdx)
	js	.L\name\()_unregistered
	EXIT_POINT \name, .L\name\()_unregistered
	.endif
	cmpl	\i, %fs:RSEQ_INDEX_\index(%rdx)
	jne	\elsewhere
	EXIT_POINT \name, \elsewhere
	INJECT	3
	.endm

/* ENTER begins an operation that names its index, in the 64 bits of i and the 32 of
 * i32, and whose first argument, al, says which kind that is: 0 for cpu_id, 1 for
 * mm_cid. An index that cannot be leaves before the section starts. */
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

/* COMPARE_FAILS is the exit of the branches just before it. */
	.macro	COMPARE_FAILS name
	EXIT_POINT \name, .L\name\()_compare_failed
	.set	.L\name\()_compares, 1
	.endm

/* COMMIT stands behind the committing store and ends the function; the status goes to
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

/* OWN begins an operation on the thread's own index: struct is a register that points to
 * what has its number of indexes at n: rax, or one that gets the word at offset at behind
 * rax; zero there is _compare_failed. Refused, or beyond the number, it leaves. Where it
 * is interrupted it starts again, at _again. r8 is the index, in r10 too; tries, if no
 * argument counts the tries, is a register for that. */
	.macro	OWN name, index, n, tries, struct=%rax, at
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
	.ifc	\index, cpu_id		/* negative where the thread is not registered: */
	.ifb	\at			/* beyond any n, too, where that is told nobody */
	testl	%r8d, %r8d
	js	.L\name\()_unregistered
	.endif
	.endif
	movq	%r8, %r10
	cmpq	\n(\struct), %r8	/* signed: n may be negative */
	jge	.L\name\()_beyond
	.endm

/* LEAVE ends an operation on the thread's own index that did not happen: with a status
 * if there is a register for it, by the slow path if there is one. */
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

/* LEAVES has the ways out of an operation on the thread's own index, and ends the
 * function. A struct without indexes may have some for the other function. tries counts
 * the tries. */
	.macro	LEAVES op, name, tries, result, slow, other, struct=%rax
.L\name\()_beyond:
	.ifnb	\other
	cmpq	$0, OWN_N_MM_CID(\struct)
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

/* Status add(struct cells *cells, int64_t delta), for which Go has a function for each
 * index: rseqgo_v1_cs_add_cpu_id and rseqgo_v1_cs_add_mm_cid.
 *
 *	i = current index
 *	if (i >= cells->n) return OUT_OF_RANGE
 *	*(cells->base + i * cells->stride) += delta, if i is still the index
 *
 * and void count(struct counter *cells, int64_t delta, slow), which takes the slow path
 * where it cannot: rseqgo_v1_cs_count_cpu_id and rseqgo_v1_cs_count_mm_cid.
 *
 * in: cells rax, delta rbx, slow rcx; r10 the word's address: computed before the
 * section starts, since a load right behind the store of rseq_cs beside it is slow, and
 * only the comparison, which is predicted, waits for that. edi counts the tries. The
 * addq commits. */
	.macro	ADD_OWN name, index, n
	OWN	\name, \index, \n, %edi
	imulq	CELLS_STRIDE(%rax), %r10
	addq	CELLS_BASE(%rax), %r10
	START	\name, \index, %r8d, \name\()_abort
	addq	%rbx, (%r10)
	HIDDEN	\name\()_commit
	INJECT	6
	.endm
	.macro	OP_ADD op, name, index, other
	ADD_OWN	\name, \index, OWN_N
	movl	$DONE, %eax
	ret
	LEAVES	\op, \name, %edi, %eax
	.endm
	BOTH	OP_ADD, add

	.macro	OP_COUNT op, name, index, other
	.ifnb	\other
	ADD_OWN	\name, \index, OWN_N
	.else
	ADD_OWN	\name, \index, OWN_N_MM_CID
	.endif
	ret
	LEAVES	\op, \name, %edi, , %rcx, \other
	.endm
	BOTH	OP_COUNT, count

/* bool read_lock(struct rwmutex *lock, int64_t delta, slow)
 *
 *	r = lock->readers
 *	if (!r || r->state != READERS_OPEN) return slow()
 *	*(r->base + i * r->stride + (delta < 0 ? 0 : 8)) += delta
 *	return true
 *
 * in: lock rax, delta rbx, which is 1 or -1, slow rcx; r r9, r10 the word's address, as in add. edi counts
 * the tries. State is loaded inside the section: after it was changed and all CPUs were
 * fenced no section adds any more. The addq commits. */
	.macro	OP_READ_LOCK op, name, index, other
	.ifnb	\other
	OWN	\name, \index, OWN_N, %edi, %r9, LOCK_READERS
	.else
	OWN	\name, \index, OWN_N_MM_CID, %edi, %r9, LOCK_READERS
	.endif
	imulq	CELLS_STRIDE(%r9), %r10
	addq	CELLS_BASE(%r9), %r10
	START	\name, \index, %r8d, \name\()_abort
	cmpq	$READERS_OPEN, READERS_STATE(%r9)
	jne	.L\name\()_compare_failed
	COMPARE_FAILS \name
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

/* LIST starts an operation on a list: r9 becomes the block of the thread's own index
 * and r11 its count. Both are loaded inside the section: after another block was
 * published and the CPU fenced no section uses the old one. */
	.macro	LIST name, index, other
	.ifnb	\other
	OWN	\name, \index, OWN_N
	.else
	OWN	\name, \index, OWN_N_MM_CID
	.endif
	shlq	$3, %r10
	addq	LIST_BLOCKS(%rax), %r10
	START	\name, \index, %r8d, \name\()_abort
	movq	(%r10), %r9
	movq	BLOCK_COUNT(%r9), %r11
	.endm

/* LISTED stands behind the result of an operation on a list and ends the function. Its
 * arguments slow and status: status is zero in a call, counts the tries, and says to the
 * slow path why. */
	.macro	LISTED op, name, slow, status, other
	ret
.L\name\()_compare_failed:
	LEAVE	COMPARE_FAILED, \status, \slow
	LEAVES	\op, \name, \status, \status, \slow, \other
	.endm

/* bool push(struct list *list, uint64_t v, slow, uint32_t status)
 *
 *	b = list->blocks[i]
 *	if (b->count == b->cap) return slow(COMPARE_FAILED)
 *	b->items[b->count] = v
 *	b->count++
 *	return true
 *
 * in: list rax, v rbx, slow rcx, status edi. The movq to count commits. */
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
	LISTED	\op, \name, %rcx, %edi, \other
	.endm
	BOTH	OP_PUSH, push

/* (uint64_t v, bool) pop(struct list *list, slow, uint32_t status)
 *
 *	b = list->blocks[i]
 *	if (b->count == 0) return slow(COMPARE_FAILED)
 *	v = b->items[b->count - 1]
 *	b->count--
 *	return v, true
 *
 * in: list rax, slow rbx, status ecx; v r8. The movq to count commits. */
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
	LISTED	\op, \name, %rbx, %ecx, \other
	.endm
	BOTH	OP_POP, pop

/* size_t push_batch(struct list *list, const uint64_t *v, size_t n, slow,
 *	uint32_t status)
 *
 *	b = list->blocks[i]
 *	n = min(n, b->cap - b->count)
 *	if (n == 0) return slow(COMPARE_FAILED)
 *	memcpy(b->items + b->count, v, n * 8)
 *	b->count += n
 *	return n
 *
 * in: list rax, v rbx, n rcx, slow rdi, status esi; the new n r8, r10 where it copies to,
 * r13 scratch. v is read inside the section. The addq to count commits. */
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
	LISTED	\op, \name, %rdi, %esi, \other
	.endm
	BOTH	OP_PUSH_BATCH, push_batch

/* size_t pop_batch(struct list *list, uint64_t *v, size_t n, slow, uint32_t status)
 *
 *	b = list->blocks[i]
 *	n = min(n, b->count)
 *	if (n == 0) return slow(COMPARE_FAILED)
 *	for (k = 0; k < n; k++) v[k] = b->items[b->count - 1 - k]
 *	b->count -= n
 *	return n
 *
 * in: list rax, v rbx, n rcx, slow rdi, status esi; the new n r8, r10 where it copies
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
	LISTED	\op, \name, %rdi, %esi, \other
	.endm
	BOTH	OP_POP_BATCH, pop_batch

/* Status load_cbne_store(index, int64_t *v, expect, newv, int i)
 *
 *	if (*v != expect) return COMPARE_FAILED
 *	*v = newv
 *
 * in: index al, v rbx, expect rcx, newv rdi, i rsi. The movq to v commits. */
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

/* Status load_add_store(index, int64_t *v, count, int i)
 *
 *	*v += count
 *
 * in: index al, v rbx, count rcx, i rdi. The addq commits. */
	.macro	OP_LOAD_ADD_STORE op, name, index, other
	ENTER	\name, \index, \other, %rdi, %edi
	addq	%rcx, (%rbx)
	COMMIT	\op, \name, \index
	.endm
	BOTH	OP_LOAD_ADD_STORE, load_add_store

/* (int64_t load, Status) load_cbeq_store_add_load_store(index, int64_t *v,
 *	expectnot, uintptr_t voffp, int i)
 *
 *	load = *v
 *	if (load == expectnot) return COMPARE_FAILED
 *	*v = *(load + voffp)
 *
 * in: index al, v rbx, expectnot rcx, voffp rdi, i rsi; load rax. The movq to v
 * commits. */
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

/* Status load_add_load_load_add_store(index, uintptr_t *ptr, off, int64_t inc,
 *	int i)
 *
 *	p = *(int64_t **)(*ptr + off)
 *	*p += inc
 *
 * in: index al, ptr rbx, off rcx, inc rdi, i rsi. The addq commits. */
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

/* Status load_cbne_load_cbne_store(index, int64_t *v, expect, int64_t *v2,
 *	expect2, newv, int i)
 *
 *	if (*v != expect) return COMPARE_FAILED
 *	if (*v2 != expect2) return COMPARE_FAILED
 *	*v = newv
 *
 * in: index al, v rbx, expect rcx, v2 rdi, expect2 rsi, newv r8, i r9. The movq to v
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

/* Status load_cbne_store_store(index, int64_t *v, expect, int64_t *v2, newv2,
 *	newv, int i), and load_cbne_store_store_release
 *
 *	if (*v != expect) return COMPARE_FAILED
 *	*v2 = newv2
 *	*v = newv
 *
 * in: index al, v rbx, expect rcx, v2 rdi, newv2 rsi, newv r8, i r9. The movq to v
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

/* Status load_cbne_memcpy_store(index, int64_t *v, expect, void *dst,
 *	const void *src, size_t len, newv, int i), and load_cbne_memcpy_store_release
 *
 *	if (*v != expect) return COMPARE_FAILED
 *	memcpy(dst, src, len)
 *	*v = newv
 *
 * in: index al, v rbx, expect rcx, dst rdi, src rsi, len r8, newv r9, i r10. src is read
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

/* int spin(const volatile uint32_t *flag, uint64_t limit,
 *	struct rseqgo_area *area, const void *descriptor)
 *
 *	for (; limit; limit--)
 *		if (*flag) return SPIN_SAW_FLAG
 *	return SPIN_EXHAUSTED
 *
 * A section to be disturbed in, for live.c and the tests; C's calling
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
