/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gso_tap_helper NETNS-A NETNS-B MODE PCAP - a wire between two TAPs, made of gso.c and gro.c
 *
 * Makes tapA and tapB (virtio headers, all offloads) in the two namespaces and carries packets
 * between them: what the kernel hands over is cut into wire segments (the first ones go to PCAP),
 * then written to the other TAP. MODE says how:
 *   segment  one by one, nothing claimed: the far kernel verifies every checksum itself
 *   merge    through gro.c
 *   corrupt  as merge, after flipping a payload bit of every 50th segment
 * Prints "ready", then, when its standard input ends, one JSON object of counts. Lives 60 s at
 * most.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "gro.h"
#include "gso.h"
#include "pkt.h"

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

enum { L2 = 14, FRAME = 2048, FRAMES = 4096, READS = 8, SUPER = 70000, PCAP_MAX = 3000 };

struct side {
	int fd;
	uint8_t mac[6];
	const char *name;
	struct {
		unsigned long frames, supers, tcp_supers, udp_supers, max_segs, need_csum, refused;
		unsigned long segs, corrupted_tcp, corrupted_udp; /* read from this side */
		unsigned long writes, merged, merged_tcp, merged_udp,
			write_errors; /* to this side */
	} n;
};

static struct side sides[2] = {
	{.name = "tapA", .mac = {2, 0, 0, 0, 0, 0xa}},
	{.name = "tapB", .mac = {2, 0, 0, 0, 0, 0xb}},
};
static uint8_t super[SUPER], frames[FRAMES][FRAME];
static enum { SEGMENT, MERGE, CORRUPT } mode;
static FILE *pcap;
static unsigned long recorded;
static struct gro *gro;

static void open_tap(struct side *s, const char *netns)
{
	const unsigned int offloads =
		TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_USO4 | TUN_F_USO6;
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int ns = open(netns, O_RDONLY | O_CLOEXEC);

	if (ns < 0 || setns(ns, CLONE_NEWNET))
		err(1, "%s", netns);
	close(ns);
	s->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (s->fd < 0)
		err(1, "/dev/net/tun");
	strcpy(ifr.ifr_name, s->name);
	if (ioctl(s->fd, TUNSETIFF, &ifr))
		err(1, "TUNSETIFF");
	if (ioctl(s->fd, TUNSETOFFLOAD, offloads))
		err(1, "TUNSETOFFLOAD");
	ifr.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(ifr.ifr_hwaddr.sa_data, s->mac, sizeof(s->mac));
	if (ioctl(s->fd, SIOCSIFHWADDR, &ifr))
		err(1, "SIOCSIFHWADDR");
}

static void record(const uint8_t *ip, uint32_t len)
{
	uint32_t head[4] = {recorded / 1000000, recorded % 1000000, len, len};

	if (recorded++ >= PCAP_MAX)
		return;
	fwrite(head, sizeof(head), 1, pcap);
	fwrite(ip, len, 1, pcap);
}

static void open_pcap(const char *path)
{
	static const uint32_t head[6] = {0xa1b2c3d4, 2 | 4 << 16, 0, 0, 65535, 101 /* raw IP */};

	pcap = fopen(path, "w");
	if (!pcap || fwrite(head, sizeof(head), 1, pcap) != 1)
		err(1, "%s", path);
}

/* --- towards a kernel ----------------------------------------------------------------------- */

static void write_out(void *arg, struct gro_out *out)
{
	struct side *to = arg;
	struct ether_header eth = {.ether_type = htons(out->family == 4 ? 0x0800 : 0x86dd)};
	struct iovec iov[GRO_SEGS + 3] = {{&out->vh, sizeof(out->vh)}, {&eth, sizeof(eth)}};

	memcpy(eth.ether_dhost, to->mac, 6);
	memcpy(eth.ether_shost, to->mac, 6);
	if (out->vh.hdr_len) {
		out->vh.hdr_len += L2;
		out->vh.csum_start += L2;
	}
	memcpy(iov + 2, out->iov, out->n_iov * sizeof(out->iov[0]));
	if (writev(to->fd, iov, out->n_iov + 2) != (ssize_t)(sizeof(out->vh) + L2 + out->bytes)) {
		to->n.write_errors++;
		return;
	}
	to->n.writes++;
	if (out->n_segs > 1) {
		to->n.merged += out->n_segs;
		if (out->vh.gso_type == VIRTIO_NET_HDR_GSO_UDP_L4)
			to->n.merged_udp++;
		else
			to->n.merged_tcp++;
	}
}

static void deliver(struct side *to, uint8_t *ip, uint32_t len)
{
	struct gro_out one = {.n_iov = 1, .n_segs = 1, .bytes = len, .family = ip[0] >> 4};

	if (mode != SEGMENT) {
		gro_add(gro, ip, len, 0, write_out, to);
		return;
	}
	one.iov[0] = (struct iovec){ip, len};
	write_out(to, &one);
}

/* --- from a kernel -------------------------------------------------------------------------- */

static void corrupt(struct side *from, const struct gso *g, uint8_t *ip, uint32_t len)
{
	if (mode != CORRUPT || len < 200 || from->n.segs % 50)
		return;
	ip[len - 20] ^= 0x08;
	if (g->proto == IPPROTO_TCP)
		from->n.corrupted_tcp++;
	else
		from->n.corrupted_udp++;
}

static void count(struct side *from, const struct gso *g)
{
	from->n.frames++;
	from->n.need_csum += g->need_csum && !g->seg_payload;
	if (g->n_segs > from->n.max_segs)
		from->n.max_segs = g->n_segs;
	if (!g->seg_payload)
		return;
	from->n.supers++;
	if (g->proto == IPPROTO_TCP)
		from->n.tcp_supers++;
	else
		from->n.udp_supers++;
}

/* Return: frames of the pool used. */
static unsigned int cut(struct side *from, struct side *to, const uint8_t *buf, uint32_t len,
			unsigned int used)
{
	struct virtio_net_hdr vh;
	struct gso g;

	memcpy(&vh, buf, sizeof(vh));
	buf += sizeof(vh);
	if (be16(buf + 12) != 0x0800 && be16(buf + 12) != 0x86dd)
		return used;
	if (gso_parse(&g, &vh, buf + L2, len - sizeof(vh) - L2, L2)) {
		from->n.refused++;
		return used;
	}
	count(from, &g);
	for (unsigned int i = 0; i < g.n_segs && used < FRAMES; i++) {
		uint8_t *ip = frames[used++];
		int n = gso_segment(&g, i, ip, FRAME);

		if (n < 0)
			errx(1, "gso_segment %d", n);
		record(ip, n);
		from->n.segs++;
		corrupt(from, &g, ip, n);
		deliver(to, ip, n);
	}
	return used;
}

static void carry(struct side *from, struct side *to)
{
	unsigned int used = 0;

	for (int i = 0; i < READS; i++) {
		ssize_t n = read(from->fd, super, sizeof(super));

		if (n < 0 && (errno == EAGAIN || errno == EIO)) /* EIO: not up yet */
			break;
		if (n < (ssize_t)sizeof(struct virtio_net_hdr) + L2)
			errx(1, "read %zd", n);
		used = cut(from, to, super, n, used);
	}
	gro_flush(gro, write_out, to);
}

static void print_side(const struct side *s, const char *end)
{
	printf("\"%s\":{\"frames\":%lu,\"supers\":%lu,\"tcp_supers\":%lu,\"udp_supers\":%lu,"
	       "\"max_segs\":%lu,\"need_csum\":%lu,\"refused\":%lu,\"segs\":%lu,"
	       "\"corrupted_tcp\":%lu,\"corrupted_udp\":%lu,\"writes\":%lu,\"merged\":%lu,"
	       "\"merged_tcp\":%lu,\"merged_udp\":%lu,\"write_errors\":%lu}%s",
	       s->name, s->n.frames, s->n.supers, s->n.tcp_supers, s->n.udp_supers, s->n.max_segs,
	       s->n.need_csum, s->n.refused, s->n.segs, s->n.corrupted_tcp, s->n.corrupted_udp,
	       s->n.writes, s->n.merged, s->n.merged_tcp, s->n.merged_udp, s->n.write_errors, end);
}

int main(int argc, char **argv)
{
	struct pollfd p[3] = {{.events = POLLIN}, {.events = POLLIN}, {.events = POLLIN}};

	if (argc != 5)
		errx(2, "usage: gso_tap_helper NETNS-A NETNS-B segment|merge|corrupt PCAP");
	alarm(60);
	mode = !strcmp(argv[3], "corrupt") ? CORRUPT : !strcmp(argv[3], "merge") ? MERGE : SEGMENT;
	open_pcap(argv[4]);
	gro = gro_new(true);
	for (int i = 0; i < 2; i++) {
		open_tap(&sides[i], argv[1 + i]);
		p[i].fd = sides[i].fd;
	}
	p[2].fd = STDIN_FILENO;
	puts("ready");
	fflush(stdout);
	while (!p[2].revents) {
		if (poll(p, 3, -1) < 0)
			err(1, "poll");
		if (p[0].revents)
			carry(&sides[0], &sides[1]);
		if (p[1].revents)
			carry(&sides[1], &sides[0]);
	}
	printf("{");
	print_side(&sides[0], ",");
	print_side(&sides[1], "}\n");
	gro_free(gro);
	return fclose(pcap) ? 1 : 0;
}
