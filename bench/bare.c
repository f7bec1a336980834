// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * bare DEVICE OWN FAR PORT             - a tunnel that does nothing: packets of a TUN go into UDP, and back
 * bare DEVICE OWN FAR PORT NETNS MAC   - a link that does nothing but encrypt: b0 in NETNS is the other end of a veth
 *
 * No numbers that mean anything, no checks, no books: one thread that sleeps in epoll_wait(), read() and write() one
 * way, read() and write() the other. What two of these take for a round trip is what the kernel charges anybody
 * who carries packets in user space and does not spin. OWN and FAR are IPv4.
 *
 * As a link: DEVICE is a TAP in NETNS, whose frames go to and come from that veth, which has address MAC, by a program in
 * traffic control, and packets are sealed with AES-GCM-128 under a key that everybody knows, with IVs that both ends use: a floor, no tunnel.
 */
#include <arpa/inet.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <intel-ipsec-mb.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bare.skel.h"

enum { ROOM = 65536, TURN = 64, IV = 8, ICV = 16 };

static struct {
	uint8_t mac[ETH_ALEN];
	IMB_MGR *mb; /* NULL = a tunnel */
	struct gcm_key_data key;
	uint64_t n;
} link_;

static void die(const char *what)
{
	fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void forward(const char *from, const char *to)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)if_nametoindex(from), .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts);
	struct bare_bpf *b = bare_bpf__open();

	if (!b)
		die("BPF");
	b->rodata->to = if_nametoindex(to);
	if (bare_bpf__load(b))
		die("BPF");
	opts.prog_fd = bpf_program__fd(b->progs.forward);
	if (bpf_tc_hook_create(&hook) || bpf_tc_attach(&hook, &opts))
		die(from);
}

/* A thread's namespace is where its TAP comes to be. */
static int open_tun(const char *dev, const char *netns)
{
	struct ifreq ifr = {.ifr_flags = (short)((netns ? IFF_TAP : IFF_TUN) | IFF_NO_PI)};
	int home = open("/proc/self/ns/net", O_RDONLY), there = netns ? open(netns, O_RDONLY) : home, fd;

	if (home < 0 || there < 0 || setns(there, CLONE_NEWNET))
		die(netns);
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", dev);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr))
		die(dev);
	if (netns) {
		forward("b0", dev);
		forward(dev, "b0");
	}
	if (setns(home, CLONE_NEWNET))
		die("setns");
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

static void open_link(const char *mac)
{
	static const uint8_t key[16];

	link_.mb = alloc_mb_mgr(0);
	if (!link_.mb || sscanf(mac, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &link_.mac[0], &link_.mac[1], &link_.mac[2], &link_.mac[3],
				&link_.mac[4], &link_.mac[5]) != ETH_ALEN)
		die(mac);
	init_mb_mgr_auto(link_.mb, NULL);
	IMB_AES128_GCM_PRE(link_.mb, key, &link_.key);
}

/* A frame becomes IV, packet, ICV. Return: its length, from *p on */
static ssize_t seal(uint8_t **p, ssize_t n)
{
	struct gcm_context_data ctx;
	uint8_t nonce[12] = {0};

	link_.n++;
	memcpy(nonce + 4, &link_.n, IV);
	*p += ETH_HLEN - IV;
	n -= ETH_HLEN;
	memcpy(*p, &link_.n, IV);
	IMB_AES128_GCM_ENC(link_.mb, &link_.key, &ctx, *p + IV, *p + IV, (uint64_t)n, nonce, *p, IV, *p + IV + n, ICV);
	return IV + n + ICV;
}

/* Back to a frame for the veth. The ICV is computed and, as every check, not looked at. */
static ssize_t unseal(uint8_t **p, ssize_t n)
{
	struct gcm_context_data ctx;
	uint8_t nonce[12] = {0}, icv[ICV];

	if (n < IV + 1 + ICV)
		return 0;
	memcpy(nonce + 4, *p, IV);
	n -= IV + ICV;
	IMB_AES128_GCM_DEC(link_.mb, &link_.key, &ctx, *p + IV, *p + IV, (uint64_t)n, nonce, *p, IV, icv, ICV);
	*p -= ETH_HLEN - IV;
	memcpy(*p, link_.mac, ETH_ALEN);
	memcpy(*p + ETH_ALEN, link_.mac, ETH_ALEN);
	memcpy(*p + 2 * ETH_ALEN, (*p)[ETH_HLEN] >> 4 == 6 ? "\x86\xdd" : "\x08\x00", 2);
	return n + ETH_HLEN;
}

/* What there is of one, to the other; what that does not take is gone. */
static void carry(int from, int to, bool out)
{
	static uint8_t room[64 + ROOM + ICV];
	uint8_t *p;
	ssize_t n;

	for (int i = 0; i < TURN && (n = read(from, room + 64, ROOM)) > 0; i++) {
		p = room + 64;
		if (link_.mb)
			n = out ? seal(&p, n) : unseal(&p, n);
		if (write(to, p, (size_t)n) < 0 && errno != EAGAIN && errno != ENOBUFS && errno != ECONNREFUSED && errno != EIO && errno != EINVAL)
			die("write");
	}
}

int main(int argc, char **argv)
{
	struct epoll_event ev[2];
	int ends[2], epfd = epoll_create1(0), n;

	if (argc != 5 && argc != 7) {
		fprintf(stderr, "usage: bare DEVICE OWN FAR PORT [NETNS MAC]\n");
		return 2;
	}
	ends[0] = open_tun(argv[1], argc == 7 ? argv[5] : NULL);
	ends[1] = open_udp(argv[2], argv[3], argv[4]);
	if (argc == 7)
		open_link(argv[6]);
	for (unsigned int i = 0; i < 2; i++)
		if (epoll_ctl(epfd, EPOLL_CTL_ADD, ends[i], &(struct epoll_event){.events = EPOLLIN, .data.u32 = i}))
			die("epoll");
	for (;;) {
		n = epoll_wait(epfd, ev, 2, -1);
		for (int i = 0; i < n; i++)
			carry(ends[ev[i].data.u32], ends[!ev[i].data.u32], !ev[i].data.u32);
	}
}
