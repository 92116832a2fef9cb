/*
 * What runs inside the containers (and, as `host`, beside them) while attribution is measured: processes that live about a
 * millisecond, made in every way in which programs make them. Linked statically; with `one` all that the image holds.
 *
 *   storm exec  TOKEN COUNT GATE   COUNT processes that execute `one TOKEN N`; every second one lost its parent before
 *   storm calls TOKEN COUNT GATE   COUNT children that execute nothing, make openat, connect, ptrace, some mount, and exit
 *   storm nap   TOKEN MS           executes three `one`, naps, exits: a container that lives MS milliseconds
 *   storm forks TOKEN COUNT GATE   COUNT children that do nothing at all: only the proc connector hears of them
 *   storm rate  TOKEN PER_S SECONDS GATE   openat at a steady rate, every hundredth by a new child
 *   storm sleep TOKEN SECONDS      stays
 *
 * GATE is a file that is waited for, so that all of them begin together. The token is the truth that the answer is compared
 * with: it is in the arguments, in the paths, in the address, and, as a number, in the third register of ptrace.
 */
#ifdef ONE
/*
 * `one`, the program that they execute: a nap and the end, without a libc, because starting one takes longer than the whole life
 * that is wanted here.
 */
#ifndef __x86_64__
#error "written for x86_64"
#endif
static long call(long n, const void *a)
{
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(0) : "rcx", "r11", "memory");
	return result;
}

void _start(void)
{
	static const long time[2] = {0, 700000};
	call(35, time);
	call(231, 0);
	__builtin_unreachable();
}
#else
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What the kernel rules of the measurement select: nobody else opens with these flags or connects with this length. */
#define OPEN_FLAGS (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME | O_CLOEXEC)
#define ADDRESS_LEN 77
#define PTRACE_MARK 0x57000000UL
#define OUTSTANDING 6

static char one[4096], *token;
static unsigned long number;
static pid_t reaper;

static void nap(long ns)
{
	struct timespec t = {ns / 1000000000, ns % 1000000000};
	nanosleep(&t, NULL);
}

static void wait_for(const char *gate)
{
	while (access(gate, F_OK))
		nap(2000000);
}

static void execute(int n)
{
	char text[16];
	snprintf(text, sizeof text, "%d", n);
	char *argv[] = {"one", token, text, NULL}, *envp[] = {NULL};
	execve(one, argv, envp);
	_exit(127);
}

static void *execute_in_thread(void *n)
{
	execute((int)(long)n);
	return NULL;
}

static void orphaned(void)
{
	for (int i = 0; i < 2000 && getppid() != reaper; i++)
		nap(50000);
}

/* Returns how many children will have to be reaped. */
static int make(int n)
{
	pid_t middle;
	pthread_t thread;
	switch (n % 6) {
	case 0:
		if (!fork())
			execute(n);
		return 1;
	case 1: /* forked twice; the parent is dead or dies while the child executes */
		if (!(middle = fork())) {
			if (!fork())
				execute(n);
			_exit(0);
		}
		return 2;
	case 2:
		if (!vfork())
			execute(n);
		return 1;
	case 3: /* adopted before it executes, in a session of its own */
		if (!(middle = fork())) {
			if (!fork()) {
				setsid();
				orphaned();
				execute(n);
			}
			_exit(0);
		}
		return 2;
	case 4: /* executed by a thread that is not the first: the process changes hands */
		if (!fork()) {
			pthread_create(&thread, NULL, execute_in_thread, (void *)(long)n);
			for (;;)
				pause();
		}
		return 1;
	default: /* three generations, the two in between gone */
		if (!(middle = fork())) {
			if (!fork()) {
				if (!fork()) {
					orphaned();
					execute(n);
				}
				_exit(0);
			}
			_exit(0);
		}
		return 3;
	}
}

static void call(int n)
{
	char path[64];
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	snprintf(path, sizeof path, "/tmp/%s-%d", token, n);
	syscall(SYS_openat, AT_FDCWD, path, OPEN_FLAGS, 0);
	snprintf(to.sun_path, sizeof to.sun_path, "/tmp/%s-%d", token, n);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	syscall(SYS_connect, fd, &to, ADDRESS_LEN);
	if (n % 4 == 0) {
		snprintf(path, sizeof path, "/mnt/%s", token);
		mount(token, path, "tmpfs", 0, NULL);
		umount2(path, MNT_DETACH);
	}
	syscall(SYS_ptrace, PTRACE_TRACEME, 0, PTRACE_MARK | number, 0);
	_exit(0);
}

static int make_call(int n)
{
	if (n % 2 == 0) {
		if (!fork())
			call(n);
		return 1;
	}
	if (!fork()) {
		if (!fork()) {
			if (n % 4 == 3)
				orphaned();
			call(n);
		}
		_exit(0);
	}
	return 2;
}

static int make_nothing(int n)
{
	(void)n;
	if (!vfork())
		_exit(0);
	return 1;
}

static void all(int count, int (*one)(int))
{
	int left = 0;
	for (int n = 0; n < count; n++) {
		left += one(n);
		while (left > OUTSTANDING && waitpid(-1, NULL, 0) > 0)
			left--;
		while (waitpid(-1, NULL, WNOHANG) > 0)
			left--;
	}
	while (waitpid(-1, NULL, 0) > 0)
		;
}

static void rate(long per_s, long seconds)
{
	char path[64];
	struct timespec next;
	clock_gettime(CLOCK_MONOTONIC, &next);
	snprintf(path, sizeof path, "/tmp/%s-0", token);
	for (long n = 0; n < per_s * seconds; n++) {
		if (n % 100 == 0) {
			if (!vfork()) {
				syscall(SYS_openat, AT_FDCWD, path, OPEN_FLAGS, 0);
				_exit(0);
			}
			waitpid(-1, NULL, 0);
		} else {
			syscall(SYS_openat, AT_FDCWD, path, OPEN_FLAGS, 0);
		}
		next.tv_nsec += 1000000000 / per_s;
		if (next.tv_nsec >= 1000000000) {
			next.tv_nsec -= 1000000000;
			next.tv_sec++;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	/* `one` lies beside us. */
	char *slash = strrchr(argv[0], '/');
	snprintf(one, sizeof one, "%.*s/one", slash ? (int)(slash - argv[0]) : 1, slash ? argv[0] : ".");
	token = argv[2];
	number = strtoul(token + strcspn(token, "0123456789"), NULL, 10);
	long first = argc > 3 ? atol(argv[3]) : 0;
	reaper = getpid();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (!strcmp(argv[1], "sleep")) {
		signal(SIGTERM, _exit);
		for (long i = 0; i < first * 10; i++) {
			nap(100000000);
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
		}
	} else if (!strcmp(argv[1], "nap")) {
		all(3, make);
		nap(first * 1000000);
	} else if (!strcmp(argv[1], "rate") && argc > 5) {
		wait_for(argv[5]);
		rate(first, atol(argv[4]));
	} else if (argc > 4) {
		char path[64];
		snprintf(path, sizeof path, "/mnt/%s", token);
		if (!strcmp(argv[1], "calls"))
			mkdir(path, 0700);
		wait_for(argv[4]);
		if (!strcmp(argv[1], "exec"))
			all(first, make);
		else if (!strcmp(argv[1], "calls"))
			all(first, make_call);
		else if (!strcmp(argv[1], "forks"))
			all(first, make_nothing);
		else
			return 2;
		rmdir(path);
	} else {
		return 2;
	}
	return 0;
}
#endif
