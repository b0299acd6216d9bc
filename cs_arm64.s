//go:build linux && !android && cgo && !purego
/* SPDX-License-Identifier: MIT
 *
 * Critical sections for arm64, in the order of cs_amd64.s, which has the story.
 *
 * Calling convention: Go's ABIInternal. The arguments are in x0 to x15 and the results
 * in the same; x26 is the context of a closure call. x18, x28 (Go's g), x29, sp and
 * x30, by which a section returns, stay as they are. The first register that changes is
 * x16: the linker may change that at any call, so it is nobody's argument under any
 * convention.
 *
 * x16 is the area, x17 scratch, and x8 to x15 are free in operations on the thread's own
 * index, which have at most five arguments. The loads that a comparison follows acquire,
 * so that a lock can be taken so.
 */
	.include "cs_arm64.h"
	.include "cs_common.h"

/* convention(a, b, ..., p) returns (b+1, c+2, ..., p+15, a+16): all sixteen argument and
 * result registers. Nothing else but x16 is touched, so that calling it is safe under
 * any convention. */
	FUNCTION rseqgo_v1_convention
	mov	x16, x0
	add	x0, x1, #1
	add	x1, x2, #2
	add	x2, x3, #3
	add	x3, x4, #4
	add	x4, x5, #5
	add	x5, x6, #6
	add	x6, x7, #7
	add	x7, x8, #8
	add	x8, x9, #9
	add	x9, x10, #10
	add	x10, x11, #11
	add	x11, x12, #12
	add	x12, x13, #13
	add	x13, x14, #14
	add	x14, x15, #15
	add	x15, x16, #16
	.ifdef	RSEQGO_WRONG_CONVENTION	/* for a test */
	mov	x0, x1
	.endif
	ret
	END_FUNCTION rseqgo_v1_convention

/* OPEN makes x16 the area, or leaves for the portable function or the slow path if the
 * word of the gate is zero. */
	.macro	OPEN name, word
	adrp	x16, rseqgo_v1_gate + \word
	ldr	x16, [x16, :lo12:rseqgo_v1_gate + \word]
	cbz	x16, .L\name\()_closed
	mrs	x17, tpidr_el0
	add	x16, x16, x17
	.endm

/* CLOSED is where OPEN leaves for. */
	.macro	CLOSED op, name
.L\name\()_closed:
	adrp	x16, rseqgo_v1_portable_\op
	ldr	x16, [x16, :lo12:rseqgo_v1_portable_\op]
	cbz	x16, .L\name\()_unregistered
	br	x16
	.endm

/* SLOW calls the function value slow, an argument, in place of this operation and with
 * its arguments, but for slow itself: that is now this program's or library's gate. */
	.macro	SLOW slow
	mov	x26, \slow
	adrp	\slow, rseqgo_v1_gate
	add	\slow, \slow, :lo12:rseqgo_v1_gate
	ldr	x27, [x26]
	br	x27
	.endm

/* int32_t read(slow), the readers of a field, and int32_t read_index(index, slow), whose
 * first argument says which kind of index:
 *
 *	if (area->cpu_id < 0) return slow(...)
 *	return area->field
 *
 * mm_cid and node_id are right only in the area of a registered thread. in: slow x0, or
 * index w0 and slow x1. */
	.macro	READER op, name, field, slow, other
	FUNCTION rseqgo_v1_\name
	OPEN	\name, GATE_READ_\field
	.ifnb	\other
	tst	w0, #0xff
	b.ne	\other
	.endif
	ldr	w17, [x16, #RSEQ_CPU_ID]
	tbnz	w17, #31, .L\name\()_unregistered
	.ifnc	\field, cpu_id
	ldr	w17, [x16, #RSEQ_INDEX_\field]
	.endif
	mov	w0, w17
	ret
	CLOSED	\op, \name
.L\name\()_unregistered:
	SLOW	\slow
	END_FUNCTION rseqgo_v1_\name
	.endm
	READERS x0, x1

/* INJECT is a delay loop for the tests, nothing in a normal build: so many rounds
 * as a word says, or until that turns zero. It clobbers x19 to x21. */
	.macro	INJECT point
	.ifdef	RSEQGO_INJECT
	adrp	x19, rseqgo_v1_inject + 4 * \point
	add	x19, x19, :lo12:rseqgo_v1_inject + 4 * \point
	ldr	w20, [x19]
881:	ldr	w21, [x19]
	cbz	w21, 882f
	subs	w20, w20, #1
	b.ne	881b
882:
	.endif
	.endm

/* REGISTERED leaves if the thread is not: an unregistered area's mm_cid is 0, as
 * a registered one's may be. */
	.macro	REGISTERED name
	ldr	w17, [x16, #RSEQ_CPU_ID]
	tbnz	w17, #31, .L\name\()_unregistered
	EXIT_POINT \name, .L\name\()_unregistered
	.endm

/* START starts the section; a thread whose index is not i leaves for elsewhere, with the
 * thread's in w17. */
	.macro	START name, index, i, elsewhere
	adrp	x17, \name\()_descriptor
	add	x17, x17, :lo12:\name\()_descriptor
	INJECT	1
	str	x17, [x16, #RSEQ_RSEQ_CS]
	HIDDEN	\name\()_start
	INJECT	2
	.ifc	\index, mm_cid
	REGISTERED \name
	.endif
	ldr	w17, [x16, #RSEQ_INDEX_\index]
	cmp	w17, \i
	b.ne	\elsewhere
	EXIT_POINT \name, \elsewhere
	INJECT	3
	.endm

/* ENTER begins an operation that names its index, in the 64 bits of i and the 32 of
 * i32, and whose first argument, the lowest byte of w0, says which kind that is: 0 for
 * cpu_id, 1 for mm_cid. An index that cannot be leaves before the section starts. */
	.macro	ENTER name, index, other, i, i32
	FUNCTION \name
	OPEN	\name, GATE_CS_\index
	.ifnb	\other
	tst	w0, #0xff
	b.ne	\other
	.endif
	adrp	x17, rseqgo_v1_gate + GATE_POSSIBLE
	ldr	x17, [x17, :lo12:rseqgo_v1_gate + GATE_POSSIBLE]
	cmp	\i, x17
	b.hs	.L\name\()_range
	START	\name, \index, \i32, .L\name\()_elsewhere
	.endm

/* COMPARE_FAILS is the exit of the branches just before it. */
	.macro	COMPARE_FAILS name
	EXIT_POINT \name, .L\name\()_compare_failed
	.set	.L\name\()_compares, 1
	.endm

/* COMMIT stands behind the committing store and ends the function; the status goes to
 * the register result. */
	.macro	COMMIT op, name, index, result=w0
	HIDDEN	\name\()_commit
	INJECT	6
	mov	\result, #DONE
	ret
	.ifdef	.L\name\()_compares
.L\name\()_compare_failed:
	mov	\result, #COMPARE_FAILED
	ret
	.endif
.L\name\()_elsewhere:
	.ifc	\index, cpu_id
	tbnz	w17, #31, .L\name\()_unregistered
	.endif
	mov	\result, #RACED
	ret
	CLOSED	\op, \name
.L\name\()_unregistered:
	mov	\result, #NOT_REGISTERED
	ret
.L\name\()_range:
	cbz	x17, .L\name\()_unregistered /* not set yet: loads may be reordered */
	mov	\result, #OUT_OF_RANGE
	ret
	SIGNATURE
	HIDDEN	\name\()_abort
	mov	\result, #RACED
	ret
	END_FUNCTION \name
	DESCRIPTOR \name
	.endm

/* SIGNATURE is RSEQ_SIG, brk #0x45e0 (glibc's bits/rseq.h for aarch64). */
	.macro	SIGNATURE
	.inst	RSEQ_SIG
	.endm

/* CBNE leaves if the word at v, which it loads with acquire, is not expect. */
	.macro	CBNE name, v, expect
	ldar	x17, [\v]
	cmp	x17, \expect
	b.ne	.L\name\()_compare_failed
	COMPARE_FAILS \name
	.endm

/* OWN begins an operation on the thread's own index: struct is a register that points to
 * what has its number of indexes at n: x0, or one that gets the word at offset at behind
 * x0; zero there is _compare_failed. Refused, or beyond the number, it leaves. Where it
 * is interrupted it starts again, at _again. x8 is the index, and x10 what it counts from;
 * tries, if no argument counts the tries, is a register for that. */
	.macro	OWN name, index, n, tries, struct=x0, at
	FUNCTION \name
	OPEN	\name, GATE_CS_\index
	.ifnb	\at
	ldr	\struct, [x0, #\at]	/* what it points to is loaded through it: ordered */
	cbz	\struct, .L\name\()_compare_failed
	.endif
	.ifnb	\tries
	mov	\tries, #0
	.endif
.L\name\()_again:
	ldr	w8, [x16, #RSEQ_INDEX_\index]
	.ifc	\index, cpu_id		/* negative where the thread is not registered: */
	.ifb	\at			/* beyond any n, too, where that is told nobody */
	tbnz	w8, #31, .L\name\()_unregistered
	.endif
	.endif
	ldr	x9, [\struct, #\n]
	cmp	x8, x9			/* signed: n may be negative */
	b.ge	.L\name\()_beyond
	ldr	x10, [\struct]
	.endm

/* LEAVE ends an operation on the thread's own index that did not happen: with a status
 * if there is a register for it, by the slow path if there is one. */
	.macro	LEAVE status, result, slow
	.ifnb	\result
	mov	\result, #\status
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
	.macro	LEAVES op, name, tries, result, slow, other, struct=x0
.L\name\()_beyond:
	.ifnb	\other
	ldr	x9, [\struct, #OWN_N_MM_CID]
	cbnz	x9, \other
	.endif
	LEAVE	OUT_OF_RANGE, \result, \slow
	CLOSED	\op, \name
.L\name\()_unregistered:
	LEAVE	NOT_REGISTERED, \result, \slow
	SIGNATURE
	HIDDEN	\name\()_abort
	add	\tries, \tries, #1
	cmp	\tries, #TRIES
	b.lo	.L\name\()_again
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
 * in: cells x0, delta x1, slow x2; x10 the word's address, from before the section
 * starts. w5 counts the tries. The str commits. */
	.macro	ADD_OWN name, index, n
	OWN	\name, \index, \n, w5
	ldr	x9, [x0, #CELLS_STRIDE]
	madd	x10, x8, x9, x10
	START	\name, \index, w8, \name\()_abort
	ldr	x17, [x10]
	add	x17, x17, x1
	INJECT	4
	str	x17, [x10]
	HIDDEN	\name\()_commit
	INJECT	6
	.endm
	.macro	OP_ADD op, name, index, other
	ADD_OWN	\name, \index, OWN_N
	mov	w0, #DONE
	ret
	LEAVES	\op, \name, w5, w0
	.endm
	BOTH	OP_ADD, add

	.macro	OP_COUNT op, name, index, other
	.ifnb	\other
	ADD_OWN	\name, \index, OWN_N
	.else
	ADD_OWN	\name, \index, OWN_N_MM_CID
	.endif
	ret
	LEAVES	\op, \name, w5, , x2, \other
	.endm
	BOTH	OP_COUNT, count

/* bool read_lock(struct rwmutex *lock, int64_t delta, slow)
 *
 *	r = lock->readers
 *	if (!r || r->state != READERS_OPEN) return slow()
 *	*(r->base + i * r->stride + (delta < 0 ? 0 : 8)) += delta
 *	return true
 *
 * in: lock x0, delta x1, which is 1 or -1, slow x2; r x11, x10 the word's address, as in add. w5 counts the
 * tries. State is loaded inside the section, and acquires: after it was changed and all
 * CPUs were fenced no section adds any more. The str commits. */
	.macro	OP_READ_LOCK op, name, index, other
	.ifnb	\other
	OWN	\name, \index, OWN_N, w5, x11, LOCK_READERS
	.else
	OWN	\name, \index, OWN_N_MM_CID, w5, x11, LOCK_READERS
	.endif
	ldr	x9, [x11, #CELLS_STRIDE]
	madd	x10, x8, x9, x10
	add	x10, x10, x1, lsl #2
	add	x10, x10, #4
	add	x9, x11, #READERS_STATE
	START	\name, \index, w8, \name\()_abort
	ldar	x17, [x9]
	cmp	x17, #READERS_OPEN
	b.ne	.L\name\()_compare_failed
	COMPARE_FAILS \name
	ldr	x17, [x10]
	add	x17, x17, x1
	INJECT	4
	str	x17, [x10]
	HIDDEN	\name\()_commit
	INJECT	6
	mov	w0, #1
	ret
.L\name\()_compare_failed:
	SLOW	x2
	LEAVES	\op, \name, w5, , x2, \other, x11
	.endm
	BOTH	OP_READ_LOCK, read_lock

/* LIST starts an operation on a list: x11 becomes the block of the thread's own index
 * and x12 its count. Both are loaded inside the section: after another block was
 * published and the CPU fenced no section uses the old one. */
	.macro	LIST name, index, other
	.ifnb	\other
	OWN	\name, \index, OWN_N
	.else
	OWN	\name, \index, OWN_N_MM_CID
	.endif
	add	x10, x10, x8, lsl #3
	START	\name, \index, w8, \name\()_abort
	ldar	x11, [x10]
	ldr	x12, [x11, #BLOCK_COUNT]
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
 * in: list x0, v x1, slow x2, status w3. The str to count commits. */
	.macro	OP_PUSH op, name, index, other
	LIST	\name, \index, \other
	ldr	x9, [x11, #BLOCK_CAP]
	cmp	x12, x9
	b.hs	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	add	x10, x11, x12, lsl #3
	str	x1, [x10, #BLOCK_ITEMS]
	add	x12, x12, #1
	INJECT	5
	str	x12, [x11, #BLOCK_COUNT]
	HIDDEN	\name\()_commit
	INJECT	6
	mov	w0, #1
	LISTED	\op, \name, x2, w3, \other
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
 * in: list x0, slow x1, status w2; v x13. The str to count commits. */
	.macro	OP_POP op, name, index, other
	LIST	\name, \index, \other
	cbz	x12, .L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	sub	x12, x12, #1
	add	x10, x11, x12, lsl #3
	ldr	x13, [x10, #BLOCK_ITEMS]
	INJECT	5
	str	x12, [x11, #BLOCK_COUNT]
	HIDDEN	\name\()_commit
	INJECT	6
	mov	x0, x13
	mov	w1, #1
	LISTED	\op, \name, x1, w2, \other
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
 * in: list x0, v x1, n x2, slow x3, status w4; the new n x13, x10 where it copies to. v
 * is read inside the section. The str to count commits. */
	.macro	OP_PUSH_BATCH op, name, index, other
	LIST	\name, \index, \other
	ldr	x9, [x11, #BLOCK_CAP]
	sub	x9, x9, x12
	cmp	x2, x9
	csel	x13, x2, x9, lo
	cbz	x13, .L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	add	x10, x11, x12, lsl #3
	add	x10, x10, #BLOCK_ITEMS
	mov	x9, #0
1:	ldr	x17, [x1, x9, lsl #3]
	str	x17, [x10, x9, lsl #3]
	add	x9, x9, #1
	cmp	x9, x13
	b.lo	1b
	add	x12, x12, x13
	INJECT	5
	str	x12, [x11, #BLOCK_COUNT]
	HIDDEN	\name\()_commit
	INJECT	6
	mov	x0, x13
	LISTED	\op, \name, x3, w4, \other
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
 * in: list x0, v x1, n x2, slow x3, status w4; the new n x13, x10 where it copies from. v
 * is written inside the section. The str to count commits. */
	.macro	OP_POP_BATCH op, name, index, other
	LIST	\name, \index, \other
	cmp	x2, x12
	csel	x13, x2, x12, lo
	cbz	x13, .L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	add	x10, x11, x12, lsl #3
	add	x10, x10, #BLOCK_ITEMS
	mov	x9, #0
1:	ldr	x17, [x10, #-8]!
	str	x17, [x1, x9, lsl #3]
	add	x9, x9, #1
	cmp	x9, x13
	b.lo	1b
	sub	x12, x12, x13
	INJECT	5
	str	x12, [x11, #BLOCK_COUNT]
	HIDDEN	\name\()_commit
	INJECT	6
	mov	x0, x13
	LISTED	\op, \name, x3, w4, \other
	.endm
	BOTH	OP_POP_BATCH, pop_batch

/* Status load_cbne_store(index, int64_t *v, expect, newv, int i)
 *
 *	if (*v != expect) return COMPARE_FAILED
 *	*v = newv
 *
 * in: index w0, v x1, expect x2, newv x3, i x4. The str to v commits. */
	.macro	OP_LOAD_CBNE_STORE op, name, index, other
	ENTER	\name, \index, \other, x4, w4
	CBNE	\name, x1, x2
	INJECT	4
	str	x3, [x1]
	COMMIT	\op, \name, \index
	.endm
	BOTH	OP_LOAD_CBNE_STORE, load_cbne_store

/* Status load_add_store(index, int64_t *v, count, int i)
 *
 *	*v += count
 *
 * in: index w0, v x1, count x2, i x3. The str to v commits. */
	.macro	OP_LOAD_ADD_STORE op, name, index, other
	ENTER	\name, \index, \other, x3, w3
	ldr	x17, [x1]
	add	x17, x17, x2
	INJECT	4
	str	x17, [x1]
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
 * in: index w0, v x1, expectnot x2, voffp x3, i x4; results: load x0,
 * status w1. The str to v commits. */
	.macro	OP_LOAD_CBEQ_STORE_ADD_LOAD_STORE op, name, index, other
	ENTER	\name, \index, \other, x4, w4
	ldar	x0, [x1]
	cmp	x0, x2
	b.eq	.L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	ldr	x17, [x0, x3]
	INJECT	5
	str	x17, [x1]
	COMMIT	\op, \name, \index, w1
	.endm
	BOTH	OP_LOAD_CBEQ_STORE_ADD_LOAD_STORE, load_cbeq_store_add_load_store

/* Status load_add_load_load_add_store(index, uintptr_t *ptr, off, int64_t inc,
 *	int i)
 *
 *	p = *(int64_t **)(*ptr + off)
 *	*p += inc
 *
 * in: index w0, ptr x1, off x2, inc x3, i x4. The str to p commits. */
	.macro	OP_LOAD_ADD_LOAD_LOAD_ADD_STORE op, name, index, other
	ENTER	\name, \index, \other, x4, w4
	ldr	x17, [x1]
	INJECT	4
	ldr	x5, [x17, x2]
	ldr	x17, [x5]
	add	x17, x17, x3
	INJECT	5
	str	x17, [x5]
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
 * in: index w0, v x1, expect x2, v2 x3, expect2 x4, newv x5, i x6. The str to v
 * commits. */
	.macro	OP_LOAD_CBNE_LOAD_CBNE_STORE op, name, index, other
	ENTER	\name, \index, \other, x6, w6
	CBNE	\name, x1, x2
	INJECT	4
	CBNE	\name, x3, x4
	INJECT	5
	str	x5, [x1]
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
 * in: index w0, v x1, expect x2, v2 x3, newv2 x4, newv x5, i x6. The store to v commits:
 * str, or stlr to release. */
	.macro	LOAD_CBNE_STORE_STORE op, name, index, other, store
	ENTER	\name, \index, \other, x6, w6
	CBNE	\name, x1, x2
	INJECT	4
	str	x4, [x3]
	INJECT	5
	\store	x5, [x1]
	COMMIT	\op, \name, \index
	.endm
	.macro	OP_LOAD_CBNE_STORE_STORE op, name, index, other
	LOAD_CBNE_STORE_STORE \op, \name, \index, \other, str
	.endm
	.macro	OP_LOAD_CBNE_STORE_STORE_RELEASE op, name, index, other
	LOAD_CBNE_STORE_STORE \op, \name, \index, \other, stlr
	.endm
	BOTH	OP_LOAD_CBNE_STORE_STORE, load_cbne_store_store
	BOTH	OP_LOAD_CBNE_STORE_STORE_RELEASE, load_cbne_store_store_release

/* Status load_cbne_memcpy_store(index, int64_t *v, expect, void *dst,
 *	const void *src, size_t len, newv, int i), and load_cbne_memcpy_store_release
 *
 *	if (*v != expect) return COMPARE_FAILED
 *	memcpy(dst, src, len)
 *	*v = newv
 *
 * in: index w0, v x1, expect x2, dst x3, src x4, len x5, newv x6, i x7. src is read
 * inside the section. The store to v commits: str, or stlr to release. */
	.macro	LOAD_CBNE_MEMCPY_STORE op, name, index, other, store
	ENTER	\name, \index, \other, x7, w7
	CBNE	\name, x1, x2
	INJECT	4
	subs	x5, x5, #8
	b.lo	2f
1:	ldr	x17, [x4], #8		/* words */
	str	x17, [x3], #8
	subs	x5, x5, #8
	b.hs	1b
2:	adds	x5, x5, #8
	b.eq	4f
3:	ldrb	w17, [x4], #1		/* the bytes that are left */
	strb	w17, [x3], #1
	subs	x5, x5, #1
	b.ne	3b
4:	INJECT	5
	\store	x6, [x1]
	COMMIT	\op, \name, \index
	.endm
	.macro	OP_LOAD_CBNE_MEMCPY_STORE op, name, index, other
	LOAD_CBNE_MEMCPY_STORE \op, \name, \index, \other, str
	.endm
	.macro	OP_LOAD_CBNE_MEMCPY_STORE_RELEASE op, name, index, other
	LOAD_CBNE_MEMCPY_STORE \op, \name, \index, \other, stlr
	.endm
	BOTH	OP_LOAD_CBNE_MEMCPY_STORE, load_cbne_memcpy_store
	BOTH	OP_LOAD_CBNE_MEMCPY_STORE_RELEASE, load_cbne_memcpy_store_release

/* int spin(const volatile uint32_t *flag, uint64_t limit,
 *	struct rseqgo_area *area, const void *descriptor)
 *
 *	for (; limit; limit--)
 *		if (*flag) return SPIN_SAW_FLAG
 *	return SPIN_EXHAUSTED
 *
 * A section to be disturbed in, for live.c and the tests; C's calling
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
