#include "_cgo_export.h"

static int owner = -1;

__attribute__((constructor)) static void ask_go(void)
{
	owner = ctorOwner();
}

int ctor_answer(void)
{
	return owner;
}
