/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * roll - what stands, asked once for many links that are about to be made or adopted: the devices of the underlay
 * and of the backend namespace, the underlay's addresses and those of its routes that are ours.
 *
 * It gets old while the links are made. What happens meanwhile waits in the sockets of the monitors, which were open
 * before. Control thread only.
 */
#ifndef ROLL_H
#define ROLL_H

#include "nl.h"

struct roll;

/** roll_call() - NULL = it cannot be had: whoever wants to know asks for himself, as without one */
struct roll *roll_call(struct nl *underlay, struct nl *backend);
void roll_free(struct roll *r); /* NULL is fine */
/** roll_link() - nl_link_get(), by the roll if there is one of this namespace */
int roll_link(const struct roll *r, struct nl *nl, const char *name, struct nl_link *out);
/** roll_addr(), roll_route() - does this very one stand? false = it does not, or there is no roll */
bool roll_addr(const struct roll *r, const struct nl *nl, const struct nl_addr *a);
bool roll_route(const struct roll *r, const struct nl *nl, const struct nl_route *rt);

#endif
