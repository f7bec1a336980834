/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <netinet/in.h> /* before linux/xfrm.h, or both define struct in6_addr */
#include <errno.h>
#include <linux/filter.h>
#include <linux/xfrm.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include "ns.h"
#include "sock.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#ifndef UDP_NO_CHECK6_RX
#define UDP_NO_CHECK6_RX 102
#endif

enum { SOCK_BUF = 8 << 20, PORT_TRIES = 32 };

static int on(int fd, int level, int opt, int val)
{
	return setsockopt(fd, level, opt, &val, sizeof val);
}

/* Envelopes are what the default deny (guard_xfrm.c) lets pass: say so where the kernel looks first. */
static void bypass(int fd, int family)
{
	struct xfrm_userpolicy_info pol = {
		.action = XFRM_POLICY_ALLOW, .dir = XFRM_POLICY_OUT, .sel.family = family};

	if (family == AF_INET)
		setsockopt(fd, IPPROTO_IP, IP_XFRM_POLICY, &pol, sizeof pol);
	else
		setsockopt(fd, IPPROTO_IPV6, IPV6_XFRM_POLICY, &pol, sizeof pol);
}

/* What both families and both protocols share. */
static void tune(int fd, int family)
{
	on(fd, SOL_SOCKET, SO_SNDBUFFORCE, SOCK_BUF);
	on(fd, SOL_SOCKET, SO_RCVBUFFORCE, SOCK_BUF);
	if (family == AF_INET) {
		on(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE); /* why: emit.h */
		on(fd, IPPROTO_IP, IP_RECVTOS, 1);
		on(fd, IPPROTO_IP, IP_PKTINFO, 1); /* destination and TTL: transport mode makes headers of them */
		on(fd, IPPROTO_IP, IP_RECVTTL, 1);
		on(fd, IPPROTO_IP, IP_RECVERR, 1);
	} else {
		on(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
		on(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
		on(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
		on(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
		on(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
		on(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
	}
	bypass(fd, family);
}

/* A plain raw socket of protocol 50, so that `ip rule ipproto 50` matches what it sends. */
static int raw_open(int family, int filter_fd)
{
	int err, fd = socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ESP);

	if (fd < 0)
		return -errno;
	tune(fd, family);
	if (filter_fd >= 0 && on(fd, SOL_SOCKET, SO_ATTACH_BPF, filter_fd)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

static int bind_port(int fd, int family, uint16_t port)
{
	struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int r;

	r = family == AF_INET ? bind(fd, (struct sockaddr *)&a4, sizeof a4) :
				bind(fd, (struct sockaddr *)&a6, sizeof a6);
	return r ? -errno : 0;
}

static void tune_worker(int fd, int family)
{
	tune(fd, family);
	on(fd, IPPROTO_UDP, UDP_GRO, 1);
}

/* The filter is asked for what is no ESP, and lets nothing wait in the socket. */
static int tune_kernel(int fd, int family)
{
	struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog filter = {1, &nothing};

	if (family == AF_INET6)
		on(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	bypass(fd, family);
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) ||
	    on(fd, IPPROTO_UDP, UDP_ENCAP, UDP_ENCAP_ESPINUDP))
		return -errno;
	return 0;
}

/* port 0: the kernel chooses one. */
static int udp_open(int family, uint16_t port, bool for_kernel)
{
	int err = 0, fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);

	if (fd < 0)
		return -errno;
	if (for_kernel)
		err = tune_kernel(fd, family);
	else
		tune_worker(fd, family);
	on(fd, IPPROTO_UDP, UDP_NO_CHECK6_RX, 1); /* RFC 6935: the ICV says more than a checksum */
	err = err ? err : bind_port(fd, family, port);
	if (!err)
		return fd;
	close(fd);
	return err;
}

static uint16_t port_of(int fd)
{
	struct sockaddr_in a = {0};
	socklen_t len = sizeof a;

	return getsockname(fd, (struct sockaddr *)&a, &len) ? 0 : ntohs(a.sin_port);
}

/* One number for both families; the other family may have lent it to somebody else. */
static int udp_pair(struct socks *s, bool for_kernel)
{
	int err = 0;

	for (unsigned int i = 0; i < PORT_TRIES; i++) {
		s->udp4 = udp_open(AF_INET, 0, for_kernel);
		if (s->udp4 < 0)
			return s->udp4;
		s->udp_port = port_of(s->udp4);
		s->udp6 = udp_open(AF_INET6, s->udp_port, for_kernel);
		err = s->udp6 < 0 ? s->udp6 : 0;
		if (err != -EADDRINUSE)
			break;
		close(s->udp4);
		s->udp4 = -1;
	}
	return err == -EAFNOSUPPORT ? 0 : err; /* a host without IPv6 still works */
}

struct open_args {
	struct socks *s;
	const struct socks_conf *c;
};

static int open_inside(void *arg)
{
	struct open_args *a = arg;
	struct socks *s = a->s;

	s->raw4 = raw_open(AF_INET, a->c->filter_fd);
	if (s->raw4 < 0)
		return s->raw4;
	s->raw6 = raw_open(AF_INET6, a->c->filter_fd);
	if (s->raw6 < 0 && s->raw6 != -EAFNOSUPPORT)
		return s->raw6;
	return udp_pair(s, false);
}

static int open_for_kernel(void *arg)
{
	return udp_pair(arg, true);
}

int socks_open(struct socks *s, const struct socks_conf *c)
{
	struct open_args a = {.s = s, .c = c};
	int err;

	s->raw4 = s->raw6 = s->udp4 = s->udp6 = -1;
	err = ns_call(c->underlay_fd, open_inside, &a);
	if (err)
		socks_close(s);
	return err;
}

int socks_open_kernel(struct socks *s, int underlay_fd)
{
	int err;

	*s = (struct socks){-1, -1, -1, -1, 0};
	err = ns_call(underlay_fd, open_for_kernel, s);
	if (err)
		socks_close(s);
	return err;
}

void socks_close(struct socks *s)
{
	int *fds[] = {&s->raw4, &s->raw6, &s->udp4, &s->udp6};

	for (unsigned int i = 0; i < 4; i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	s->udp_port = 0;
}

static unsigned long find_inode(const char *table, uint16_t port)
{
	FILE *f = fopen(table, "re");
	unsigned long inode = 0, ino;
	char line[512];
	unsigned int p;

	while (f && !inode && fgets(line, sizeof line, f))
		if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*s %*s %*s %*s %*s %*s %*s %lu", &p, &ino) == 2 &&
		    p == port)
			inode = ino;
	if (f)
		fclose(f);
	return inode;
}

unsigned long sock_udp_inode(uint16_t port)
{
	unsigned long inode = find_inode("/proc/thread-self/net/udp", port);

	return inode ? inode : find_inode("/proc/thread-self/net/udp6", port);
}
