//go:build linux && !android && cgo
/* SPDX-License-Identifier: MIT
 *
 * Critical sections for arm64, in the order of cs_amd64.s, which has the story.
 *
 * Calling convention: Go's ABI0, so the arguments are on the caller's stack from
 * 8(sp) on, behind the slot of the caller's own return address, the result behind
 * them; x30 returns. Of the registers that ABI0 leaves free x0 to x16 are used.
 *
 * x10 is the area, x8 the index that the caller expects or that the thread had, x13
 * scratch. The loads that a comparison follows acquire, so that a lock can be taken so.
 */
	.include "cs_arm64.h"
	.include "cs.h"

/* DISPATCH leaves for other if the first argument says mm_cid. */
	.macro	DISPATCH other
	.ifnb	\other
	ldrb	w13, [sp, #8]
	cbnz	w13, \other
	.endif
	.endm

/* INJECT is a delay loop for the tests, nothing in a normal build: so many rounds
 * as a word says, or until that turns zero. It clobbers x14 to x16. */
	.macro	INJECT point
	.ifdef	RSEQGO_INJECT
	adrp	x14, rseqgo_v1_inject + 4 * \point
	add	x14, x14, :lo12:rseqgo_v1_inject + 4 * \point
	ldr	w15, [x14]
881:	ldr	w16, [x14]
	cbz	w16, 882f
	subs	w15, w15, #1
	b.ne	881b
882:
	.endif
	.endm

/* AREA loads the area's address, or leaves if sections are refused. */
	.macro	AREA name, index
	adrp	x10, rseqgo_v1_cs_offset_\index
	ldr	x10, [x10, :lo12:rseqgo_v1_cs_offset_\index]
	cbz	x10, .L\name\()_unregistered
	mrs	x13, tpidr_el0
	add	x10, x10, x13
	.endm

/* REGISTERED leaves if the thread is not: an unregistered area's mm_cid is 0, as
 * a registered one's may be. */
	.macro	REGISTERED name
	ldr	w13, [x10, #RSEQ_CPU_ID]
	tbnz	w13, #31, .L\name\()_unregistered
	EXIT_POINT \name, .L\name\()_unregistered
	.endm

/* START starts the section; a thread whose index is not w8 leaves for elsewhere. */
	.macro	START name, index, elsewhere
	adrp	x13, \name\()_descriptor
	add	x13, x13, :lo12:\name\()_descriptor
	INJECT	1
	str	x13, [x10, #RSEQ_RSEQ_CS]
	HIDDEN	\name\()_start
	INJECT	2
	.ifc	\index, mm_cid
	REGISTERED \name
	.endif
	ldr	w13, [x10, #RSEQ_INDEX_\index]
	cmp	w13, w8
	b.ne	\elsewhere
	EXIT_POINT \name, \elsewhere
	INJECT	3
	.endm

/* ENTER starts the section of an operation that names its index, argument
 * at(sp): refused, or an index that cannot be, leave before. */
	.macro	ENTER name, index, at
	AREA	\name, \index
	ldr	x8, [sp, #\at]
	adrp	x13, rseqgo_v1_cs_possible
	ldr	x13, [x13, :lo12:rseqgo_v1_cs_possible]
	cmp	x8, x13
	b.hs	.L\name\()_range
	START	\name, \index, .L\name\()_elsewhere
	.endm

/* LEAVE is the end of a way out: result is where the status goes, if anywhere. */
	.macro	LEAVE status, result, leave=ret
	.ifnb	\result
	mov	w13, #\status
	str	w13, [sp, #\result]
	.endif
	\leave
	.endm

/* COMPARE_FAILS is the exit of the branches just before it. */
	.macro	COMPARE_FAILS name
	EXIT_POINT \name, .L\name\()_compare_failed
	.set	.L\name\()_compares, 1
	.endm

/* COMMIT stands behind the committing store and ends the function. */
	.macro	COMMIT name, index, result
	HIDDEN	\name\()_commit
	INJECT	6
	str	wzr, [sp, #\result]	/* DONE */
	ret
	.ifdef	.L\name\()_compares
.L\name\()_compare_failed:
	LEAVE	COMPARE_FAILED, \result
	.endif
.L\name\()_elsewhere:
	.ifc	\index, cpu_id
	tbnz	w13, #31, .L\name\()_unregistered
	.endif
	LEAVE	RACED, \result
.L\name\()_unregistered:
	LEAVE	NOT_REGISTERED, \result
.L\name\()_range:
	cbz	x13, .L\name\()_unregistered /* not set yet: loads may be reordered */
	LEAVE	OUT_OF_RANGE, \result
	SIGNATURE
	HIDDEN	\name\()_abort
	LEAVE	RACED, \result
	END_FUNCTION \name
	DESCRIPTOR \name
	.endm

/* SIGNATURE is RSEQ_SIG, brk #0x45e0 (glibc's bits/rseq.h for aarch64). */
	.macro	SIGNATURE
	.inst	RSEQ_SIG
	.endm

/* BOTH makes an operation's two functions. */
	.macro	BOTH macro, op, store=str
	\macro	rseqgo_v1_cs_\op\()_cpu_id, cpu_id, rseqgo_v1_cs_\op\()_mm_cid, \store
	\macro	rseqgo_v1_cs_\op\()_mm_cid, mm_cid, , \store
	.endm

/* CBNE leaves if the word at v, which it loads with acquire, is not expect. */
	.macro	CBNE name, v, expect
	ldar	x13, [\v]
	cmp	x13, \expect
	b.ne	.L\name\()_compare_failed
	COMPARE_FAILS \name
	.endm

/* OWN begins an operation on the thread's own index: x0 is a struct that has its
 * number of indexes at n. Refused, or beyond that number, it leaves. Where it is
 * interrupted it starts again, at _again, so x0, x1, x9 and x10 stay. */
	.macro	OWN name, index, n
	FUNCTION \name
	ldp	x0, x1, [sp, #8]
	AREA	\name, \index
.L\name\()_again:
	ldr	w8, [x10, #RSEQ_INDEX_\index]
	ldr	x3, [x0, #\n]
	cmp	x8, x3			/* signed, and x8 is not negative */
	b.ge	.L\name\()_beyond
	ldr	x2, [x0]		/* what the index counts from */
	.endm

/* OTHERWISE has the ways out of an operation on the thread's own index, for the
 * status at(sp), if there is a slot for it, and ends the function. A struct without
 * indexes may have some for the other function. try counts the tries and leaves for
 * _again, or falls through. leave is "ret", or "br x9": what the entry in Go assembly
 * put there does the rest, with the same arguments. */
	.macro	OTHERWISE name, at, leave, other, try:vararg
.L\name\()_beyond:
	tbnz	w8, #31, .L\name\()_unregistered /* the cpu_id of such an area */
	.ifnb	\other
	ldr	x13, [x0, #OWN_N_MM_CID]
	cbnz	x13, \other
	.endif
	LEAVE	OUT_OF_RANGE, \at, "\leave"
.L\name\()_unregistered:
	LEAVE	NOT_REGISTERED, \at, "\leave"
	SIGNATURE
	HIDDEN	\name\()_abort
	\try
	LEAVE	RACED, \at, "\leave"
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
 * in: cells x0, delta x1; w8 the index, x2 the word's address, both from before the
 * section starts. The str commits. It tries 128 times: counted in the slot of the
 * argument delta, which x1 remembers. */
	.macro	ADD_OWN name, index, n
	OWN	\name, \index, \n
	ldr	x4, [x0, #CELLS_STRIDE]
	madd	x2, x8, x4, x2
	START	\name, \index, \name\()_abort
	ldr	x3, [x2]
	add	x3, x3, x1
	INJECT	4
	str	x3, [x2]
	HIDDEN	\name\()_commit
	INJECT	6
	.endm
	.macro	TRY_ADD name
	ldr	x13, [sp, #16]
	add	x13, x13, #1
	str	x13, [sp, #16]
	sub	x13, x13, x1
	cmp	x13, #TRIES
	b.lo	.L\name\()_again
	.endm
	.macro	OP_ADD name, index
	ADD_OWN	\name, \index, OWN_N
	str	wzr, [sp, #24]		/* DONE */
	ret
	OTHERWISE \name, 24, ret, , TRY_ADD \name
	.endm
	OP_ADD	rseqgo_v1_cs_add_cpu_id, cpu_id
	OP_ADD	rseqgo_v1_cs_add_mm_cid, mm_cid

/* The slot of delta is as it was, and what the entry in Go assembly put in x9 goes on. */
	.macro	COUNT_OTHERWISE
	str	x1, [sp, #16]
	br	x9
	.endm
	.macro	OP_COUNT name, index, other, n=OWN_N_MM_CID
	ADD_OWN	\name, \index, \n
	ret
	OTHERWISE \name, , COUNT_OTHERWISE, \other, TRY_ADD \name
	.endm
	BOTH_OWN OP_COUNT, count

/* LIST starts an operation on a list: x3 becomes the block of the thread's own
 * index and x4 its count, loaded inside the section, so that who publishes another
 * block and fences has the old one alone. */
	.macro	LIST name, index, n
	OWN	\name, \index, \n
	add	x2, x2, x8, lsl #3
	START	\name, \index, \name\()_abort
	ldar	x3, [x2]
	ldr	x4, [x3, #BLOCK_COUNT]
	.endm

/* LISTED stands behind the committing store: status at(sp), where the tries are
 * counted too: the caller stored zero there. */
	.macro	LISTED name, at, other
	ret
.L\name\()_compare_failed:
	LEAVE	COMPARE_FAILED, \at, "br x9"
	OTHERWISE \name, \at, "br x9", \other, TRY_LIST \name, \at
	.endm
	.macro	TRY_LIST name, at
	ldr	w13, [sp, #\at]
	add	w13, w13, #1
	str	w13, [sp, #\at]
	cmp	w13, #TRIES
	b.lo	.L\name\()_again
	.endm

/* bool push(struct list *list, uint64_t v, uint32_t status)
 *
 *	b = list->blocks[i]
 *	if (b->count == b->cap) return otherwise(COMPARE_FAILED)
 *	b->items[b->count] = v
 *	b->count++
 *
 * in: list x0, v x1. The str to count commits. */
	.macro	OP_PUSH name, index, other, n=OWN_N_MM_CID
	LIST	\name, \index, \n
	ldr	x5, [x3, #BLOCK_CAP]
	cmp	x4, x5
	b.hs	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	add	x6, x3, x4, lsl #3
	str	x1, [x6, #BLOCK_ITEMS]
	add	x4, x4, #1
	INJECT	5
	str	x4, [x3, #BLOCK_COUNT]
	HIDDEN	\name\()_commit
	INJECT	6
	mov	w13, #1
	strb	w13, [sp, #32]
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
 * in: list x0; out: v x7. The str to count commits. */
	.macro	OP_POP name, index, other, n=OWN_N_MM_CID
	LIST	\name, \index, \n
	cbz	x4, .L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	sub	x4, x4, #1
	add	x6, x3, x4, lsl #3
	ldr	x7, [x6, #BLOCK_ITEMS]
	INJECT	5
	str	x4, [x3, #BLOCK_COUNT]
	HIDDEN	\name\()_commit
	INJECT	6
	str	x7, [sp, #24]
	mov	w13, #1
	strb	w13, [sp, #32]
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
 * in: list x0, v x1; out: n x7. The str to count commits. */
	.macro	OP_PUSH_BATCH name, index, other, n=OWN_N_MM_CID
	LIST	\name, \index, \n
	ldr	x5, [x3, #BLOCK_CAP]
	ldr	x7, [sp, #24]
	sub	x5, x5, x4
	cmp	x7, x5
	csel	x7, x7, x5, lo
	cbz	x7, .L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	add	x6, x3, x4, lsl #3
	add	x6, x6, #BLOCK_ITEMS
	mov	x5, #0
1:	ldr	x13, [x1, x5, lsl #3]
	str	x13, [x6, x5, lsl #3]
	add	x5, x5, #1
	cmp	x5, x7
	b.lo	1b
	add	x4, x4, x7
	INJECT	5
	str	x4, [x3, #BLOCK_COUNT]
	HIDDEN	\name\()_commit
	INJECT	6
	str	x7, [sp, #40]
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
 * in: list x0, v x1; out: n x7. The str to count commits. */
	.macro	OP_POP_BATCH name, index, other, n=OWN_N_MM_CID
	LIST	\name, \index, \n
	ldr	x7, [sp, #24]
	cmp	x7, x4
	csel	x7, x7, x4, lo
	cbz	x7, .L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	add	x6, x3, x4, lsl #3
	add	x6, x6, #BLOCK_ITEMS
	mov	x5, #0
1:	ldr	x13, [x6, #-8]!
	str	x13, [x1, x5, lsl #3]
	add	x5, x5, #1
	cmp	x5, x7
	b.lo	1b
	sub	x4, x4, x7
	INJECT	5
	str	x4, [x3, #BLOCK_COUNT]
	HIDDEN	\name\()_commit
	INJECT	6
	str	x7, [sp, #40]
	LISTED	\name, 32, \other
	.endm
	BOTH_OWN OP_POP_BATCH, pop_batch

/* Status load_cbne_store(index, int64_t *v, expect, newv, int i)
 *
 *	if (*v != expect) return COMPARE_FAILED
 *	*v = newv
 *
 * in: v x0, expect x1, newv x2. The str to v commits. */
	.macro	OP_LOAD_CBNE_STORE name, index, other, store
	FUNCTION \name
	DISPATCH \other
	ldp	x0, x1, [sp, #16]
	ldr	x2, [sp, #32]
	ENTER	\name, \index, 40
	CBNE	\name, x0, x1
	INJECT	4
	str	x2, [x0]
	COMMIT	\name, \index, 48
	.endm
	BOTH	OP_LOAD_CBNE_STORE, load_cbne_store

/* Status load_add_store(index, int64_t *v, count, int i)
 *
 *	*v += count
 *
 * in: v x0, count x1. The str to v commits. */
	.macro	OP_LOAD_ADD_STORE name, index, other, store
	FUNCTION \name
	DISPATCH \other
	ldp	x0, x1, [sp, #16]
	ENTER	\name, \index, 32
	ldr	x13, [x0]
	add	x13, x13, x1
	INJECT	4
	str	x13, [x0]
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
 * in: v x0, expectnot x1, voffp x2; out: load x3, kept in its slot 48(sp) before
 * anything can fail. The str to v commits. */
	.macro	OP_LOAD_CBEQ_STORE_ADD_LOAD_STORE name, index, other, store
	FUNCTION \name
	DISPATCH \other
	ldp	x0, x1, [sp, #16]
	ldr	x2, [sp, #32]
	str	x1, [sp, #48]
	ENTER	\name, \index, 40
	ldar	x3, [x0]
	cmp	x3, x1
	b.eq	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	str	x3, [sp, #48]
	ldr	x13, [x3, x2]
	INJECT	5
	str	x13, [x0]
	COMMIT	\name, \index, 56
	.endm
	BOTH	OP_LOAD_CBEQ_STORE_ADD_LOAD_STORE, load_cbeq_store_add_load_store

/* Status load_add_load_load_add_store(index, uintptr_t *ptr, off, int64_t inc,
 *	int i)
 *
 *	p = *(int64_t **)(*ptr + off)
 *	*p += inc
 *
 * in: ptr x0, off x1, inc x2. The str to p commits. */
	.macro	OP_LOAD_ADD_LOAD_LOAD_ADD_STORE name, index, other, store
	FUNCTION \name
	DISPATCH \other
	ldp	x0, x1, [sp, #16]
	ldr	x2, [sp, #32]
	ENTER	\name, \index, 40
	ldr	x13, [x0]
	INJECT	4
	ldr	x3, [x13, x1]
	ldr	x13, [x3]
	add	x13, x13, x2
	INJECT	5
	str	x13, [x3]
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
 * in: v x0, expect x1, v2 x2, expect2 x3, newv x4. The str to v commits. */
	.macro	OP_LOAD_CBNE_LOAD_CBNE_STORE name, index, other, store
	FUNCTION \name
	DISPATCH \other
	ldp	x0, x1, [sp, #16]
	ldp	x2, x3, [sp, #32]
	ldr	x4, [sp, #48]
	ENTER	\name, \index, 56
	CBNE	\name, x0, x1
	INJECT	4
	CBNE	\name, x2, x3
	INJECT	5
	str	x4, [x0]
	COMMIT	\name, \index, 64
	.endm
	BOTH	OP_LOAD_CBNE_LOAD_CBNE_STORE, load_cbne_load_cbne_store

/* Status load_cbne_store_store(index, int64_t *v, expect, int64_t *v2, newv2,
 *	newv, int i), and load_cbne_store_store_release
 *
 *	if (*v != expect) return COMPARE_FAILED
 *	*v2 = newv2
 *	*v = newv
 *
 * in: v x0, expect x1, v2 x2, newv2 x3, newv x4. The store to v commits: str, or
 * stlr to release. */
	.macro	OP_LOAD_CBNE_STORE_STORE name, index, other, store
	FUNCTION \name
	DISPATCH \other
	ldp	x0, x1, [sp, #16]
	ldp	x2, x3, [sp, #32]
	ldr	x4, [sp, #48]
	ENTER	\name, \index, 56
	CBNE	\name, x0, x1
	INJECT	4
	str	x3, [x2]
	INJECT	5
	\store	x4, [x0]
	COMMIT	\name, \index, 64
	.endm
	BOTH	OP_LOAD_CBNE_STORE_STORE, load_cbne_store_store
	BOTH	OP_LOAD_CBNE_STORE_STORE, load_cbne_store_store_release, stlr

/* Status load_cbne_memcpy_store(index, int64_t *v, expect, void *dst,
 *	const void *src, size_t len, newv, int i), and
 *	load_cbne_memcpy_store_release
 *
 *	if (*v != expect) return COMPARE_FAILED
 *	memcpy(dst, src, len)
 *	*v = newv
 *
 * in: v x0, expect x1, dst x2, src x3, len x4, newv x5. The store to v commits:
 * str, or stlr to release. */
	.macro	OP_LOAD_CBNE_MEMCPY_STORE name, index, other, store
	FUNCTION \name
	DISPATCH \other
	ldp	x0, x1, [sp, #16]
	ldp	x2, x3, [sp, #32]
	ldp	x4, x5, [sp, #48]
	ENTER	\name, \index, 64
	CBNE	\name, x0, x1
	INJECT	4
	subs	x4, x4, #8
	b.lo	2f
1:	ldr	x13, [x3], #8		/* words */
	str	x13, [x2], #8
	subs	x4, x4, #8
	b.hs	1b
2:	adds	x4, x4, #8
	b.eq	4f
3:	ldrb	w13, [x3], #1		/* the bytes that are left */
	strb	w13, [x2], #1
	subs	x4, x4, #1
	b.ne	3b
4:	INJECT	5
	\store	x5, [x0]
	COMMIT	\name, \index, 72
	.endm
	BOTH	OP_LOAD_CBNE_MEMCPY_STORE, load_cbne_memcpy_store
	BOTH	OP_LOAD_CBNE_MEMCPY_STORE, load_cbne_memcpy_store_release, stlr

/* int spin(const volatile uint32_t *flag, uint64_t limit,
 *	struct rseqgo_area *area, const void *descriptor)
 *
 *	for (; limit; limit--)
 *		if (*flag) return SPIN_SAW_FLAG
 *	return SPIN_EXHAUSTED
 *
 * A section to be disturbed in, for sections.c and the tests; C's calling
 * convention. The caller names the descriptor, rseqgo_v1_cs_spin_descriptor in
 * earnest. in: flag x0, limit x1, area x2, descriptor x3. Nothing commits. */
	FUNCTION rseqgo_v1_cs_spin
	str	x3, [x2, #RSEQ_RSEQ_CS]
	HIDDEN	rseqgo_v1_cs_spin_start
1:	ldr	w13, [x0]
	cbnz	w13, .Lspin_saw
	EXIT_POINT rseqgo_v1_cs_spin, .Lspin_saw
	subs	x1, x1, #1
	b.ne	1b
	HIDDEN	rseqgo_v1_cs_spin_commit
	mov	w0, #SPIN_EXHAUSTED
	ret
.Lspin_saw:
	mov	w0, #SPIN_SAW_FLAG
	ret
	SIGNATURE
	HIDDEN	rseqgo_v1_cs_spin_abort
	mov	w0, #SPIN_ABORTED
	ret
	END_FUNCTION rseqgo_v1_cs_spin
	DESCRIPTOR rseqgo_v1_cs_spin
