// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * flow - numbered datagrams at a pace, out of and into one UDP socket: how long was the far end not heard?
 *
 * flow NETNS OWN FAR PORT PPS: from OWN to FAR, IPv4, PORT at either end. Packet n is due n/PPS seconds after the
 * start, whatever became of those before it, so what is missing is a time as well. Their DSCP is AF11, which
 * envelopes copy: who counts those on a wire counts no probe and no hello.
 *
 * Commands on stdin, one a line, each answered by one JSON object on stdout:
 *   mark     forget what is missing, and the longest silence -> {"ok":true}
 *   stop     send no more                     -> {"ok":true}
 *   report   {"sent":,"refused":,"received":,"late":,"missing":,"gap_ms":}
 * sent counts numbers used; refused those that the stack did not take; missing, numbers that did not come before a later
 * one and have not come since; gap_ms the longest silence. Ends at end of file.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 200, BURST = 256, BUFFER = 8 << 20, AF11 = 10 };

struct flow {
	int fd;
	uint64_t pps, start; /* ns */
	uint64_t sent, refused, received, late, last, missing, gap, heard; /* last: highest number + 1; gap, heard: ns */
	bool stopped;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "flow: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_socket(const char *own, const char *far, unsigned int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)}, b = a;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), size = BUFFER, tos = AF11 << 2;

	if (fd < 0)
		die("socket");
	if (inet_pton(AF_INET, own, &a.sin_addr) != 1 || inet_pton(AF_INET, far, &b.sin_addr) != 1) {
		errno = EINVAL;
		die("address");
	}
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size))
		die("receive buffer");
	if (setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof tos))
		die("DSCP");
	if (bind(fd, (struct sockaddr *)&a, sizeof a))
		die(own);
	if (connect(fd, (struct sockaddr *)&b, sizeof b)) /* a peer that refuses is an error of send(), counted there */
		die(far);
	return fd;
}

static void send_due(struct flow *f)
{
	uint64_t due = (now_ns() - f->start) / 1000 * f->pps / 1000000;
	unsigned char packet[SIZE] = {0};

	for (int i = 0; i < BURST && !f->stopped && f->sent < due; i++) {
		uint64_t n = htobe64(f->sent++);

		memcpy(packet, &n, sizeof n);
		if (send(f->fd, packet, sizeof packet, 0) != sizeof packet)
			f->refused++;
	}
}

static void hear(struct flow *f, uint64_t n, uint64_t now)
{
	f->received++;
	if (f->heard && now - f->heard > f->gap)
		f->gap = now - f->heard;
	f->heard = now;
	if (n < f->last) {
		f->late++;
		if (f->missing)
			f->missing--;
		return;
	}
	f->missing += n - f->last;
	f->last = n + 1;
}

static void receive(struct flow *f)
{
	unsigned char packet[SIZE];
	uint64_t n;
	ssize_t got;

	for (int i = 0; i < 4 * BURST; i++) {
		got = recv(f->fd, packet, sizeof packet, 0);
		if (got < 0 && errno == EAGAIN)
			return;
		if (got != sizeof packet) /* an ICMP error: send() met it */
			continue;
		memcpy(&n, packet, sizeof n);
		hear(f, be64toh(n), now_ns());
	}
}

static void answer(struct flow *f, const char *word)
{
	uint64_t silent = f->heard ? now_ns() - f->heard : 0;

	if (!strcmp(word, "report")) {
		printf("{\"sent\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"received\":%" PRIu64 ",\"late\":%" PRIu64
		       ",\"missing\":%" PRIu64 ",\"gap_ms\":%" PRIu64 "}\n",
		       f->sent, f->refused, f->received, f->late, f->missing,
		       (!f->stopped && silent > f->gap ? silent : f->gap) / 1000000);
		return;
	}
	if (!strcmp(word, "mark"))
		f->missing = f->gap = 0;
	else if (!strcmp(word, "stop"))
		f->stopped = true;
	else
		printf("{\"ok\":false,\"error\":\"no command %s\"}\n", word);
	if (!strcmp(word, "mark") || !strcmp(word, "stop"))
		printf("{\"ok\":true}\n");
}

int main(int argc, char **argv)
{
	struct flow f = {0};
	char word[32];
	int ns;

	if (argc != 6) {
		fprintf(stderr, "usage: flow NETNS OWN FAR PORT PPS\n");
		return 2;
	}
	ns = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (ns < 0 || setns(ns, CLONE_NEWNET))
		die(argv[1]);
	close(ns);
	f.fd = open_socket(argv[2], argv[3], (unsigned int)atoi(argv[4]));
	f.pps = (uint64_t)atoi(argv[5]);
	f.start = now_ns();
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (;;) {
		struct pollfd p[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = f.fd, .events = POLLIN}};

		if (poll(p, 2, f.stopped ? 100 : 1) < 0 && errno != EINTR)
			die("poll");
		receive(&f);
		send_due(&f);
		if (!(p[0].revents & (POLLIN | POLLHUP)))
			continue;
		/* one line at a time: the other side waits for the answer before it asks again */
		if (!fgets(word, sizeof word, stdin))
			return 0;
		word[strcspn(word, "\n")] = 0;
		answer(&f, word);
	}
}
