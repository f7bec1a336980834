/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nest - do the envelopes of a link come back to it? Asked of the routing tables at the moment an envelope of
 * another link enters it, which is rare, so that not even the first packet into a circle goes all around it.
 *
 * Threads: the control thread says where links are and how their envelopes travel; any worker asks. One lock.
 * Limits: of links behind the first, all paths in use are followed. Links in namespaces of their own end the way.
 */
#ifndef NEST_H
#define NEST_H

#include <stdbool.h>
#include <stdint.h>
#include "util.h"

struct nest;

/** struct nest_way - one path of a link, as a route query wants it */
struct nest_way {
	struct in6_addr remote, local; /* unspecified = none is known */
	uint32_t fwmark;
	uint8_t ipproto;
	uint16_t port; /* of the peer; 0 = the protocol has none */
	bool in_use;
};

/** nest_open() - for links 0 to n - 1, envelopes routed in that namespace. Return: 0 or -errno */
int nest_open(struct nest **np, int underlay_fd, unsigned int n);
void nest_close(struct nest *nest); /**< NULL is fine, here and below: then nothing ever comes back */

/** nest_place() - ipsecN of this link has that index in the underlay; 0 = it is not there */
void nest_place(struct nest *nest, uint16_t link, int ifindex);
/** nest_ways() - its paths, by number; the whole array is replaced. @n at most PATHS_MAX */
void nest_ways(struct nest *nest, uint16_t link, const struct nest_way *ways, unsigned int n);

/**
 * nest_returns() - would an envelope of this link on that path go round, in the link itself or in others behind it?
 * No end after NEST_MAX links counts as such, too. Some system calls per link on the way.
 */
bool nest_returns(struct nest *nest, uint16_t link, unsigned int path);

#endif
