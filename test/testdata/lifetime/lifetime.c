#define _GNU_SOURCE
#include "lifetime.h"

#include "glibc.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile long alarms, due, armed;
static volatile int sending, pending;
static long handler_ns;

/* One alarm, after 1 to 64 microseconds: a thread lives for some tens of them. */
static void arm(void)
{
	struct itimerval once = { { 0, 0 }, { 0, 1 << armed++ % 7 } };

	pending = 1;
	setitimer(ITIMER_REAL, &once, NULL);
}

static long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void on_alarm(int signal)
{
	long begin = now();

	(void)signal;
	alarms++;
	pending = 0;
	rseqgo_register_thread();
	rseqgo_cpu_id(rseqgo_discover());
	while (now() - begin < handler_ns)
		;
	if (due > 0) {
		due--;
		arm();
	}
}

void start_alarms(long ns)
{
	struct sigaction action = { .sa_handler = on_alarm,
				    .sa_flags = SA_ONSTACK | SA_RESTART };

	handler_ns = ns;
	sigaction(SIGALRM, &action, NULL);
	sending = 1;
}

/* A number of alarms for each thread, however long they take. With a periodic timer a machine
 * on which the handler takes longer than the period would do nothing else. */
void send_alarms(void)
{
	if (sending) {
		due = 16;
		if (!pending)
			arm();
	}
}

long stop_alarms(void)
{
	struct itimerval never = { { 0, 0 }, { 0, 0 } };

	sending = due = 0;
	setitimer(ITIMER_REAL, &never, NULL);
	return alarms;
}

static int can_register;
static pthread_key_t late;

/* right reports whether the area has the CPU that the thread is pinned to. */
static int right(int cpu)
{
	int got = rseqgo_register_thread();

	if (got < 0)
		return !can_register;
	return got == cpu && rseqgo_cpu_id(rseqgo_discover()) == cpu;
}

static int pin(int n)
{
	enum { SETS = 64 }; /* more CPUs than any kernel can be built for */
	cpu_set_t allowed[SETS] = { 0 }, one[SETS] = { 0 };
	int cpu = 0;

	sched_getaffinity(0, sizeof(allowed), allowed);
	for (n %= CPU_COUNT_S(sizeof(allowed), allowed); n >= 0; cpu++)
		if (CPU_ISSET_S(cpu, sizeof(allowed), allowed))
			n--;
	cpu--;
	CPU_SET_S(cpu, sizeof(one), one);
	sched_setaffinity(0, sizeof(one), one);
	return cpu;
}

/* A destructor that runs after the package's: it must not register the thread again. */
static void ask_late(void *arg)
{
	static __thread int rounds;

	rseqgo_register_thread();
	if (++rounds < 3)
		pthread_setspecific(late, arg);
}

static volatile pid_t last_detached;

static void *c_thread(void *arg)
{
	if ((long)arg % 2 == 0)
		last_detached = syscall(SYS_gettid);
	send_alarms();
	pthread_setspecific(late, arg);
	return (void *)(long)!right(pin((long)arg));
}

void start_c_threads(void)
{
	can_register = rseqgo_register_thread() >= 0;
	pthread_key_create(&late, ask_late);
}

int run_c_threads(int n)
{
	int bad = 0;

	last_detached = 0;
	for (int i = 0; i < n; i++) {
		pthread_attr_t attr;
		pthread_t thread;
		void *result = NULL;

		pthread_attr_init(&attr);
		if (i % 2)
			pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		send_alarms();
		if (pthread_create(&thread, &attr, c_thread, (void *)(long)(i + 1))) {
			bad++;
			continue;
		}
		if (i % 2 == 0)
			pthread_join(thread, &result);
		bad += result != NULL;
	}
	/* Wait for the end of the last detached thread, whose result counts too. Its id may
	 * have become another thread's, so this does not wait for ever. */
	for (int i = 0; i < 1000 && last_detached &&
			!syscall(SYS_tgkill, getpid(), last_detached, 0); i++)
		usleep(1000);
	return bad;
}

int fork_and_read(void)
{
	int status = -1;
	int here = rseqgo_register_thread();
	pid_t child;

	can_register = here >= 0;
	child = fork();
	if (!child)
		_exit(!right(pin(getpid())) || !right(pin(getpid() + 1)));
	waitpid(child, &status, 0);
	return status;
}
