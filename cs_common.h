/* SPDX-License-Identifier: MIT
 *
 * What the files cs_<arch>.s and .S share: the operations, in their order there, and macros for
 * GNU as. Each includes it behind the constants of its architecture, cs_<arch>.h. It is
 * named .h so that the go command sees when it changes.
 *
 * Operations on an index i that the caller gives: the methods of type Index, whose
 * documentation has the pseudocode (index.go). The first argument is the kind of index.
 *
 *	Status load_cbne_store(index, int64_t *v, expect, newv, int64_t i)
 *	Status load_add_store(index, int64_t *v, count, i)
 *	(int64_t load, Status) load_cbeq_store_add_load_store(index, int64_t *v, expectnot,
 *		uintptr_t voffp, i)
 *	Status load_add_load_load_add_store(index, uintptr_t *ptr, off, int64_t inc, i)
 *	Status load_cbne_load_cbne_store(index, int64_t *v, expect, int64_t *v2, expect2,
 *		newv, i)
 *	Status load_cbne_store_store(index, int64_t *v, expect, int64_t *v2, newv2, newv, i)
 *	Status load_cbne_memcpy_store(index, int64_t *v, expect, void *dst, const void *src,
 *		size_t len, newv, i)
 *
 * and the last two with a store that releases, load_cbne_store_store_release and
 * load_cbne_memcpy_store_release.
 *
 * Operations on the index i that the thread has. Their structs are those of Go; the
 * offsets are in internal/abi. slow is the slow path, a Go function; status, which is zero
 * in a call, tells it why. A list of n blocks whose n is not above i takes it too.
 *
 *	Status add(struct cells *cells, int64_t delta)
 *		if (i >= cells->n) return OUT_OF_RANGE
 *		*(cells->base + i * cells->stride) += delta
 *
 *	void count(struct counter *counter, int64_t delta, slow)
 *		if (i >= counter->n) return slow()
 *		*(counter->base + i * counter->stride) += delta
 *
 *	void count_float(struct counter *counter, double delta, slow)
 *		as count, for words that are doubles; delta comes as its bits
 *
 *	void observe(struct histogram *h, uintptr_t bucket, double v, slow)
 *		if (i >= h->n || h->state != WORDS_OPEN) return slow()
 *		b = h->base + i * h->stride + bucket
 *		n = b->count
 *		b->sums[(n + 1) % 2] = b->sums[n % 2] + v
 *		b->count = n + 1	// the sum of n + 1 is current from now on
 *
 *	bool read_lock(struct rwmutex *lock, int64_t delta, slow)	delta is 1 or -1
 *		w = lock->words
 *		if (!w || i >= w->n || w->state != WORDS_OPEN) return slow()
 *		*(w->base + i * w->stride + (delta < 0 ? 0 : 8)) += delta
 *		return true
 *
 *	bool push(struct list *list, uint64_t v, slow, uint32_t status)
 *		b = list->blocks[i]
 *		if (b->count == b->cap) return slow(COMPARE_FAILED)
 *		b->items[b->count] = v
 *		b->count++
 *		return true
 *
 *	(uint64_t v, bool) pop(struct list *list, slow, uint32_t status)
 *		b = list->blocks[i]
 *		if (b->count == 0) return slow(COMPARE_FAILED)
 *		v = b->items[b->count - 1]
 *		b->count--
 *		return v, true
 *
 *	size_t push_batch(struct list *list, const uint64_t *v, size_t n, slow, status)
 *		b = list->blocks[i]
 *		n = min(n, b->cap - b->count)
 *		if (n == 0) return slow(COMPARE_FAILED)
 *		memcpy(b->items + b->count, v, n * 8)
 *		b->count += n
 *		return n
 *
 *	size_t pop_batch(struct list *list, uint64_t *v, size_t n, slow, status)
 *		b = list->blocks[i]
 *		n = min(n, b->count)
 *		if (n == 0) return slow(COMPARE_FAILED)
 *		for (k = 0; k < n; k++) v[k] = b->items[b->count - 1 - k]
 *		b->count -= n
 *		return n
 *
 * A section for the live check and the tests, with C's calling convention; it commits
 * nothing:
 *
 *	int spin(const volatile uint32_t *flag, uint64_t limit, struct rseqgo_area *area,
 *		const void *descriptor)
 *		for (; limit; limit--)
 *			if (*flag) return SPIN_SAW_FLAG
 *		return SPIN_EXHAUSTED
 */

/* The fields of the area that hold the kinds of index. */
	.set	RSEQ_INDEX_cpu_id, RSEQ_CPU_ID
	.set	RSEQ_INDEX_mm_cid, RSEQ_MM_CID
	.set	RSEQ_INDEX_node_id, RSEQ_NODE_ID	/* for the readers only */

/* BOTH makes an operation's two functions, rseqgo_v1_cs_<op>_cpu_id and
 * rseqgo_v1_cs_<op>_mm_cid, and the word rseqgo_v1_portable_<op>. Go calls the first
 * function, which jumps to the second if the index is mm_cid; of add Go calls both. */
	.macro	BOTH macro, op
	PORTABLE \op
	\macro	\op, rseqgo_v1_cs_\op\()_cpu_id, cpu_id, rseqgo_v1_cs_\op\()_mm_cid
	\macro	\op, rseqgo_v1_cs_\op\()_mm_cid, mm_cid
	.endm

/* READERS makes rseqgo_v1_read_cpu_id, rseqgo_v1_read_node_id, rseqgo_v1_read_mm_cid and
 * rseqgo_v1_read_index, which jumps to rseqgo_v1_read_index_mm_cid, for the registers of the
 * first two arguments. */
	.macro	READERS first, second
	PORTABLE read
	READER	read, read_cpu_id, cpu_id, \first
	READER	read, read_node_id, node_id, \first
	READER	read, read_mm_cid, mm_cid, \first
	PORTABLE read_index
	READER	read_index, read_index, cpu_id, \second, rseqgo_v1_read_index_mm_cid
	READER	read_index, read_index_mm_cid, mm_cid, \second
	.endm

/* PORTABLE makes rseqgo_v1_portable_<op>: zero, or a Go function with the operation's
 * signature, to which an operation with a closed gate jumps before it looks at an
 * argument. Package rseq sets it if the compiler has another calling convention. */
	.macro	PORTABLE op
	.pushsection .bss
	.balign	8
	.type	rseqgo_v1_portable_\op, STT_OBJECT
	HIDDEN	rseqgo_v1_portable_\op
	.zero	8
	.size	rseqgo_v1_portable_\op, 8
	.popsection
	.endm

/* The gate of this program or library, type Gate of internal/section. */
	.bss
	.balign	8
	.type	rseqgo_v1_gate, STT_OBJECT
	.globl	rseqgo_v1_gate
	.hidden	rseqgo_v1_gate
rseqgo_v1_gate:
	.zero	GATE_SIZE
	.size	rseqgo_v1_gate, GATE_SIZE

/* DESCRIPTOR makes <name>_descriptor, the struct rseq_cs that the kernel reads, and its
 * entry in the array that debuggers and emulators read. */
	.macro	DESCRIPTOR name
	.pushsection __rseq_cs, "aw"
	.balign	RSEQ_CS_ALIGN
	.type	\name\()_descriptor, STT_OBJECT
	HIDDEN	\name\()_descriptor
	.org	\name\()_descriptor + RSEQ_CS_START_IP	/* version, flags: 0 */
	.quad	\name\()_start
	.org	\name\()_descriptor + RSEQ_CS_POST_COMMIT_OFFSET
	.quad	\name\()_commit - \name\()_start
	.org	\name\()_descriptor + RSEQ_CS_ABORT_IP
	.quad	\name\()_abort
	.org	\name\()_descriptor + RSEQ_CS_SIZE
	.size	\name\()_descriptor, . - \name\()_descriptor
	.popsection
	.pushsection __rseq_cs_ptr_array, "aw"
	.balign	8
	.quad	\name\()_descriptor
	.popsection
	.endm

/* EXIT_POINT makes the entry, for debuggers and emulators, of a jump out of the section
 * name to label. */
	.macro	EXIT_POINT name, label
	.pushsection __rseq_exit_point_array, "aw"
	.balign	8
	.quad	\name\()_start, \label
	.popsection
	.endm

/* HIDDEN makes a symbol that only this program or library sees. */
	.macro	HIDDEN name
	.globl	\name
	.hidden	\name
\name:
	.endm

/* FUNCTION and END_FUNCTION enclose a function that does not use the stack. */
	.macro	FUNCTION name
	.text
	.balign	64
	.type	\name, STT_FUNC
	HIDDEN	\name
	.cfi_startproc
	.endm

	.macro	END_FUNCTION name
	.cfi_endproc
	.size	\name, . - \name
	.endm

/* The length of INJECT's delay at each point, in rounds. */
	.ifdef	RSEQGO_INJECT
	.bss
	.balign	4
	.type	rseqgo_v1_inject, STT_OBJECT
	HIDDEN	rseqgo_v1_inject
	.zero	4 * 7
	.size	rseqgo_v1_inject, 4 * 7
	.endif

/* The stack need not be executable. */
	.section .note.GNU-stack, "", %progbits
