/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sock - the kernel sockets of one worker in the underlay namespace: protocol 50 and UDP, IPv4 and
 * IPv6. They emit (ordinary routing, rules, OUTPUT firewall), receive what XDP does not steer, keep
 * PMTU learned and keep the kernel from answering (I4).
 *
 * UDP lies on a private port, the same for both families. 4500 is for whoever does IKE on this host,
 * before or after us, with or without SO_REUSEPORT: bpf/ipsec_sock.bpf.c changes the number at the
 * edge. Always unconnected: a connected socket pins its source address.
 *
 * And the one pair by which the kernel's ESP gets what comes in UDP, likewise on a private port: it takes the packet
 * out of its datagram (UDP_ENCAP, RFC 3948) and never has anything to read. What the kernel sends in UDP needs no socket.
 */
#ifndef SOCK_H
#define SOCK_H

#include <stdint.h>

struct socks {
	int raw4, raw6;    /* protocol 50; -1 = this host has no such family */
	int udp4, udp6;
	uint16_t udp_port; /* of both, host order */
};

struct socks_conf {
	int underlay_fd;
	int filter_fd;  /* BPF socket filter: only this worker's SPIs */
};

/** socks_open() - Return: 0 or -errno */
int socks_open(struct socks *s, const struct socks_conf *c);
/** socks_open_kernel() - udp4 and udp6 as the kernel's ESP needs them, no raw ones. Return: 0 or -errno */
int socks_open_kernel(struct socks *s, int underlay_fd);
void socks_close(struct socks *s);
/** sock_udp_inode() - a socket of this network namespace bound to a UDP port, whoever's. Return: its inode, 0 = none */
unsigned long sock_udp_inode(uint16_t port);

#endif
