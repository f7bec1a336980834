/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * underlay - the devices envelopes may use and the addresses that are ours there, followed by
 * netlink. Every underlay device carries the BPF guard; wire-in XDP where `input` allows it, on a veth with
 * `input = auto` only while it pays (intake.h).
 * Never a LAN device by accident: only what [underlay] names, or what routes lead to.
 * Control thread only.
 */
#ifndef UNDERLAY_H
#define UNDERLAY_H

#include "links.h"

struct underlay_dev {
	int ifindex;
	char name[IFNAMSIZ];
	bool veth;
	bool guard;  /* BPF guard attached */
	bool wire;   /* wire-in XDP attached */
	uint32_t mtu;
	int wire_err; /* why not: -EOPNOTSUPP, -EBUSY, ... */
};

/** underlay_refresh() - find the devices again and attach what is missing, detach from what left; addresses and shortcuts too */
int underlay_refresh(struct daemon *d);
/** underlay_addr() - an address has come: envelopes to it are ours from now on, not from the next tick on */
void underlay_addr(struct daemon *d, const struct nl_addr *a);
/** underlay_intake() - wire-in on and off on virtual wires, as intake.h says; every tick */
void underlay_intake(struct daemon *d, uint64_t now);
/** underlay_is() - is this ifindex one of them? */
bool underlay_is(const struct daemon *d, int ifindex);

#endif
