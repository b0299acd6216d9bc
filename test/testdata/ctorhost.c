/* Loads the library that the argument names, and prints the owner that its constructor got
 * from Go. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	void *lib = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;

	if (!lib) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	printf("%d\n", ((int (*)(void))dlsym(lib, "ctor_answer"))());
	return 0;
}
