//go:build linux && cgo && (amd64 || arm64)

/* SPDX-License-Identifier: MIT
 *
 * Sections of package rseq as functions for C. They are the package's own: this program
 * names them as they are in this version, another may have others. A section follows Go's ABI0: behind a
 * word for the return address the caller's stack has its arguments, the first of them 0
 * for an index that is a CPU number, and then its results. What C keeps and ABI0 does
 * not is saved here. Nothing is kept below the stack pointer. */

#if defined(__x86_64__)

/* ENTER saves rbx, r12 to r15 and the fifth argument, and calls the section with the
 * other four, which it sees from 16(%rsp) on. That is 112 bytes with the return address:
 * the stack stays aligned. */
	.macro	ENTER name, section
	.text
	.globl	\name
	.hidden	\name, \section
	.type	\name, STT_FUNC
\name:
	.cfi_startproc
	.irp	r, rbx, r12, r13, r14, r15
	pushq	%\r
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset \r, 0
	.endr
	pushq	%r8
	.cfi_adjust_cfa_offset 8
	subq	$56, %rsp
	.cfi_adjust_cfa_offset 56
	movq	$0, (%rsp)
	movq	%rdi, 8(%rsp)
	movq	%rsi, 16(%rsp)
	movq	%rdx, 24(%rsp)
	movq	%rcx, 32(%rsp)
	call	\section
	.endm

	.macro	LEAVE name, status
	movl	\status(%rsp), %eax
	addq	$64, %rsp
	.cfi_adjust_cfa_offset -64
	.irp	r, r15, r14, r13, r12, rbx
	popq	%\r
	.cfi_adjust_cfa_offset -8
	.cfi_restore \r
	.endr
	ret
	.cfi_endproc
	.size	\name, . - \name
	.endm

	ENTER	section_take, rseqgo_v1_cs_load_cbeq_store_add_load_store_cpu_id
	movq	40(%rsp), %rax
	movq	56(%rsp), %rdx		/* the fifth argument */
	movq	%rax, (%rdx)
	LEAVE	section_take, 48

	ENTER	section_give, rseqgo_v1_cs_load_cbne_store_cpu_id
	LEAVE	section_give, 40

#elif defined(__aarch64__)

/* ENTER saves x19 to x30, d8 to d15 and the fifth argument, and calls the section with
 * the other four, from 16(sp) on: 0(sp) is the section's. */
	.macro	ENTER name, section
	.text
	.balign	4
	.globl	\name
	.hidden	\name, \section
	.type	\name, STT_FUNC
\name:
	.cfi_startproc
	sub	sp, sp, #240
	.cfi_def_cfa_offset 240
	stp	x29, x30, [sp, #64]
	.cfi_rel_offset x29, 64
	.cfi_rel_offset x30, 72
	add	x29, sp, #64
	KEPT	stp
	str	x4, [sp, #80]
	str	xzr, [sp, #8]
	stp	x0, x1, [sp, #16]
	stp	x2, x3, [sp, #32]
	bl	\section
	.endm

	.macro	LEAVE name, status
	ldr	w0, [sp, #\status]
	KEPT	ldp
	ldp	x29, x30, [sp, #64]
	add	sp, sp, #240
	.cfi_restore x29
	.cfi_restore x30
	.cfi_def_cfa_offset 0
	ret
	.cfi_endproc
	.size	\name, . - \name
	.endm

	.macro	KEPT op
	\op	x19, x20, [sp, #96]
	\op	x21, x22, [sp, #112]
	\op	x23, x24, [sp, #128]
	\op	x25, x26, [sp, #144]
	\op	x27, x28, [sp, #160]
	\op	d8, d9, [sp, #176]
	\op	d10, d11, [sp, #192]
	\op	d12, d13, [sp, #208]
	\op	d14, d15, [sp, #224]
	.endm

	ENTER	section_take, rseqgo_v1_cs_load_cbeq_store_add_load_store_cpu_id
	ldr	x1, [sp, #48]
	ldr	x4, [sp, #80]		/* the fifth argument */
	str	x1, [x4]
	LEAVE	section_take, 56

	ENTER	section_give, rseqgo_v1_cs_load_cbne_store_cpu_id
	LEAVE	section_give, 48

#endif

/* The stack need not be executable. */
	.section .note.GNU-stack, "", %progbits
