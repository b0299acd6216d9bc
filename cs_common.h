/* SPDX-License-Identifier: MIT
 *
 * What cs_amd64.s and cs_arm64.s share; they include it behind the constants
 * of their architecture, GNU as reads it. It is named .h so that the go command
 * sees when it changes. */

/* The fields that the kinds of index are named after. */
	.set	RSEQ_INDEX_cpu_id, RSEQ_CPU_ID
	.set	RSEQ_INDEX_mm_cid, RSEQ_MM_CID
	.set	RSEQ_INDEX_node_id, RSEQ_NODE_ID	/* for the readers alone */

/* BOTH makes an operation's two functions, rseqgo_v1_cs_<op>_cpu_id and
 * rseqgo_v1_cs_<op>_mm_cid, and its PORTABLE word. Go calls the first, which jumps to
 * the second where the index is mm_cid. */
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

/* PORTABLE defines rseqgo_v1_portable_<op>: zero, or the Go function with the
 * operation's own signature that the section jumps to before it looks at an argument.
 * Package rseq sets it where the convention check failed. */
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

/* DESCRIPTOR defines the struct rseq_cs of the section name, which the kernel
 * reads, and enters it in the array that debuggers and emulators read. */
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

/* EXIT_POINT says that the section name can be left by a jump to label. */
	.macro	EXIT_POINT name, label
	.pushsection __rseq_exit_point_array, "aw"
	.balign	8
	.quad	\name\()_start, \label
	.popsection
	.endm

/* HIDDEN defines a symbol for this program or library alone. */
	.macro	HIDDEN name
	.globl	\name
	.hidden	\name
\name:
	.endm

/* FUNCTION and END_FUNCTION enclose a function that uses no stack. */
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

/* How long INJECT's delay at each point is; see there. */
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
