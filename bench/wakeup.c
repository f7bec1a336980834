// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * wakeup [HOPS [ROUNDS]] - what a chain of wake-ups costs where nothing spins.
 *
 * HOPS threads sleep in epoll_wait(); every 10 ms a token passes from the first to the last through eventfds
 * and back to the caller, who slept as well. A round trip through two gateways whose workers sleep is such a
 * chain of four, with packets. Prints the middle and the 99th percentile.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { HOPS_MAX = 64, ROUNDS_MAX = 100000, GAP_NS = 10000000 };

struct hop {
	int in, out; /* eventfds */
	int epfd;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int sleeper(int fd)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int epfd = epoll_create1(EPOLL_CLOEXEC);

	if (epfd < 0 || epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev))
		die("epoll");
	return epfd;
}

static void take(int epfd, int fd)
{
	struct epoll_event ev;
	eventfd_t n;

	while (epoll_wait(epfd, &ev, 1, -1) != 1)
		;
	if (eventfd_read(fd, &n))
		die("eventfd");
}

static void *pass_on(void *arg)
{
	const struct hop *h = arg;

	for (;;) {
		take(h->epfd, h->in);
		if (eventfd_write(h->out, 1))
			die("eventfd");
	}
	return NULL;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	unsigned long hops = argc > 1 ? strtoul(argv[1], NULL, 10) : 4;
	unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 500;
	static struct hop hop[HOPS_MAX];
	static uint64_t took[ROUNDS_MAX];
	int fd[HOPS_MAX + 1], home;
	pthread_t id;

	if (!hops || hops > HOPS_MAX || !rounds || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: wakeup [HOPS [ROUNDS]]\n");
		return 2;
	}
	for (unsigned long i = 0; i <= hops; i++)
		if ((fd[i] = eventfd(0, EFD_CLOEXEC)) < 0)
			die("eventfd");
	for (unsigned long i = 0; i < hops; i++) {
		hop[i] = (struct hop){.in = fd[i], .out = fd[i + 1], .epfd = sleeper(fd[i])};
		if (pthread_create(&id, NULL, pass_on, &hop[i]))
			die("thread");
	}
	home = sleeper(fd[hops]);
	for (unsigned long r = 0; r < rounds; r++) {
		struct timespec gap = {.tv_nsec = GAP_NS};
		uint64_t t;

		nanosleep(&gap, NULL);
		t = now_ns();
		eventfd_write(fd[0], 1);
		take(home, fd[hops]);
		took[r] = now_ns() - t;
	}
	qsort(took, rounds, sizeof took[0], by_size);
	printf("hops=%lu p50=%" PRIu64 " p99=%" PRIu64 " ns\n", hops, took[rounds / 2], took[rounds * 99 / 100]);
	return 0;
}
