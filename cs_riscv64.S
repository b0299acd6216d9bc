//go:build linux && !android && cgo && !purego
/* SPDX-License-Identifier: MIT
 *
 * Readers and critical sections for riscv64, in the order and with the labels of
 * cs_amd64.s, whose first comment holds here too. This assembler takes no comment that
 * begins with two slashes, so the name ends in .S: the C preprocessor removes the first line.
 *
 * Calling convention: Go's ABIInternal. The arguments are in x10 to x17 (a0 to a7), x8, x9
 * (s0, s1), x18 to x23 (s2 to s7) and the results in the same; x26 (s10) is the context of
 * a closure call. x2 (sp), x3 (gp), x4 (tp), x27 (s11, Go's g) and x1 (ra), by which a
 * function returns, stay as they are. The first register that changes is x31 (t6). Go's
 * assembler and linker may change it in any call, so it holds no argument under any
 * convention.
 *
 * t6 is the area, t0 scratch, and t1 to t5 and s8 are free. Jumps to a register use t6,
 * since processors take one to ra or t0 for a return. A load whose value is compared
 * acquires, so that a section can take a lock.
 *
 * Relaxation and compressed instructions are off. So the linker changes no instruction,
 * and the kernel reads an aligned signature.
 */
	.option	norelax
	.option	norvc
	.include "cs_riscv64.h"
	.include "cs_common.h"

/* convention(a, b, ..., p) returns (b+1, c+2, ..., p+15, a+16): all sixteen argument and
 * result registers. Besides these it changes only t6, so calling it is safe under any
 * convention. */
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

/* OPEN makes t6 the area, and leaves for CLOSED if the word of the gate is zero. Only t6
 * has changed then. */
	.macro	OPEN name, word
	ld	t6, rseqgo_v1_gate + \word
	beqz	t6, .L\name\()_closed
	add	t6, t6, tp
	.endm

/* CLOSED goes on to the portable function if there is one, else to the slow path. */
	.macro	CLOSED op, name
.L\name\()_closed:
	ld	t6, rseqgo_v1_portable_\op
	beqz	t6, .L\name\()_unregistered
	jr	t6
	.endm

/* SLOW jumps to the function value slow, an argument, with this operation's arguments; the
 * gate of this program or library takes the place of slow. */
	.macro	SLOW slow
	mv	s10, \slow
	lla	\slow, rseqgo_v1_gate
	ld	t6, (s10)
	jr	t6
	.endm

/* The readers, of a field: int32_t read(slow), and of an index: int32_t read_index(index,
 * slow), whose first argument is the kind of index. See READERS for the names.
 *
 *	if (area->cpu_id < 0) return slow(...)
 *	return area->field
 *
 * mm_cid and node_id are valid only in the area of a registered thread. In: slow a0, or
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

/* INJECT is a delay loop in a build for tests, and nothing in any other. It takes as many
 * rounds as a word says, or until that becomes zero. It clobbers s2 to s4, in which no
 * operation has an argument. */
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

/* REGISTERED leaves if the thread is unregistered: the mm_cid of its area is 0, as that of
 * a registered thread may be. */
	.macro	REGISTERED name
	lw	t0, RSEQ_CPU_ID(t6)
	bltz	t0, .L\name\()_unregistered
	EXIT_POINT \name, .L\name\()_unregistered
	.endm

/* START starts the section. A thread whose index is not i leaves for elsewhere, with its
 * own in t0. */
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

/* ENTER begins an operation that names its index in the register i. The first argument, in
 * the lowest byte of a0, is the kind of index: 0 for cpu_id, 1 for mm_cid. An index that is
 * not below the number of possible ones leaves before the section starts. */
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

/* COMPARE_FAILS enters the exit of the branches just before it. */
	.macro	COMPARE_FAILS name
	EXIT_POINT \name, .L\name\()_compare_failed
	.set	.L\name\()_compares, 1
	.endm

/* COMMIT stands behind the store that commits, and ends the function. The status goes into
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

/* ACQUIRE loads the word at v. Later loads and stores come after it. */
	.macro	ACQUIRE to, v:vararg
	ld	\to, \v
	fence	r, rw
	.endm

/* RELEASE stores to the word at v. Earlier loads and stores come before it. */
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

/* CURRENT begins an operation on the thread's own index. struct is a register that points
 * to a struct with the number of indexes at offset n: a0, or, with at, a register for the
 * word at that offset behind a0; if that word is zero it leaves for _compare_failed. An
 * index beyond the number leaves. An aborted section starts again at _again. t1 becomes
 * the index, and t3 what it counts from.
 * tries is a register for the number of tries, if no argument counts them. With told=no
 * the slow path is not told why: an unregistered thread, whose index is negative, leaves
 * as one with an index beyond the number does. With grows=yes the number is stored
 * behind the rest of the struct, so it is loaded with acquire. */
	.macro	CURRENT name, index, n, tries, struct=a0, at, told, grows
	FUNCTION \name
	OPEN	\name, GATE_CS_\index
	.ifnb	\at
	ld	\struct, \at(a0)	/* later loads depend on it, so they are ordered */
	beqz	\struct, .L\name\()_compare_failed
	.endif
	.ifnb	\tries
	li	\tries, 0
	.endif
.L\name\()_again:
	lwu	t1, RSEQ_INDEX_\index(t6)
	.ifc	\index, cpu_id
	.ifnc	\told, no
	sext.w	t0, t1
	bltz	t0, .L\name\()_unregistered
	.endif
	.endif
	.ifc	\grows, yes
	ACQUIRE	t2, \n(\struct)
	.else
	ld	t2, \n(\struct)
	.endif
	bge	t1, t2, .L\name\()_beyond	/* signed: n may be negative */
	ld	t3, (\struct)
	.endm

/* LEAVE ends an operation on the thread's own index without effect: with a status if
 * there is a register for it, and by the slow path if there is one. */
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

/* LEAVES has the exits of an operation on the thread's own index, and ends the function.
 * A struct without words for CPUs may have words for concurrency ids; those are for the
 * function other. tries counts the tries. */
	.macro	LEAVES op, name, tries, result, slow, other, struct=a0
.L\name\()_beyond:
	.ifnb	\other
	ld	t2, CURRENT_N_MM_CID(\struct)
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

/* Makes rseqgo_v1_cs_add_cpu_id and rseqgo_v1_cs_add_mm_cid.
 *
 * In: cells a0, delta a1; t3 the word's address, from before the section starts. a5
 * counts the tries. The sd commits. */
	.macro	OP_ADD op, name, index, other
	CURRENT	\name, \index, CURRENT_N, a5
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
	li	a0, DONE
	ret
	LEAVES	\op, \name, a5, a0
	.endm
	BOTH	OP_ADD, add

/* WORDS begins an operation on the words with which the struct at a0 begins: t3 becomes
 * the address of the first word of the thread's own index, as in add. The number of
 * indexes is loaded first; it is zero until there are words. */
	.macro	WORDS name, index, other, tries
	.ifnb	\other
	CURRENT	\name, \index, CURRENT_N, \tries, told=no, grows=yes
	.else
	CURRENT	\name, \index, CURRENT_N_MM_CID, \tries, told=no, grows=yes
	.endif
	ld	t2, CELLS_STRIDE(a0)
	mul	t2, t1, t2
	add	t3, t3, t2
	.endm

/* COMPARE_STATE leaves, inside a section, if the words at the register words are not open.
 * After their state was changed no section begins to write them, and after a fence of all
 * CPUs none still does. The state is loaded with acquire. */
	.macro	COMPARE_STATE name, words
	ACQUIRE	t0, WORDS_STATE(\words)
	li	t2, WORDS_OPEN
	bne	t0, t2, .L\name\()_compare_failed
	COMPARE_FAILS \name
	.endm

/* Makes rseqgo_v1_cs_count_cpu_id and rseqgo_v1_cs_count_mm_cid.
 *
 * In: counter a0, delta a1, slow a2; tries a5. The sd commits. */
	.macro	OP_COUNT op, name, index, other
	WORDS	\name, \index, \other, a5
	START	\name, \index, t1, \name\()_abort
	ld	t0, (t3)
	add	t0, t0, a1
	INJECT	4
	sd	t0, (t3)
	HIDDEN	\name\()_commit
	INJECT	6
	ret
	LEAVES	\op, \name, a5, , a2, \other
	.endm
	BOTH	OP_COUNT, count

/* Makes rseqgo_v1_cs_count_float_cpu_id and rseqgo_v1_cs_count_float_mm_cid.
 *
 * In: counter a0, delta a1, slow a2; tries a5; delta ft0, the sum ft1. The fsd commits. */
	.macro	OP_COUNT_FLOAT op, name, index, other
	WORDS	\name, \index, \other, a5
	fmv.d.x	ft0, a1
	START	\name, \index, t1, \name\()_abort
	fld	ft1, (t3)
	fadd.d	ft1, ft1, ft0
	INJECT	4
	fsd	ft1, (t3)
	HIDDEN	\name\()_commit
	INJECT	6
	ret
	LEAVES	\op, \name, a5, , a2, \other
	.endm
	BOTH	OP_COUNT_FLOAT, count_float

/* Makes rseqgo_v1_cs_observe_cpu_id and rseqgo_v1_cs_observe_mm_cid.
 *
 * In: histogram a0, bucket a1, v a2, slow a3; tries a5; b t3, n t5, in t1 the place of
 * the sum; v ft0, the sum ft1. The sd to count commits, behind a fence. */
	.macro	OP_OBSERVE op, name, index, other
	WORDS	\name, \index, \other, a5
	add	t3, t3, a1
	fmv.d.x	ft0, a2
	START	\name, \index, t1, \name\()_abort
	COMPARE_STATE \name, a0
	ld	t5, BUCKET_COUNT(t3)
	andi	t1, t5, 1
	slli	t1, t1, 3
	add	t1, t1, t3
	fld	ft1, BUCKET_SUMS(t1)
	fadd.d	ft1, ft1, ft0
	addi	t5, t5, 1
	andi	t1, t5, 1
	slli	t1, t1, 3
	add	t1, t1, t3
	INJECT	4
	fence	w, w			/* the count that made this sum old is stored before it */
	fsd	ft1, BUCKET_SUMS(t1)
	INJECT	5
	RELEASE	t5, BUCKET_COUNT(t3)
	HIDDEN	\name\()_commit
	INJECT	6
	ret
.L\name\()_compare_failed:
	SLOW	a3
	LEAVES	\op, \name, a5, , a3, \other
	.endm
	BOTH	OP_OBSERVE, observe

/* Makes rseqgo_v1_cs_read_lock_cpu_id and rseqgo_v1_cs_read_lock_mm_cid.
 *
 * In: lock a0, delta a1, which is 1 or -1, slow a2; w t4, t3 the word's address, as in
 * add. a5 counts the tries. The sd commits. */
	.macro	OP_READ_LOCK op, name, index, other
	.ifnb	\other
	CURRENT	\name, \index, CURRENT_N, a5, t4, LOCK_WORDS, no
	.else
	CURRENT	\name, \index, CURRENT_N_MM_CID, a5, t4, LOCK_WORDS, no
	.endif
	ld	t2, CELLS_STRIDE(t4)
	mul	t2, t1, t2
	add	t3, t3, t2
	slli	t2, a1, 2
	addi	t2, t2, 4
	add	t3, t3, t2
	START	\name, \index, t1, \name\()_abort
	COMPARE_STATE \name, t4
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

/* LIST begins an operation on a list: t4 becomes the block of the thread's own index, and
 * t5 its count. Both are loaded inside the section, so after another block was published
 * and the CPU was fenced no section uses the old one. */
	.macro	LIST name, index, other
	.ifnb	\other
	CURRENT	\name, \index, CURRENT_N
	.else
	CURRENT	\name, \index, CURRENT_N_MM_CID
	.endif
	slli	t2, t1, 3
	add	t3, t3, t2
	START	\name, \index, t1, \name\()_abort
	ACQUIRE	t4, (t3)
	ld	t5, BLOCK_COUNT(t4)
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
 * In: list a0, v a1, slow a2, status a3. The sd to count commits. */
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
	LIST_END	\op, \name, a2, a3, \other
	.endm
	BOTH	OP_PUSH, push

/* Makes rseqgo_v1_cs_pop_cpu_id and rseqgo_v1_cs_pop_mm_cid.
 *
 * In: list a0, slow a1, status a2; v s8. The sd to count commits. */
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
	LIST_END	\op, \name, a1, a2, \other
	.endm
	BOTH	OP_POP, pop

/* Makes rseqgo_v1_cs_push_batch_cpu_id and rseqgo_v1_cs_push_batch_mm_cid.
 *
 * In: list a0, v a1, n a2, slow a3, status a4; the new n s8, t3 where it copies to. v
 * is read inside the section. The sd to count commits. */
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
	LIST_END	\op, \name, a3, a4, \other
	.endm
	BOTH	OP_PUSH_BATCH, push_batch

/* Makes rseqgo_v1_cs_pop_batch_cpu_id and rseqgo_v1_cs_pop_batch_mm_cid.
 *
 * In: list a0, v a1, n a2, slow a3, status a4; the new n s8, t3 where it copies from.
 * v is written inside the section. The sd to count commits. */
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
	LIST_END	\op, \name, a3, a4, \other
	.endm
	BOTH	OP_POP_BATCH, pop_batch

/* Makes rseqgo_v1_cs_load_cbne_store_cpu_id and rseqgo_v1_cs_load_cbne_store_mm_cid.
 *
 * In: index a0, v a1, expect a2, newv a3, i a4. The sd to v commits. */
	.macro	OP_LOAD_CBNE_STORE op, name, index, other
	ENTER	\name, \index, \other, a4
	CBNE	\name, a1, a2
	INJECT	4
	sd	a3, (a1)
	COMMIT	\op, \name, \index
	.endm
	BOTH	OP_LOAD_CBNE_STORE, load_cbne_store

/* Makes rseqgo_v1_cs_load_add_store_cpu_id and rseqgo_v1_cs_load_add_store_mm_cid.
 *
 * In: index a0, v a1, count a2, i a3. The sd to v commits. */
	.macro	OP_LOAD_ADD_STORE op, name, index, other
	ENTER	\name, \index, \other, a3
	ld	t0, (a1)
	add	t0, t0, a2
	INJECT	4
	sd	t0, (a1)
	COMMIT	\op, \name, \index
	.endm
	BOTH	OP_LOAD_ADD_STORE, load_add_store

/* Makes rseqgo_v1_cs_load_cbeq_store_add_load_store_cpu_id and
 * rseqgo_v1_cs_load_cbeq_store_add_load_store_mm_cid.
 *
 * In: index a0, v a1, expectnot a2, voffp a3, i a4; results: load a0, status a1. The sd to v
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

/* Makes rseqgo_v1_cs_load_add_load_load_add_store_cpu_id and
 * rseqgo_v1_cs_load_add_load_load_add_store_mm_cid.
 *
 * In: index a0, ptr a1, off a2, inc a3, i a4. The sd to p commits. */
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

/* Makes rseqgo_v1_cs_load_cbne_load_cbne_store_cpu_id and
 * rseqgo_v1_cs_load_cbne_load_cbne_store_mm_cid.
 *
 * In: index a0, v a1, expect a2, v2 a3, expect2 a4, newv a5, i a6. The sd to v commits. */
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

/* Makes rseqgo_v1_cs_load_cbne_store_store_cpu_id,
 * rseqgo_v1_cs_load_cbne_store_store_mm_cid,
 * rseqgo_v1_cs_load_cbne_store_store_release_cpu_id and
 * rseqgo_v1_cs_load_cbne_store_store_release_mm_cid.
 *
 * In: index a0, v a1, expect a2, v2 a3, newv2 a4, newv a5, i a6. The store to v commits:
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

/* Makes rseqgo_v1_cs_load_cbne_memcpy_store_cpu_id,
 * rseqgo_v1_cs_load_cbne_memcpy_store_mm_cid,
 * rseqgo_v1_cs_load_cbne_memcpy_store_release_cpu_id and
 * rseqgo_v1_cs_load_cbne_memcpy_store_release_mm_cid.
 *
 * In: index a0, v a1, expect a2, dst a3, src a4, len a5, newv a6, i a7. src is read
 * inside the section. It copies words only if both places are aligned: the firmware may
 * have to do a load or a store that is not, in hundreds of instructions. The store to v
 * commits: sd, or RELEASE. */
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

/* spin. In: flag a0, limit a1, area a2, descriptor a3. */
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
