struct area {
	unsigned int cpu_id_start, cpu_id;
	unsigned long rseq_cs;
};

/* The layout of type rseq.Cells. */
struct c_cells {
	long *base;
	long n;
	unsigned long stride;
};

enum { C_ADD_INLINE, C_ADD_CALL, C_LIST_INLINE, C_LIST_CALL };

void c_loop(int what, char *area, struct c_cells *c, void *nodes, long n);
