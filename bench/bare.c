// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * bare DEVICE OWN FAR PORT - a tunnel that does nothing: packets of a TUN go into UDP, and back.
 *
 * No cipher, no numbers, no checks, no books: one thread that sleeps in epoll_wait(), read() and sendto() one way,
 * recv() and write() the other. What two of these take for a round trip is what the kernel charges anybody
 * who carries packets in user space and does not spin. OWN and FAR are IPv4.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOM = 65536, TURN = 64 };

static void die(const char *what)
{
	fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_tun(const char *dev)
{
	struct ifreq ifr = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);

	snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", dev);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr))
		die(dev);
	return fd;
}

static struct sockaddr_in address(const char *ip, const char *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

	if (inet_pton(AF_INET, ip, &a.sin_addr) != 1)
		die(ip);
	return a;
}

static int open_udp(const char *own, const char *far, const char *port)
{
	struct sockaddr_in me = address(own, port), peer = address(far, port);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (void *)&me, sizeof me) || connect(fd, (void *)&peer, sizeof peer))
		die("socket");
	return fd;
}

/* What there is of one, to the other; what that does not take is gone. */
static void carry(int from, int to)
{
	static char buf[ROOM];
	ssize_t n;

	for (int i = 0; i < TURN && (n = read(from, buf, sizeof buf)) > 0; i++)
		if (write(to, buf, (size_t)n) < 0 && errno != EAGAIN && errno != ENOBUFS && errno != ECONNREFUSED && errno != EIO && errno != EINVAL)
			die("write");
}

int main(int argc, char **argv)
{
	struct epoll_event ev[2];
	int ends[2], epfd = epoll_create1(0), n;

	if (argc != 5) {
		fprintf(stderr, "usage: bare DEVICE OWN FAR PORT\n");
		return 2;
	}
	ends[0] = open_tun(argv[1]);
	ends[1] = open_udp(argv[2], argv[3], argv[4]);
	for (unsigned int i = 0; i < 2; i++)
		if (epoll_ctl(epfd, EPOLL_CTL_ADD, ends[i], &(struct epoll_event){.events = EPOLLIN, .data.u32 = i}))
			die("epoll");
	for (;;) {
		n = epoll_wait(epfd, ev, 2, -1);
		for (int i = 0; i < n; i++)
			carry(ends[ev[i].data.u32], ends[!ev[i].data.u32]);
	}
}
