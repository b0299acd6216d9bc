//go:build linux && !android && cgo && !purego && (amd64 || arm64)

/* SPDX-License-Identifier: MIT
 *
 * Sections of package rseq as functions for C. They are the package's own: this program
 * names them as they are in this version, another may have others. A section follows Go's
 * register convention: see the first lines of cs_amd64.s and cs_arm64.s. Its first
 * argument is 0 for an index that is a CPU number. Of the registers that C keeps these two
 * sections change rbx. */

	.macro	BEGIN_FUNCTION name
	.text
	.balign	4
	.globl	\name
	.hidden	\name
	.type	\name, STT_FUNC
\name:
	.cfi_startproc
	.endm

	.macro	END_FUNCTION name
	.cfi_endproc
	.size	\name, . - \name
	.endm

#if defined(__x86_64__)

/* CALL_SECTION calls a section with four arguments of C's, and keeps the fifth at (%rsp). */
	.macro	CALL_SECTION section
	.hidden	\section
	pushq	%rbx
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset rbx, 0
	subq	$16, %rsp
	.cfi_adjust_cfa_offset 16
	movq	%r8, (%rsp)
	movq	%rdi, %rbx
	movq	%rdx, %rdi
	movq	%rcx, %rdx
	movq	%rsi, %rcx
	movq	%rdx, %rsi
	xorl	%eax, %eax
	call	\section
	.endm

	.macro	RETURN_TO_C
	addq	$16, %rsp
	.cfi_adjust_cfa_offset -16
	popq	%rbx
	.cfi_adjust_cfa_offset -8
	.cfi_restore rbx
	ret
	.endm

	BEGIN_FUNCTION	section_take
	CALL_SECTION	rseqgo_v1_cs_load_cbeq_store_add_load_store_cpu_id
	movq	(%rsp), %rdx
	movq	%rax, (%rdx)
	movl	%ebx, %eax
	RETURN_TO_C
	END_FUNCTION	section_take

	BEGIN_FUNCTION	section_give
	CALL_SECTION	rseqgo_v1_cs_load_cbne_store_cpu_id
	RETURN_TO_C
	END_FUNCTION	section_give

#elif defined(__aarch64__)

/* CALL_SECTION calls a section with four arguments of C's, and keeps the fifth at [sp, #16]. */
	.macro	CALL_SECTION section
	.hidden	\section
	stp	x29, x30, [sp, #-32]!
	.cfi_def_cfa_offset 32
	.cfi_rel_offset x29, 0
	.cfi_rel_offset x30, 8
	mov	x29, sp
	str	x4, [sp, #16]
	mov	x4, x3
	mov	x3, x2
	mov	x2, x1
	mov	x1, x0
	mov	w0, #0
	bl	\section
	.endm

	.macro	RETURN_TO_C
	ldp	x29, x30, [sp], #32
	.cfi_restore x29
	.cfi_restore x30
	.cfi_def_cfa_offset 0
	ret
	.endm

	BEGIN_FUNCTION	section_take
	CALL_SECTION	rseqgo_v1_cs_load_cbeq_store_add_load_store_cpu_id
	ldr	x4, [sp, #16]
	str	x0, [x4]
	mov	w0, w1
	RETURN_TO_C
	END_FUNCTION	section_take

	BEGIN_FUNCTION	section_give
	CALL_SECTION	rseqgo_v1_cs_load_cbne_store_cpu_id
	RETURN_TO_C
	END_FUNCTION	section_give

#endif

/* The stack need not be executable. */
	.section .note.GNU-stack, "", %progbits
