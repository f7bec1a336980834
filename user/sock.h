/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sock - the kernel sockets of one worker in the underlay namespace: protocol 50 and UDP 4500,
 * IPv4 and IPv6. They emit (ordinary routing, rules, OUTPUT firewall), receive what XDP does not
 * steer, keep PMTU learned and keep the kernel from answering (I4).
 *
 * Always unconnected: a connected socket pins its source address and steals an IKE daemon's packets.
 */
#ifndef SOCK_H
#define SOCK_H

#include <stdbool.h>
#include <stdint.h>

struct socks {
	int raw4, raw6; /* protocol 50 */
	int udp4, udp6; /* UDP; -1 when somebody else owns the port and sharing failed */
	bool own_4500;  /* udp4/udp6 are bound to 4500 */
};

struct socks_conf {
	int underlay_fd;
	int filter_fd;  /* BPF socket filter: only this worker's SPIs */
	int pick_fd;    /* BPF reuseport program, -1 = none */
};

/** socks_open() - Return: 0 or -errno; a busy port 4500 is not an error (own_4500 = false, udp on a private port) */
int socks_open(struct socks *s, const struct socks_conf *c);
void socks_close(struct socks *s);

#endif
