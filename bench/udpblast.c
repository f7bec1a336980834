// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * udpblast - UDP load and its count.
 *
 *   udpblast sink PORT SECS
 *     counts datagrams until SECS have passed or 0.3 s after the sender's end mark; prints
 *     rx=<n> bytes=<n>
 *   udpblast send IP PORT SIZE PPS SECS
 *     SIZE bytes of payload, PPS 0 = as fast as it goes; prints tx=<n> fail=<n> ns=<elapsed>
 *   udpblast loop NETNS_TX NETNS_RX IP PORT SIZE COUNT BURST
 *     closed loop in one process: send BURST, wait until they have arrived, again; prints
 *     got=<n> lost=<n> ns=<elapsed>. With one CPU that never idles this is the whole cost of a
 *     packet; under qemu -icount it counts guest instructions.
 *
 * Exact counts only; who called computes the loss.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "util.h"

enum {
	BATCH = 32,
	PAYLOAD_MIN = 4, /* an end mark is shorter */
	PAYLOAD_MAX = 9000,
	END_LEN = 3,
	END_MARKS = 5, /* repeated: they may be lost */
	SOCK_BUF = 16 << 20,
};

static const uint64_t QUIET_NS = 300000000; /* after an end mark, stragglers have that long */
static const double PACE_PKTS = 8;          /* a paced sender wakes when so many are due */

static volatile sig_atomic_t stop;

struct vec {
	struct mmsghdr msg[BATCH];
	struct iovec iov[BATCH];
};

static void on_signal(int sig)
{
	stop = 1;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* All messages of one vector send the same bytes, or receive side by side (stride > 0). */
static void vec_init(struct vec *v, uint8_t *buf, size_t len, size_t stride)
{
	memset(v, 0, sizeof *v);
	for (int i = 0; i < BATCH; i++) {
		v->iov[i] = (struct iovec){buf + i * stride, len};
		v->msg[i].msg_hdr.msg_iov = &v->iov[i];
		v->msg[i].msg_hdr.msg_iovlen = 1;
	}
}

static int udp_socket(int buf_opt)
{
	int size = SOCK_BUF, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	if (setsockopt(fd, SOL_SOCKET, buf_opt, &size, sizeof size))
		die("socket buffer");
	return fd;
}

static struct sockaddr_in addr_of(const char *ip, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

	if (ip && inet_pton(AF_INET, ip, &a.sin_addr) != 1) {
		fprintf(stderr, "udpblast: %s is no IPv4 address\n", ip);
		exit(2);
	}
	return a;
}

static int rx_socket(int port, long timeout_us)
{
	struct sockaddr_in a = addr_of(NULL, port);
	struct timeval tv = {.tv_usec = timeout_us};
	int fd = udp_socket(SO_RCVBUFFORCE);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	if (bind(fd, (void *)&a, sizeof a))
		die("bind");
	return fd;
}

static int tx_socket(const char *ip, int port)
{
	struct sockaddr_in a = addr_of(ip, port);
	int fd = udp_socket(SO_SNDBUFFORCE);

	if (connect(fd, (void *)&a, sizeof a))
		die("connect");
	return fd;
}

static int sink(int port, double secs)
{
	static uint8_t buf[BATCH][PAYLOAD_MAX];
	uint64_t rx = 0, bytes = 0, ended = 0, end = now_ns() + (uint64_t)(secs * 1e9);
	int fd = rx_socket(port, 100000);
	struct vec v;

	vec_init(&v, buf[0], PAYLOAD_MAX, PAYLOAD_MAX);
	while (!stop && now_ns() < end && !(ended && now_ns() - ended > QUIET_NS)) {
		int n = recvmmsg(fd, v.msg, BATCH, MSG_WAITFORONE, NULL);

		for (int i = 0; i < n; i++) {
			if (v.msg[i].msg_len == END_LEN) {
				ended = ended ? ended : now_ns();
				continue;
			}
			rx++;
			bytes += v.msg[i].msg_len;
		}
	}
	printf("rx=%" PRIu64 " bytes=%" PRIu64 "\n", rx, bytes);
	return 0;
}

/* Paces in sleeps, never by spinning: the cores belong to what is measured. */
static unsigned int due_now(double pps, uint64_t since, uint64_t sent)
{
	double due = pps * (double)(now_ns() - since) / 1e9 - (double)sent;
	double ns = PACE_PKTS / pps * 1e9;
	struct timespec ts = {.tv_nsec = (long)(ns < 60000 ? 60000 : ns > 5e6 ? 5e6 : ns)};

	if (due < 1) {
		nanosleep(&ts, NULL);
		return 0;
	}
	return due > BATCH ? BATCH : (unsigned int)due;
}

static int flood(const char *ip, int port, size_t size, double pps, double secs)
{
	static uint8_t pkt[PAYLOAD_MAX];
	uint64_t tx = 0, fail = 0, start, end;
	int fd = tx_socket(ip, port);
	struct vec v;

	vec_init(&v, pkt, size, 0);
	start = now_ns();
	end = start + (uint64_t)(secs * 1e9);
	while (!stop && now_ns() < end) {
		unsigned int n = pps > 0 ? due_now(pps, start, tx + fail) : BATCH;
		int r = n ? sendmmsg(fd, v.msg, n, 0) : 0;

		tx += r > 0 ? r : 0;
		fail += r < 0;
	}
	end = now_ns();
	for (int i = 0; i < END_MARKS; i++) {
		if (send(fd, "end", END_LEN, 0) < 0)
			fail++;
		usleep(30000);
	}
	printf("tx=%" PRIu64 " fail=%" PRIu64 " ns=%" PRIu64 "\n", tx, fail, end - start);
	return 0;
}

static void enter(const char *netns)
{
	int fd = open(netns, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, CLONE_NEWNET))
		die(netns);
	close(fd);
}

struct loop {
	int rx, tx;
	struct vec in, out;
	uint64_t got, lost;
};

static void loop_burst(struct loop *l, unsigned int burst)
{
	int left = sendmmsg(l->tx, l->out.msg, burst, 0);

	while (left > 0) {
		int n = recvmmsg(l->rx, l->in.msg, (unsigned int)left, MSG_WAITFORONE, NULL);

		if (n <= 0) { /* a timeout: the rest is gone */
			l->lost += left;
			return;
		}
		l->got += n;
		left -= n;
	}
}

/* What all CPUs have idled since boot, in steps of 10 ms. */
static uint64_t idle_ns(void)
{
	double up, idle = 0;
	FILE *f = fopen("/proc/uptime", "re");

	if (f) {
		if (fscanf(f, "%lf %lf", &up, &idle) != 2)
			idle = 0;
		fclose(f);
	}
	return (uint64_t)(idle * 1e9);
}

static int loop(char **arg)
{
	static uint8_t pkt[PAYLOAD_MAX], buf[BATCH][PAYLOAD_MAX];
	size_t size = strtoul(arg[4], NULL, 10);
	uint64_t count = strtoull(arg[5], NULL, 10), start, idle;
	unsigned int burst = (unsigned int)strtoul(arg[6], NULL, 10);
	int port = atoi(arg[3]);
	struct loop l = {0};

	if (!burst || burst > BATCH || size < PAYLOAD_MIN || size > PAYLOAD_MAX)
		return 2;
	enter(arg[1]);
	l.rx = rx_socket(port, 200000);
	enter(arg[0]);
	l.tx = tx_socket(arg[2], port);
	vec_init(&l.out, pkt, size, 0);
	vec_init(&l.in, buf[0], PAYLOAD_MAX, PAYLOAD_MAX);
	for (int i = 0; i < 10; i++) /* warm */
		loop_burst(&l, burst);
	l.got = l.lost = 0;
	idle = idle_ns();
	start = now_ns();
	while (!stop && l.got + l.lost < count)
		loop_burst(&l, burst);
	start = now_ns() - start;
	printf("got=%" PRIu64 " lost=%" PRIu64 " ns=%" PRIu64 " idle=%" PRIu64 "\n", l.got, l.lost,
	       start, idle_ns() - idle);
	return 0;
}

static int usage(void)
{
	fprintf(stderr, "usage: udpblast sink PORT SECS\n"
			"       udpblast send IP PORT SIZE PPS SECS\n"
			"       udpblast loop NETNS_TX NETNS_RX IP PORT SIZE COUNT BURST\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = on_signal};
	size_t size;

	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	if (argc == 4 && !strcmp(argv[1], "sink"))
		return sink(atoi(argv[2]), atof(argv[3]));
	if (argc == 9 && !strcmp(argv[1], "loop"))
		return loop(argv + 2);
	if (argc != 7 || strcmp(argv[1], "send"))
		return usage();
	size = strtoul(argv[4], NULL, 10);
	if (size < PAYLOAD_MIN || size > PAYLOAD_MAX)
		return usage();
	return flood(argv[2], atoi(argv[3]), size, atof(argv[5]), atof(argv[6]));
}
