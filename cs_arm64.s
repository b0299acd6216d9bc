//go:build linux && !android && cgo && !purego
/* SPDX-License-Identifier: MIT
 *
 * Readers and critical sections for arm64, in the order and with the labels of
 * cs_amd64.s, whose first comment holds here too.
 *
 * Calling convention: Go's ABIInternal. The arguments are in x0 to x15 and the results
 * in the same; x26 is the context of a closure call. x18, x28 (Go's g), x29, sp and
 * x30, by which a function returns, stay as they are. The first register that changes is
 * x16. The linker may change it in any call, so it holds no argument under any
 * convention.
 *
 * x16 is the area, x17 scratch, and x8 to x15 are free in operations on the thread's own
 * index, which have at most five arguments. A load whose value is compared acquires, so
 * that a section can take a lock.
 */
	.include "cs_arm64.h"
	.include "cs_common.h"

/* convention(a, b, ..., p) returns (b+1, c+2, ..., p+15, a+16): all sixteen argument and
 * result registers. Besides these it changes only x16, so calling it is safe under any
 * convention. */
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

/* OPEN makes x16 the area, and leaves for CLOSED if the word of the gate is zero. Only x16
 * has changed then. */
	.macro	OPEN name, word
	adrp	x16, rseqgo_v1_gate + \word
	ldr	x16, [x16, :lo12:rseqgo_v1_gate + \word]
	cbz	x16, .L\name\()_closed
	mrs	x17, tpidr_el0
	add	x16, x16, x17
	.endm

/* CLOSED goes on to the portable function if there is one, else to the slow path. */
	.macro	CLOSED op, name
.L\name\()_closed:
	adrp	x16, rseqgo_v1_portable_\op
	ldr	x16, [x16, :lo12:rseqgo_v1_portable_\op]
	cbz	x16, .L\name\()_unregistered
	br	x16
	.endm

/* SLOW jumps to the function value slow, an argument, with this operation's arguments; the
 * gate of this program or library takes the place of slow. */
	.macro	SLOW slow
	mov	x26, \slow
	adrp	\slow, rseqgo_v1_gate
	add	\slow, \slow, :lo12:rseqgo_v1_gate
	ldr	x27, [x26]
	br	x27
	.endm

/* The readers, of a field: int32_t read(slow), and of an index: int32_t read_index(index,
 * slow), whose first argument is the kind of index. See READERS for the names.
 *
 *	if (area->cpu_id < 0) return slow(...)
 *	return area->field
 *
 * mm_cid and node_id are valid only in the area of a registered thread. In: slow x0, or
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

/* INJECT is a delay loop in a build for tests, and nothing in any other. It takes as many
 * rounds as a word says, or until that becomes zero. It clobbers x19 to x21. */
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

/* REGISTERED leaves if the thread is unregistered: the mm_cid of its area is 0, as that of
 * a registered thread may be. */
	.macro	REGISTERED name
	ldr	w17, [x16, #RSEQ_CPU_ID]
	tbnz	w17, #31, .L\name\()_unregistered
	EXIT_POINT \name, .L\name\()_unregistered
	.endm

/* START starts the section. A thread whose index is not i leaves for elsewhere, with its
 * own in w17. */
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

/* ENTER begins an operation that names its index. i is its register, i32 the lower half of
 * that. The first argument, in the lowest byte of w0, is the kind of index: 0 for cpu_id, 1 for mm_cid.
 * An index that is not below the number of possible ones leaves before the section
 * starts. */
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

/* COMPARE_FAILS records the exit point of the branches just before it. */
	.macro	COMPARE_FAILS name
	EXIT_POINT \name, .L\name\()_compare_failed
	.set	.L\name\()_compares, 1
	.endm

/* COMMIT stands behind the store that commits, and ends the function. The status goes into
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

/* CURRENT begins an operation on the thread's own index. struct is a register that points
 * to a struct with the number of indexes at offset n: x0, or, with at, a register for the
 * word at that offset behind x0; if that word is zero it leaves for _compare_failed. An
 * index beyond the number leaves. An aborted section starts again at _again. x8 becomes the index, and x10 what it counts from.
 * tries is a register for the number of tries, if no argument counts them. With told=no
 * the slow path is not told why: an unregistered thread, whose index is negative, leaves
 * as one with an index beyond the number does. With grows=yes the number is stored
 * behind the rest of the struct, so it is loaded with acquire. */
	.macro	CURRENT name, index, n, tries, struct=x0, at, told, grows
	FUNCTION \name
	OPEN	\name, GATE_CS_\index
	.ifnb	\at
	ldr	\struct, [x0, #\at]	/* later loads depend on it, so they are ordered */
	cbz	\struct, .L\name\()_compare_failed
	.endif
	.ifnb	\tries
	mov	\tries, #0
	.endif
.L\name\()_again:
	ldr	w8, [x16, #RSEQ_INDEX_\index]
	.ifc	\index, cpu_id
	.ifnc	\told, no
	tbnz	w8, #31, .L\name\()_unregistered
	.endif
	.endif
	.ifc	\grows, yes
	add	x9, \struct, #\n
	ldar	x9, [x9]
	.else
	ldr	x9, [\struct, #\n]
	.endif
	cmp	x8, x9			/* signed: n may be negative */
	b.ge	.L\name\()_beyond
	ldr	x10, [\struct]
	.endm

/* LEAVE ends an operation on the thread's own index without effect: with a status if
 * there is a register for it, and by the slow path if there is one. */
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

/* LEAVES has the exits of an operation on the thread's own index, and ends the function.
 * A struct without words for CPUs may have words for concurrency ids; those are for the
 * function other. tries counts the tries. */
	.macro	LEAVES op, name, tries, result, slow, other, struct=x0
.L\name\()_beyond:
	.ifnb	\other
	ldr	x9, [\struct, #CURRENT_N_MM_CID]
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

/* Makes rseqgo_v1_cs_add_cpu_id and rseqgo_v1_cs_add_mm_cid.
 *
 * In: cells x0, delta x1; x10 the word's address, from before the section starts. w5
 * counts the tries. The str commits. */
	.macro	OP_ADD op, name, index, other
	CURRENT	\name, \index, CURRENT_N, w5
	ldr	x9, [x0, #CELLS_STRIDE]
	madd	x10, x8, x9, x10
	START	\name, \index, w8, \name\()_abort
	ldr	x17, [x10]
	add	x17, x17, x1
	INJECT	4
	str	x17, [x10]
	HIDDEN	\name\()_commit
	INJECT	6
	mov	w0, #DONE
	ret
	LEAVES	\op, \name, w5, w0
	.endm
	BOTH	OP_ADD, add

/* WORDS begins an operation on the words with which the struct at x0 begins: x10 becomes
 * the address of the first word of the thread's own index, as in add. The number of
 * indexes is loaded first; it is zero until there are words. */
	.macro	WORDS name, index, other, tries
	.ifnb	\other
	CURRENT	\name, \index, CURRENT_N, \tries, told=no, grows=yes
	.else
	CURRENT	\name, \index, CURRENT_N_MM_CID, \tries, told=no, grows=yes
	.endif
	ldr	x9, [x0, #CELLS_STRIDE]
	madd	x10, x8, x9, x10
	.endm

/* COMPARE_STATE leaves, inside a section, if the words are not open. After their state was
 * changed no section begins to write them, and after a fence of all CPUs none still does. x9
 * is the address of the state, which is loaded with acquire. */
	.macro	COMPARE_STATE name
	ldar	x17, [x9]
	cmp	x17, #WORDS_OPEN
	b.ne	.L\name\()_compare_failed
	COMPARE_FAILS \name
	.endm

/* Makes rseqgo_v1_cs_count_cpu_id and rseqgo_v1_cs_count_mm_cid.
 *
 * In: counter x0, delta x1, slow x2; tries w5. The str commits. */
	.macro	OP_COUNT op, name, index, other
	WORDS	\name, \index, \other, w5
	START	\name, \index, w8, \name\()_abort
	ldr	x17, [x10]
	add	x17, x17, x1
	INJECT	4
	str	x17, [x10]
	HIDDEN	\name\()_commit
	INJECT	6
	ret
	LEAVES	\op, \name, w5, , x2, \other
	.endm
	BOTH	OP_COUNT, count

/* Makes rseqgo_v1_cs_count_float_cpu_id and rseqgo_v1_cs_count_float_mm_cid.
 *
 * In: counter x0, delta x1, slow x2; tries w5; delta d0, the sum d1. The str commits. */
	.macro	OP_COUNT_FLOAT op, name, index, other
	WORDS	\name, \index, \other, w5
	fmov	d0, x1
	START	\name, \index, w8, \name\()_abort
	ldr	d1, [x10]
	fadd	d1, d1, d0
	INJECT	4
	str	d1, [x10]
	HIDDEN	\name\()_commit
	INJECT	6
	ret
	LEAVES	\op, \name, w5, , x2, \other
	.endm
	BOTH	OP_COUNT_FLOAT, count_float

/* Makes rseqgo_v1_cs_observe_cpu_id and rseqgo_v1_cs_observe_mm_cid.
 *
 * In: histogram x0, bucket x1, v x2, slow x3; tries w5; b x10, its sums x13, n x12, n %
 * 2 x14, v d0, the sum d1. The stlr to count commits. */
	.macro	OP_OBSERVE op, name, index, other
	WORDS	\name, \index, \other, w5
	add	x10, x10, x1
	add	x13, x10, #BUCKET_SUMS
	fmov	d0, x2
	add	x9, x0, #WORDS_STATE
	START	\name, \index, w8, \name\()_abort
	COMPARE_STATE \name
	ldr	x12, [x10, #BUCKET_COUNT]
	and	x14, x12, #1
	ldr	d1, [x13, x14, lsl #3]
	fadd	d1, d1, d0
	eor	x14, x14, #1
	INJECT	4
	str	d1, [x13, x14, lsl #3]
	add	x12, x12, #1
	INJECT	5
	stlr	x12, [x10]		/* BUCKET_COUNT is 0 */
	HIDDEN	\name\()_commit
	INJECT	6
	ret
.L\name\()_compare_failed:
	SLOW	x3
	LEAVES	\op, \name, w5, , x3, \other
	.endm
	BOTH	OP_OBSERVE, observe

/* Makes rseqgo_v1_cs_read_lock_cpu_id and rseqgo_v1_cs_read_lock_mm_cid.
 *
 * In: lock x0, delta x1, which is 1 or -1, slow x2; w x11, x10 the word's address, as in
 * add. w5 counts the tries. The str commits. */
	.macro	OP_READ_LOCK op, name, index, other
	.ifnb	\other
	CURRENT	\name, \index, CURRENT_N, w5, x11, LOCK_WORDS, no
	.else
	CURRENT	\name, \index, CURRENT_N_MM_CID, w5, x11, LOCK_WORDS, no
	.endif
	ldr	x9, [x11, #CELLS_STRIDE]
	madd	x10, x8, x9, x10
	add	x10, x10, x1, lsl #2
	add	x10, x10, #4
	add	x9, x11, #WORDS_STATE
	START	\name, \index, w8, \name\()_abort
	COMPARE_STATE \name
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

/* LIST begins an operation on a list: x11 becomes the block of the thread's own index, and
 * x12 its count. Both are loaded inside the section, so after another block was published
 * and the CPU was fenced no section uses the old one. */
	.macro	LIST name, index, other
	.ifnb	\other
	CURRENT	\name, \index, CURRENT_N
	.else
	CURRENT	\name, \index, CURRENT_N_MM_CID
	.endif
	add	x10, x10, x8, lsl #3
	START	\name, \index, w8, \name\()_abort
	ldar	x11, [x10]
	ldr	x12, [x11, #BLOCK_COUNT]
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
 * In: list x0, v x1, slow x2, status w3. The str to count commits. */
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
	LIST_END	\op, \name, x2, w3, \other
	.endm
	BOTH	OP_PUSH, push

/* Makes rseqgo_v1_cs_pop_cpu_id and rseqgo_v1_cs_pop_mm_cid.
 *
 * In: list x0, slow x1, status w2; v x13. The str to count commits. */
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
	LIST_END	\op, \name, x1, w2, \other
	.endm
	BOTH	OP_POP, pop

/* Makes rseqgo_v1_cs_push_batch_cpu_id and rseqgo_v1_cs_push_batch_mm_cid.
 *
 * In: list x0, v x1, n x2, slow x3, status w4; the new n x13, x10 where it copies to. v
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
	LIST_END	\op, \name, x3, w4, \other
	.endm
	BOTH	OP_PUSH_BATCH, push_batch

/* Makes rseqgo_v1_cs_pop_batch_cpu_id and rseqgo_v1_cs_pop_batch_mm_cid.
 *
 * In: list x0, v x1, n x2, slow x3, status w4; the new n x13, x10 where it copies from.
 * v is written inside the section. The str to count commits. */
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
	LIST_END	\op, \name, x3, w4, \other
	.endm
	BOTH	OP_POP_BATCH, pop_batch

/* Makes rseqgo_v1_cs_load_cbne_store_cpu_id and rseqgo_v1_cs_load_cbne_store_mm_cid.
 *
 * In: index w0, v x1, expect x2, newv x3, i x4. The str to v commits. */
	.macro	OP_LOAD_CBNE_STORE op, name, index, other
	ENTER	\name, \index, \other, x4, w4
	CBNE	\name, x1, x2
	INJECT	4
	str	x3, [x1]
	COMMIT	\op, \name, \index
	.endm
	BOTH	OP_LOAD_CBNE_STORE, load_cbne_store

/* Makes rseqgo_v1_cs_load_add_store_cpu_id and rseqgo_v1_cs_load_add_store_mm_cid.
 *
 * In: index w0, v x1, count x2, i x3. The str to v commits. */
	.macro	OP_LOAD_ADD_STORE op, name, index, other
	ENTER	\name, \index, \other, x3, w3
	ldr	x17, [x1]
	add	x17, x17, x2
	INJECT	4
	str	x17, [x1]
	COMMIT	\op, \name, \index
	.endm
	BOTH	OP_LOAD_ADD_STORE, load_add_store

/* Makes rseqgo_v1_cs_load_cbeq_store_add_load_store_cpu_id and
 * rseqgo_v1_cs_load_cbeq_store_add_load_store_mm_cid.
 *
 * In: index w0, v x1, expectnot x2, voffp x3, i x4; results: load x0, status w1. The str
 * to v commits. */
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

/* Makes rseqgo_v1_cs_load_add_load_load_add_store_cpu_id and
 * rseqgo_v1_cs_load_add_load_load_add_store_mm_cid.
 *
 * In: index w0, ptr x1, off x2, inc x3, i x4. The str to p commits. */
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

/* Makes rseqgo_v1_cs_load_cbne_load_cbne_store_cpu_id and
 * rseqgo_v1_cs_load_cbne_load_cbne_store_mm_cid.
 *
 * In: index w0, v x1, expect x2, v2 x3, expect2 x4, newv x5, i x6. The str to v commits. */
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

/* Makes rseqgo_v1_cs_load_cbne_store_store_cpu_id,
 * rseqgo_v1_cs_load_cbne_store_store_mm_cid,
 * rseqgo_v1_cs_load_cbne_store_store_release_cpu_id and
 * rseqgo_v1_cs_load_cbne_store_store_release_mm_cid.
 *
 * In: index w0, v x1, expect x2, v2 x3, newv2 x4, newv x5, i x6. The store to v commits:
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

/* Makes rseqgo_v1_cs_load_cbne_memcpy_store_cpu_id,
 * rseqgo_v1_cs_load_cbne_memcpy_store_mm_cid,
 * rseqgo_v1_cs_load_cbne_memcpy_store_release_cpu_id and
 * rseqgo_v1_cs_load_cbne_memcpy_store_release_mm_cid.
 *
 * In: index w0, v x1, expect x2, dst x3, src x4, len x5, newv x6, i x7. src is read
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

/* spin. In: flag x0, limit x1, area x2, descriptor x3. */
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
