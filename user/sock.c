/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <unistd.h>
#include "ipsec_shared.h"
#include "log.h"
#include "ns.h"
#include "sock.h"

#ifndef SO_ATTACH_REUSEPORT_EBPF
#define SO_ATTACH_REUSEPORT_EBPF 52
#endif

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { SOCK_BUF = 8 << 20 };

static int on(int fd, int level, int opt, int val)
{
	return setsockopt(fd, level, opt, &val, sizeof val);
}

/* What both families and both protocols share. */
static void tune(int fd, int family)
{
	on(fd, SOL_SOCKET, SO_SNDBUFFORCE, SOCK_BUF);
	on(fd, SOL_SOCKET, SO_RCVBUFFORCE, SOCK_BUF);
	if (family == AF_INET) {
		on(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_WANT);
		on(fd, IPPROTO_IP, IP_RECVTOS, 1);
		on(fd, IPPROTO_IP, IP_PKTINFO, 1); /* destination and TTL: transport mode makes headers of them */
		on(fd, IPPROTO_IP, IP_RECVTTL, 1);
		on(fd, IPPROTO_IP, IP_RECVERR, 1);
	} else {
		on(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
		on(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_WANT);
		on(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
		on(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
		on(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
		on(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
	}
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

static int udp_open(int family, int pick_fd, bool *own)
{
	int err, fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);

	if (fd < 0)
		return -errno;
	tune(fd, family);
	on(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	on(fd, IPPROTO_UDP, UDP_GRO, 1);
	err = bind_port(fd, family, ESP_PORT);
	if (err == -EADDRINUSE) {
		*own = false;
		err = bind_port(fd, family, 0);
	}
	if (err) {
		close(fd);
		return err;
	}
	/* after bind(): an unbound socket with a program may not join a group that has members */
	if (pick_fd >= 0 && on(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, pick_fd))
		log_warn("reuseport program on UDP %u", ESP_PORT);
	return fd;
}

struct open_args {
	struct socks *s;
	const struct socks_conf *c;
};

static int open_inside(void *arg)
{
	struct open_args *a = arg;
	struct socks *s = a->s;

	s->own_4500 = true;
	s->raw4 = raw_open(AF_INET, a->c->filter_fd);
	if (s->raw4 < 0)
		return s->raw4;
	s->udp4 = udp_open(AF_INET, a->c->pick_fd, &s->own_4500);
	if (s->udp4 < 0)
		return s->udp4;
	/* a host without IPv6 still works */
	s->raw6 = raw_open(AF_INET6, a->c->filter_fd);
	if (s->raw6 < 0 && s->raw6 != -EAFNOSUPPORT)
		return s->raw6;
	s->udp6 = udp_open(AF_INET6, a->c->pick_fd, &s->own_4500);
	if (s->udp6 < 0 && s->udp6 != -EAFNOSUPPORT)
		return s->udp6;
	return 0;
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

void socks_close(struct socks *s)
{
	int *fds[] = {&s->raw4, &s->raw6, &s->udp4, &s->udp6};

	for (unsigned int i = 0; i < 4; i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}
