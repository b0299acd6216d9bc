/* Includes the C files with the functions that they call replaced, so that a signal, a fork
 * or a limit comes at a chosen moment. The argument names the case. Prints nothing and
 * returns 0 if all is right. The C library registers nothing: its tunable is off. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static long hooked_syscall(long number, long a, long b, long c, long d, ...);
static int hooked_prctl(int option, ...);
static int hooked_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
				 void *(*run)(void *), void *arg);
static int hooked_pthread_setspecific(pthread_key_t key, const void *value);
static pid_t hooked_waitpid(pid_t pid, int *status, int options);

/* Each call gets four arguments after the number. */
#define syscall(number, ...) hooked_syscall(number, ##__VA_ARGS__, 0L, 0L, 0L, 0L)
#define prctl(option, ...) hooked_prctl(option)
#define pthread_create hooked_pthread_create
#define pthread_setspecific hooked_pthread_setspecific
#define waitpid hooked_waitpid
#define hooked_syscall(number, a, b, c, d, ...) \
	(hooked_syscall)(number, (long)(a), (long)(b), (long)(c), (long)(d))
#include "../../ask.c"
#include "../../glibc.c"
#include "../../own.c"
#include "../../owner.c"
#undef syscall
#undef prctl
#undef pthread_create
#undef pthread_setspecific
#undef waitpid
#undef hooked_syscall

#define CHECK(what)                                                           \
	do {                                                                  \
		if (!(what)) {                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__,      \
				__LINE__, #what);                             \
			exit(1);                                              \
		}                                                             \
	} while (0)

/* What the replaced functions do, if set. */
static int seccomp_mode, seccomp_error, clone_error, create_error, specific_error;
static int child_signal, pretend;
static int clones;			  /* number of child processes */
static void (*before_registering)(void); /* in a thread that is marked as busy */
static void (*after_unregistering)(void);
static void (*before_creating)(void); /* of another thread, by the deciding one */

static long(hooked_syscall)(long number, long a, long b, long c, long d, ...)
{
	long r;

	if (number == SYS_clone) {
		clones++;
		if (clone_error) {
			errno = clone_error;
			return -1;
		}
	}
	if (number == RSEQGO_NR_RSEQ && pretend)
		return 0;
	r = syscall(number, a, b, c, d, 0L);
	if (number == RSEQGO_NR_RSEQ && !r && c == RSEQGO_FLAG_UNREGISTER && after_unregistering)
		after_unregistering();
	return r;
}

static int hooked_prctl(int option, ...)
{
	if (option != PR_GET_SECCOMP)
		return 0;
	if (seccomp_error) {
		errno = seccomp_error;
		return -1;
	}
	return seccomp_mode;
}

static int hooked_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
				 void *(*run)(void *), void *arg)
{
	if (before_creating)
		before_creating();
	return create_error ? create_error : pthread_create(thread, attr, run, arg);
}

static int hooked_pthread_setspecific(pthread_key_t key, const void *value)
{
	if (value && before_registering)
		before_registering();
	return specific_error ? specific_error : pthread_setspecific(key, value);
}

static pid_t hooked_waitpid(pid_t pid, int *status, int options)
{
	pid_t got = waitpid(pid, status, options);

	if (child_signal)
		*status = child_signal;
	return got;
}

static int registered_here(void)
{
	struct rseqgo_registration r = rseqgo_ask(rseqgo_own_offset(), info.len);

	return r.state == RSEQGO_REGISTERED && r.len == info.len;
}

static const struct rseqgo_info *found(void)
{
	return rseqgo_discover();
}

static int handled, answer;

static void ask_in_handler(int signal)
{
	(void)signal;
	handled++;
	answer = rseqgo_register_thread();
}

static void raise_signal(void) /* once */
{
	before_registering = after_unregistering = NULL;
	raise(SIGUSR1);
}

static void handle(void)
{
	struct sigaction action = { .sa_handler = ask_in_handler };

	sigaction(SIGUSR1, &action, NULL);
}

/* A signal handler registers while its thread is being registered. */
static void *busy(void *unused)
{
	(void)unused;
	before_registering = raise_signal;
	CHECK(rseqgo_register_thread() >= 0);
	CHECK(handled == 1 && answer < 0);
	CHECK(registered_here() && rseqgo_cpu_id(found()) >= 0);
	return NULL;
}

/* A signal handler registers while its ending thread is unregistered, and so does a
 * destructor after that. */
static pthread_key_t last;

static void in_destructor(void *again)
{
	if (!handled) { /* the package's destructor has not run yet */
		pthread_setspecific(last, again);
		return;
	}
	CHECK(handled == 1 && answer < 0);
	CHECK(rseqgo_register_thread() < 0);
	CHECK(rseqgo_look(0).state == RSEQGO_UNREGISTERED);
	handled++;
}

static void *finishing(void *unused)
{
	(void)unused;
	CHECK(rseqgo_register_thread() >= 0);
	pthread_setspecific(last, &last);
	after_unregistering = raise_signal;
	return NULL;
}

static void in_thread(void *(*run)(void *))
{
	pthread_t thread;

	CHECK(!pthread_create(&thread, NULL, run, NULL));
	pthread_join(thread, NULL);
}

/* The deciding thread waits until another one has made a step. */
static int step;

static int step_is(int n)
{
	return __atomic_load_n(&step, __ATOMIC_ACQUIRE) >= n;
}

static void to_step(int n)
{
	__atomic_store_n(&step, n, __ATOMIC_RELEASE);
}

static void hold(void)
{
	to_step(1);
	while (!step_is(2))
		usleep(100);
}

static void *decider(void *unused)
{
	(void)unused;
	CHECK(rseqgo_register_thread() >= 0);
	return NULL;
}

static void *refused(void *unused)
{
	(void)unused;
	CHECK(rseqgo_register_thread() < 0 && own_cpu_id() == FAILED);
	return NULL;
}

static pthread_t deciding_thread(void)
{
	pthread_t thread;

	before_creating = hold;
	CHECK(!pthread_create(&thread, NULL, decider, NULL));
	while (!step_is(1))
		usleep(100);
	before_creating = NULL;
	return thread;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	CHECK(!found()->size && !found()->error);
	if (!strcmp(what, "busy")) {
		handle();
		CHECK(rseqgo_register_thread() >= 0);
		in_thread(busy);
	} else if (!strcmp(what, "finishing")) {
		handle();
		CHECK(rseqgo_register_thread() >= 0);
		pthread_key_create(&last, in_destructor);
		in_thread(finishing);
		CHECK(handled == 2);
	} else if (!strcmp(what, "no process")) {
		seccomp_mode = 2;
		clone_error = EAGAIN;
		CHECK(rseqgo_register_thread() < 0);
		CHECK(found()->error == EAGAIN && clones == 1);
		/* It is not tried again at once, unless the caller insists. */
		for (int i = 0; i < 1000; i++)
			CHECK(rseqgo_register_thread() < 0);
		CHECK(clones < 100);
		clones = 0;
		CHECK(rseqgo_register(1) < 0 && clones == 1);
		clone_error = 0;
		retry_at = 0; /* as after a while */
		CHECK(rseqgo_register_thread() >= 0 && registered_here());
		CHECK(!found()->error && found()->owner == RSEQGO_SELF);
	} else if (!strcmp(what, "no thread")) {
		create_error = EAGAIN;
		CHECK(rseqgo_register(1) < 0);
		CHECK(found()->error == EAGAIN && found()->owner == RSEQGO_NONE);
		create_error = 0;
		CHECK(rseqgo_register(1) >= 0 && registered_here());
	} else if (!strcmp(what, "no memory")) {
		specific_error = ENOMEM;
		CHECK(rseqgo_register_thread() < 0 && !registered_here());
		CHECK(own_cpu_id() == UNINITIALIZED);
		specific_error = 0;
		CHECK(rseqgo_register_thread() >= 0 && registered_here());
	} else if (!strcmp(what, "killed by another")) {
		seccomp_mode = 2;
		child_signal = SIGKILL; /* as from the kernel when memory is short */
		CHECK(rseqgo_register(1) < 0);
		CHECK(found()->error == EINTR);
		child_signal = 0;
		CHECK(rseqgo_register(1) >= 0);
	} else if (!strcmp(what, "killed by the filter")) {
		seccomp_mode = 2;
		child_signal = SIGSYS;
		CHECK(rseqgo_register(1) < 0);
		CHECK(found()->error == RSEQGO_KILLED);
		CHECK(rseqgo_register(1) < 0 && clones == 1);
	} else if (!strcmp(what, "question refused")) {
		seccomp_error = EACCES;
		CHECK(rseqgo_register(1) >= 0);
		CHECK(clones == 1);
	} else if (!strcmp(what, "pretends")) {
		pretend = 1;
		CHECK(rseqgo_register(1) < 0);
		CHECK(found()->error == EPROTO);
		CHECK(rseqgo_look(0).error == EPROTO);
		pretend = 0;
		CHECK(rseqgo_register(1) >= 0);
		pretend = 1;
		in_thread(refused);
	} else if (!strcmp(what, "forked")) {
		pthread_t thread = deciding_thread();
		int status;
		pid_t child = fork();

		if (!child) {
			CHECK(rseqgo_register(1) >= 0 && registered_here());
			exit(0);
		}
		CHECK(waitpid(child, &status, 0) == child && !status);
		to_step(2);
		pthread_join(thread, NULL);
	} else if (!strcmp(what, "meanwhile")) {
		pthread_t thread = deciding_thread();

		/* In a handler too: it does not wait. */
		CHECK(rseqgo_register_thread() == RSEQGO_OWNER_PENDING);
		handle();
		raise(SIGUSR1);
		CHECK(handled == 1 && answer < 0);
		CHECK(!found()->error);
		/* A signal for the deciding thread waits until the decision is made. */
		pthread_kill(thread, SIGUSR1);
		usleep(10000);
		CHECK(handled == 1);
		to_step(2);
		pthread_join(thread, NULL);
		CHECK(handled == 2 && rseqgo_register_thread() >= 0);
	} else {
		return 2;
	}
	return 0;
}
