//go:build linux && !android && cgo && !purego
/* SPDX-License-Identifier: MIT
 *
 * Critical sections for riscv64, in the order of cs_amd64.s, which has the story.
 *
 * Calling convention: Go's ABIInternal. The arguments are in x10 to x17 (a0 to a7), x8, x9
 * (s0, s1), x18 to x23 (s2 to s7) and the results in the same; x26 (s10) is the context of a
 * closure call. x2 (sp), x3 (gp), x4 (tp), x27 (s11, Go's g) and x1 (ra), by which a section
 * returns, stay as they are. The first register that changes is x31 (t6): Go's assembler
 * and linker may change that at any call, so it is nobody's argument under any convention.
 *
 * t6 is the area, t0 scratch, and t1 to t5 and s8 are free. All jumps to a register are by
 * t6: a processor takes one by ra or t0 for a return. The loads that a comparison follows
 * acquire, by a fence, so that a lock can be taken so.
 *
 * Without relaxation and compressed instructions the linker changes nothing, and what
 * stands in front of an abort handler is at an address that the kernel reads in one piece.
 */
	.option	norelax
	.option	norvc
	.include "cs_riscv64.h"
	.include "cs_common.h"

/* convention(a, b, ..., p) returns (b+1, c+2, ..., p+15, a+16): all sixteen argument and
 * result registers. Nothing else but t6 is touched, so that calling it is safe under
 * any convention. */
	FUNCTION rseqgo_v1_convention
	mv	t6, a0
	addi	a0, a1, 1
	addi	a1, a2, 2
	addi	a2, a3, 3
	addi	a3, a4, 4
	addi	a4, a5, 5
	addi	a5, a6, 6
	addi	a6, a7, 7
	addi	a7, s0, 8
	addi	s0, s1, 9
	addi	s1, s2, 10
	addi	s2, s3, 11
	addi	s3, s4, 12
	addi	s4, s5, 13
	addi	s5, s6, 14
	addi	s6, s7, 15
	addi	s7, t6, 16
	.ifdef	RSEQGO_WRONG_CONVENTION	/* for a test */
	mv	a0, a1
	.endif
	ret
	END_FUNCTION rseqgo_v1_convention

/* OPEN makes t6 the area, or leaves for the portable function or the slow path if the
 * word of the gate is zero. */
	.macro	OPEN name, word
	ld	t6, rseqgo_v1_gate + \word
	beqz	t6, .L\name\()_closed
	add	t6, t6, tp
	.endm

/* CLOSED is where OPEN leaves for. */
	.macro	CLOSED op, name
.L\name\()_closed:
	ld	t6, rseqgo_v1_portable_\op
	beqz	t6, .L\name\()_unregistered
	jr	t6
	.endm

/* SLOW calls the function value slow, an argument, in place of this operation and with
 * its arguments, but for slow itself: that is now this program's or library's gate. */
	.macro	SLOW slow
	mv	s10, \slow
	lla	\slow, rseqgo_v1_gate
	ld	t6, (s10)
	jr	t6
	.endm

/* int32_t read(slow), the readers of a field, and int32_t read_index(index, slow), whose
 * first argument says which kind of index:
 *
 *	if (area->cpu_id < 0) return slow(...)
 *	return area->field
 *
 * mm_cid and node_id are right only in the area of a registered thread. in: slow a0, or
 * index a0 and slow a1. */
	.macro	READER op, name, field, slow, other
	FUNCTION rseqgo_v1_\name
	OPEN	\name, GATE_READ_\field
	.ifnb	\other
	andi	t0, a0, 0xff
	bnez	t0, \other
	.endif
	lw	t0, RSEQ_CPU_ID(t6)
	bltz	t0, .L\name\()_unregistered
	.ifnc	\field, cpu_id
	lw	t0, RSEQ_INDEX_\field(t6)
	.endif
	mv	a0, t0
	ret
	CLOSED	\op, \name
.L\name\()_unregistered:
	SLOW	\slow
	END_FUNCTION rseqgo_v1_\name
	.endm
	READERS a0, a1

/* INJECT is a delay loop for the tests, nothing in a normal build: so many rounds
 * as a word says, or until that turns zero. It clobbers s2 to s4. */
	.macro	INJECT point
	.ifdef	RSEQGO_INJECT
	lla	s2, rseqgo_v1_inject + 4 * \point
	lw	s3, (s2)
881:	lw	s4, (s2)
	beqz	s4, 882f
	addiw	s3, s3, -1
	bnez	s3, 881b
882:
	.endif
	.endm

/* REGISTERED leaves if the thread is not: an unregistered area's mm_cid is 0, as
 * a registered one's may be. */
	.macro	REGISTERED name
	lw	t0, RSEQ_CPU_ID(t6)
	bltz	t0, .L\name\()_unregistered
	EXIT_POINT \name, .L\name\()_unregistered
	.endm

/* START starts the section; a thread whose index is not i leaves for elsewhere, with the
 * thread's in t0. */
	.macro	START name, index, i, elsewhere
	lla	t0, \name\()_descriptor
	INJECT	1
	sd	t0, RSEQ_RSEQ_CS(t6)
	HIDDEN	\name\()_start
	INJECT	2
	.ifc	\index, mm_cid
	REGISTERED \name
	.endif
	lw	t0, RSEQ_INDEX_\index(t6)
	bne	t0, \i, \elsewhere
	EXIT_POINT \name, \elsewhere
	INJECT	3
	.endm

/* ENTER begins an operation that names its index, in the 64 bits of i, and whose first
 * argument, the lowest byte of a0, says which kind that is: 0 for cpu_id, 1 for mm_cid. An
 * index that cannot be leaves before the section starts. */
	.macro	ENTER name, index, other, i
	FUNCTION \name
	OPEN	\name, GATE_CS_\index
	.ifnb	\other
	andi	t0, a0, 0xff
	bnez	t0, \other
	.endif
	ld	t0, rseqgo_v1_gate + GATE_POSSIBLE
	bgeu	\i, t0, .L\name\()_range
	START	\name, \index, \i, .L\name\()_elsewhere
	.endm

/* COMPARE_FAILS is the exit of the branches just before it. */
	.macro	COMPARE_FAILS name
	EXIT_POINT \name, .L\name\()_compare_failed
	.set	.L\name\()_compares, 1
	.endm

/* COMMIT stands behind the committing store and ends the function; the status goes to
 * the register result. */
	.macro	COMMIT op, name, index, result=a0
	HIDDEN	\name\()_commit
	INJECT	6
	li	\result, DONE
	ret
	.ifdef	.L\name\()_compares
.L\name\()_compare_failed:
	li	\result, COMPARE_FAILED
	ret
	.endif
.L\name\()_elsewhere:
	.ifc	\index, cpu_id
	bltz	t0, .L\name\()_unregistered
	.endif
	li	\result, RACED
	ret
	CLOSED	\op, \name
.L\name\()_unregistered:
	li	\result, NOT_REGISTERED
	ret
.L\name\()_range:
	beqz	t0, .L\name\()_unregistered /* not set yet: loads may be reordered */
	li	\result, OUT_OF_RANGE
	ret
	SIGNATURE
	HIDDEN	\name\()_abort
	li	\result, RACED
	ret
	END_FUNCTION \name
	DESCRIPTOR \name
	.endm

/* SIGNATURE is RSEQ_SIG, csrw mhartid, zero (glibc's bits/rseq.h for riscv). */
	.macro	SIGNATURE
	.4byte	RSEQ_SIG
	.endm

/* ACQUIRE loads the word at v: what is loaded and stored after it comes after it. */
	.macro	ACQUIRE to, v:vararg
	ld	\to, \v
	fence	r, rw
	.endm

/* RELEASE stores to the word at v: what was loaded and stored before it comes before it. */
	.macro	RELEASE from, v:vararg
	fence	rw, w
	sd	\from, \v
	.endm

/* CBNE leaves if the word at v, which it loads with acquire, is not expect. */
	.macro	CBNE name, v, expect
	ACQUIRE	t0, (\v)
	bne	t0, \expect, .L\name\()_compare_failed
	COMPARE_FAILS \name
	.endm

/* OWN begins an operation on the thread's own index: struct is a register that points to
 * what has its number of indexes at n: a0, or one that gets the word at offset at behind
 * a0; zero there is _compare_failed. Refused, or beyond the number, it leaves. Where it
 * is interrupted it starts again, at _again. t1 is the index, and t3 what it counts from;
 * tries, if no argument counts the tries, is a register for that. */
	.macro	OWN name, index, n, tries, struct=a0, at
	FUNCTION \name
	OPEN	\name, GATE_CS_\index
	.ifnb	\at
	ld	\struct, \at(a0)	/* what it points to is loaded through it: ordered */
	beqz	\struct, .L\name\()_compare_failed
	.endif
	.ifnb	\tries
	li	\tries, 0
	.endif
.L\name\()_again:
	lwu	t1, RSEQ_INDEX_\index(t6)
	.ifc	\index, cpu_id		/* negative where the thread is not registered: */
	.ifb	\at			/* beyond any n, too, where that is told nobody */
	sext.w	t0, t1
	bltz	t0, .L\name\()_unregistered
	.endif
	.endif
	ld	t2, \n(\struct)
	bge	t1, t2, .L\name\()_beyond	/* signed: n may be negative */
	ld	t3, (\struct)
	.endm

/* LEAVE ends an operation on the thread's own index that did not happen: with a status
 * if there is a register for it, by the slow path if there is one. */
	.macro	LEAVE status, result, slow
	.ifnb	\result
	li	\result, \status
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
	.macro	LEAVES op, name, tries, result, slow, other, struct=a0
.L\name\()_beyond:
	.ifnb	\other
	ld	t2, OWN_N_MM_CID(\struct)
	bnez	t2, \other
	.endif
	LEAVE	OUT_OF_RANGE, \result, \slow
	CLOSED	\op, \name
.L\name\()_unregistered:
	LEAVE	NOT_REGISTERED, \result, \slow
	SIGNATURE
	HIDDEN	\name\()_abort
	addiw	\tries, \tries, 1
	li	t0, TRIES
	bltu	\tries, t0, .L\name\()_again
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
 * in: cells a0, delta a1, slow a2; t3 the word's address, from before the section
 * starts. a5 counts the tries. The sd commits. */
	.macro	ADD_OWN name, index, n
	OWN	\name, \index, \n, a5
	ld	t2, CELLS_STRIDE(a0)
	mul	t2, t1, t2
	add	t3, t3, t2
	START	\name, \index, t1, \name\()_abort
	ld	t0, (t3)
	add	t0, t0, a1
	INJECT	4
	sd	t0, (t3)
	HIDDEN	\name\()_commit
	INJECT	6
	.endm
	.macro	OP_ADD op, name, index, other
	ADD_OWN	\name, \index, OWN_N
	li	a0, DONE
	ret
	LEAVES	\op, \name, a5, a0
	.endm
	BOTH	OP_ADD, add

	.macro	OP_COUNT op, name, index, other
	.ifnb	\other
	ADD_OWN	\name, \index, OWN_N
	.else
	ADD_OWN	\name, \index, OWN_N_MM_CID
	.endif
	ret
	LEAVES	\op, \name, a5, , a2, \other
	.endm
	BOTH	OP_COUNT, count

/* bool read_lock(struct rwmutex *lock, int64_t delta, slow)
 *
 *	r = lock->readers
 *	if (!r || r->state != READERS_OPEN) return slow()
 *	*(r->base + i * r->stride + (delta < 0 ? 0 : 8)) += delta
 *	return true
 *
 * in: lock a0, delta a1, which is 1 or -1, slow a2; r t4, t3 the word's address, as in add. a5 counts the
 * tries. State is loaded inside the section, and acquires: after it was changed and all
 * CPUs were fenced no section adds any more. The sd commits. */
	.macro	OP_READ_LOCK op, name, index, other
	.ifnb	\other
	OWN	\name, \index, OWN_N, a5, t4, LOCK_READERS
	.else
	OWN	\name, \index, OWN_N_MM_CID, a5, t4, LOCK_READERS
	.endif
	ld	t2, CELLS_STRIDE(t4)
	mul	t2, t1, t2
	add	t3, t3, t2
	slli	t2, a1, 2
	addi	t2, t2, 4
	add	t3, t3, t2
	START	\name, \index, t1, \name\()_abort
	ACQUIRE	t0, READERS_STATE(t4)
	li	t2, READERS_OPEN
	bne	t0, t2, .L\name\()_compare_failed
	COMPARE_FAILS \name
	ld	t0, (t3)
	add	t0, t0, a1
	INJECT	4
	sd	t0, (t3)
	HIDDEN	\name\()_commit
	INJECT	6
	li	a0, 1
	ret
.L\name\()_compare_failed:
	SLOW	a2
	LEAVES	\op, \name, a5, , a2, \other, t4
	.endm
	BOTH	OP_READ_LOCK, read_lock

/* LIST starts an operation on a list: t4 becomes the block of the thread's own index
 * and t5 its count. Both are loaded inside the section: after another block was
 * published and the CPU fenced no section uses the old one. */
	.macro	LIST name, index, other
	.ifnb	\other
	OWN	\name, \index, OWN_N
	.else
	OWN	\name, \index, OWN_N_MM_CID
	.endif
	slli	t2, t1, 3
	add	t3, t3, t2
	START	\name, \index, t1, \name\()_abort
	ACQUIRE	t4, (t3)
	ld	t5, BLOCK_COUNT(t4)
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
 * in: list a0, v a1, slow a2, status a3. The sd to count commits. */
	.macro	OP_PUSH op, name, index, other
	LIST	\name, \index, \other
	ld	t2, BLOCK_CAP(t4)
	bgeu	t5, t2, .L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	slli	t3, t5, 3
	add	t3, t3, t4
	sd	a1, BLOCK_ITEMS(t3)
	addi	t5, t5, 1
	INJECT	5
	sd	t5, BLOCK_COUNT(t4)
	HIDDEN	\name\()_commit
	INJECT	6
	li	a0, 1
	LISTED	\op, \name, a2, a3, \other
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
 * in: list a0, slow a1, status a2; v s8. The sd to count commits. */
	.macro	OP_POP op, name, index, other
	LIST	\name, \index, \other
	beqz	t5, .L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	addi	t5, t5, -1
	slli	t3, t5, 3
	add	t3, t3, t4
	ld	s8, BLOCK_ITEMS(t3)
	INJECT	5
	sd	t5, BLOCK_COUNT(t4)
	HIDDEN	\name\()_commit
	INJECT	6
	mv	a0, s8
	li	a1, 1
	LISTED	\op, \name, a1, a2, \other
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
 * in: list a0, v a1, n a2, slow a3, status a4; the new n s8, t3 where it copies to, t1
 * from, up to t2. v is read inside the section. The sd to count commits. */
	.macro	OP_PUSH_BATCH op, name, index, other
	LIST	\name, \index, \other
	ld	s8, BLOCK_CAP(t4)
	sub	s8, s8, t5
	bltu	s8, a2, 1f
	mv	s8, a2
1:	beqz	s8, .L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	slli	t3, t5, 3
	add	t3, t3, t4
	mv	t1, a1
	slli	t2, s8, 3
	add	t2, t2, a1
1:	ld	t0, (t1)
	sd	t0, BLOCK_ITEMS(t3)
	addi	t1, t1, 8
	addi	t3, t3, 8
	bltu	t1, t2, 1b
	add	t5, t5, s8
	INJECT	5
	sd	t5, BLOCK_COUNT(t4)
	HIDDEN	\name\()_commit
	INJECT	6
	mv	a0, s8
	LISTED	\op, \name, a3, a4, \other
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
 * in: list a0, v a1, n a2, slow a3, status a4; the new n s8, t3 where it copies from, t1
 * to, up to t2. v is written inside the section. The sd to count commits. */
	.macro	OP_POP_BATCH op, name, index, other
	LIST	\name, \index, \other
	mv	s8, t5
	bltu	s8, a2, 1f
	mv	s8, a2
1:	beqz	s8, .L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	slli	t3, t5, 3
	add	t3, t3, t4
	mv	t1, a1
	slli	t2, s8, 3
	add	t2, t2, a1
1:	ld	t0, BLOCK_ITEMS - 8(t3)
	sd	t0, (t1)
	addi	t3, t3, -8
	addi	t1, t1, 8
	bltu	t1, t2, 1b
	sub	t5, t5, s8
	INJECT	5
	sd	t5, BLOCK_COUNT(t4)
	HIDDEN	\name\()_commit
	INJECT	6
	mv	a0, s8
	LISTED	\op, \name, a3, a4, \other
	.endm
	BOTH	OP_POP_BATCH, pop_batch

/* Status load_cbne_store(index, int64_t *v, expect, newv, int i)
 *
 *	if (*v != expect) return COMPARE_FAILED
 *	*v = newv
 *
 * in: index a0, v a1, expect a2, newv a3, i a4. The sd to v commits. */
	.macro	OP_LOAD_CBNE_STORE op, name, index, other
	ENTER	\name, \index, \other, a4
	CBNE	\name, a1, a2
	INJECT	4
	sd	a3, (a1)
	COMMIT	\op, \name, \index
	.endm
	BOTH	OP_LOAD_CBNE_STORE, load_cbne_store

/* Status load_add_store(index, int64_t *v, count, int i)
 *
 *	*v += count
 *
 * in: index a0, v a1, count a2, i a3. The sd to v commits. */
	.macro	OP_LOAD_ADD_STORE op, name, index, other
	ENTER	\name, \index, \other, a3
	ld	t0, (a1)
	add	t0, t0, a2
	INJECT	4
	sd	t0, (a1)
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
 * in: index a0, v a1, expectnot a2, voffp a3, i a4; results: load a0, status a1. The sd to v
 * commits. */
	.macro	OP_LOAD_CBEQ_STORE_ADD_LOAD_STORE op, name, index, other
	ENTER	\name, \index, \other, a4
	ACQUIRE	a0, (a1)
	beq	a0, a2, .L\name\()_compare_failed
	COMPARE_FAILS \name
	INJECT	4
	add	t0, a0, a3
	ld	t0, (t0)
	INJECT	5
	sd	t0, (a1)
	COMMIT	\op, \name, \index, a1
	.endm
	BOTH	OP_LOAD_CBEQ_STORE_ADD_LOAD_STORE, load_cbeq_store_add_load_store

/* Status load_add_load_load_add_store(index, uintptr_t *ptr, off, int64_t inc,
 *	int i)
 *
 *	p = *(int64_t **)(*ptr + off)
 *	*p += inc
 *
 * in: index a0, ptr a1, off a2, inc a3, i a4. The sd to p commits. */
	.macro	OP_LOAD_ADD_LOAD_LOAD_ADD_STORE op, name, index, other
	ENTER	\name, \index, \other, a4
	ld	t0, (a1)
	INJECT	4
	add	t0, t0, a2
	ld	t1, (t0)
	ld	t0, (t1)
	add	t0, t0, a3
	INJECT	5
	sd	t0, (t1)
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
 * in: index a0, v a1, expect a2, v2 a3, expect2 a4, newv a5, i a6. The sd to v
 * commits. */
	.macro	OP_LOAD_CBNE_LOAD_CBNE_STORE op, name, index, other
	ENTER	\name, \index, \other, a6
	CBNE	\name, a1, a2
	INJECT	4
	CBNE	\name, a3, a4
	INJECT	5
	sd	a5, (a1)
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
 * in: index a0, v a1, expect a2, v2 a3, newv2 a4, newv a5, i a6. The store to v commits:
 * sd, or RELEASE. */
	.macro	LOAD_CBNE_STORE_STORE op, name, index, other, store
	ENTER	\name, \index, \other, a6
	CBNE	\name, a1, a2
	INJECT	4
	sd	a4, (a3)
	INJECT	5
	\store	a5, (a1)
	COMMIT	\op, \name, \index
	.endm
	.macro	OP_LOAD_CBNE_STORE_STORE op, name, index, other
	LOAD_CBNE_STORE_STORE \op, \name, \index, \other, sd
	.endm
	.macro	OP_LOAD_CBNE_STORE_STORE_RELEASE op, name, index, other
	LOAD_CBNE_STORE_STORE \op, \name, \index, \other, RELEASE
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
 * in: index a0, v a1, expect a2, dst a3, src a4, len a5, newv a6, i a7. src is read
 * inside the section. Words are copied only where both are aligned: a load or a store that is
 * not may be done by the firmware, in hundreds of instructions. The store to v commits: sd, or
 * RELEASE. */
	.macro	LOAD_CBNE_MEMCPY_STORE op, name, index, other, store
	ENTER	\name, \index, \other, a7
	CBNE	\name, a1, a2
	INJECT	4
	or	t0, a3, a4
	andi	t0, t0, 7
	bnez	t0, 2f
	li	t1, 8
1:	bltu	a5, t1, 2f
	ld	t0, (a4)		/* words */
	sd	t0, (a3)
	addi	a4, a4, 8
	addi	a3, a3, 8
	addi	a5, a5, -8
	j	1b
2:	beqz	a5, 4f
3:	lbu	t0, (a4)		/* the bytes that are left */
	sb	t0, (a3)
	addi	a4, a4, 1
	addi	a3, a3, 1
	addi	a5, a5, -1
	bnez	a5, 3b
4:	INJECT	5
	\store	a6, (a1)
	COMMIT	\op, \name, \index
	.endm
	.macro	OP_LOAD_CBNE_MEMCPY_STORE op, name, index, other
	LOAD_CBNE_MEMCPY_STORE \op, \name, \index, \other, sd
	.endm
	.macro	OP_LOAD_CBNE_MEMCPY_STORE_RELEASE op, name, index, other
	LOAD_CBNE_MEMCPY_STORE \op, \name, \index, \other, RELEASE
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
 * earnest. in: flag a0, limit a1, area a2, descriptor a3. Nothing commits. */
	FUNCTION rseqgo_v1_cs_spin
	sd	a3, RSEQ_RSEQ_CS(a2)
	HIDDEN	rseqgo_v1_cs_spin_start
1:	lw	t0, (a0)
	bnez	t0, .Lspin_saw
	EXIT_POINT rseqgo_v1_cs_spin, .Lspin_saw
	addi	a1, a1, -1
	bnez	a1, 1b
	HIDDEN	rseqgo_v1_cs_spin_commit
	li	a0, SPIN_EXHAUSTED
	ret
.Lspin_saw:
	li	a0, SPIN_SAW_FLAG
	ret
	SIGNATURE
	HIDDEN	rseqgo_v1_cs_spin_abort
	li	a0, SPIN_ABORTED
	ret
	END_FUNCTION rseqgo_v1_cs_spin
	DESCRIPTOR rseqgo_v1_cs_spin
