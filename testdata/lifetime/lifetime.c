#define _GNU_SOURCE
#include "lifetime.h"

#include "glibc.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static int can_register;
static pthread_key_t late;

/* right says whether the area tells the CPU that the thread is pinned to. */
static int right(int cpu)
{
	int got = rseqgo_register_thread();

	if (got < 0)
		return !can_register;
	return got == cpu && rseqgo_cpu_id(rseqgo_discover()) == cpu;
}

static int pin(int n)
{
	cpu_set_t allowed, one;
	int cpu = 0;

	sched_getaffinity(0, sizeof(allowed), &allowed);
	for (n %= CPU_COUNT(&allowed); n >= 0; cpu++)
		if (CPU_ISSET(cpu, &allowed))
			n--;
	CPU_ZERO(&one);
	cpu--;
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
	return cpu;
}

/* A destructor that runs after the package's: it must not register again. */
static void ask_late(void *arg)
{
	static __thread int rounds;

	rseqgo_register_thread();
	if (++rounds < 3)
		pthread_setspecific(late, arg);
}

static void *c_thread(void *arg)
{
	pthread_setspecific(late, arg);
	return (void *)(long)!right(pin((long)arg));
}

int run_c_threads(int n)
{
	int bad = 0;

	can_register = rseqgo_register_thread() >= 0;
	pthread_key_create(&late, ask_late);
	for (int i = 0; i < n; i++) {
		pthread_attr_t attr;
		pthread_t thread;
		void *result = NULL;

		pthread_attr_init(&attr);
		if (i % 2)
			pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		if (pthread_create(&thread, &attr, c_thread, (void *)(long)(i + 1))) {
			bad++;
			continue;
		}
		if (i % 2 == 0)
			pthread_join(thread, &result);
		bad += result != NULL;
	}
	usleep(100000); /* let the last detached ones end */
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

static volatile long alarms;

static void on_alarm(int signal)
{
	(void)signal;
	alarms++;
	rseqgo_register_thread();
	rseqgo_cpu_id(rseqgo_discover());
}

void start_alarms(void)
{
	struct sigaction action = { .sa_handler = on_alarm,
				    .sa_flags = SA_ONSTACK | SA_RESTART };
	struct itimerval every = { { 0, 1 }, { 0, 1 } };

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
}

long stop_alarms(void)
{
	struct itimerval never = { { 0, 0 }, { 0, 0 } };

	setitimer(ITIMER_REAL, &never, NULL);
	return alarms;
}
