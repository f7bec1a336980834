/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * path - how a link's envelopes travel: resolved or learned remote address, what the FIB answers
 * for it, MTU, and whether it leads into a tunnel again. Control thread only; DNS lookups run in
 * a thread of their own and are collected by path_tick().
 */
#ifndef PATH_H
#define PATH_H

#include "links.h"

void path_init(struct link *l);
/** path_recall() - new lines that say `any` begin where the peer was last heard; after path_init() */
void path_recall(struct daemon *d, struct link *l);
/** path_lookup() - ask the FIB again for every path of l. Return: true when something changed */
bool path_lookup(struct daemon *d, struct link *l);
enum path_state path_state(const struct link *l, unsigned int i, uint64_t now);
/**
 * path_pick() - which paths carry traffic now; the worker is told, with the kernel as backend by path_push() after it
 * Those that answer come before those that only have a route. Of them all that have a weight; where there is
 * none, the first. The kernel has one at a time (turns.h). Computed from what is the case now (I7). Return: true when changed
 */
bool path_pick(struct daemon *d, struct link *l);
/** path_tick() - collect DNS answers, start lookups that are due. Return: true when a remote changed */
bool path_tick(struct daemon *d, struct link *l);
/** path_told() - take what routers said of envelopes too big, forget what has aged. Return: true when an MTU changed */
bool path_told(struct daemon *d, struct link *l);
/** path_mtu() - what fits through every path in use with the suite in use, for mtu = auto; never below 1280 */
uint32_t path_mtu(const struct link *l);
/** path_raw_max() - the longest raw packet whose envelope fits mtu bytes */
uint32_t path_raw_max(const struct link *l, uint32_t mtu, bool outer4, bool udp);
/** path_spare() - of those, bytes that nobody uses: the kernel leaves room for IPv4 options in transport mode (BEET) */
uint32_t path_spare(const struct link *l, bool outer4);
/** path_loops() - mark paths whose envelopes the FIB leads back into a cycle of links */
void path_loops(struct daemon *d);
/** path_push() - copy remotes, marks and the choice into the worker's half */
void path_push(struct daemon *d, struct link *l);
/**
 * path_from_ike() - where its IKE daemon has found the peer, and whether in UDP: that path is the current one
 * The line of this address, else one that waits to learn it, else the one in use. link_follow_path() tells
 * everybody. Return: true when something changed
 */
bool path_from_ike(struct link *l, const struct in6_addr *remote, uint16_t port, enum encap encap);
/**
 * path_heard() - the kernel heard the peer of path i, authentic and in UDP, at another address or port
 * Return: true when that is news, and `from` allows it; not more often than a worker would learn
 */
bool path_heard(struct link *l, unsigned int i, const struct in6_addr *remote, uint16_t port);
/** path_take_endpoint() - copy what the worker learned of path i. Return: true when that was news */
bool path_take_endpoint(struct link *l, unsigned int i);
void path_free(struct link *l);

#endif
