/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ike - the door for an IKE daemon: what its plugin asks (ike_wire.h) becomes calls of sad.h, what
 * happens to its SAs becomes events. Control thread only.
 *
 * SOCK_SEQPACKET at [ike] socket, mode 0600: root only, by SO_PEERCRED as well. One IKE daemon at a
 * time: another one is refused while the first is connected. Nobody is waited for: replies and events
 * that a socket does not take close the connection, and the plugin comes back.
 *
 * An IKE daemon that dies leaves its SAs at work. When another one says hello, they are orphans: gone two
 * seconds after their link sends on an SA of the new one, or after ORPHAN_S. Until then, and where no
 * SA is left, the link is fail-closed as always (I1).
 */
#ifndef IKE_H
#define IKE_H

#include <systemd/sd-event.h>
#include "links.h"

enum { IKE_RETRY_S = 5 /* from one attempt of a link without SAs to the next */, IKE_ORPHAN_S = 60, IKE_LARVAL_S = 60, IKE_CONNS_MAX = 4 };

struct ike;

/** ike_open() - listen at path; replaces a dead predecessor's socket. Return: 0 or -errno with the reason logged */
int ike_open(struct ike **ip, struct daemon *d, sd_event *ev, const char *path);
/** ike_close() - connections end, SAs stay with their links; NULL is fine */
void ike_close(struct ike *k);
/** ike_tick() - orphans, SPIs nobody came back for, links that shall come up by themselves and have not */
void ike_tick(struct ike *k, uint64_t now);
/** ike_on_life() - an SA of its reached a limit: event EXPIRE. Said again to a plugin that comes back */
void ike_on_life(struct ike *k, const struct sa *sa, bool hard);
/** ike_on_moved() - the peer of a link answers from elsewhere, authentically: events MAPPING */
void ike_on_moved(struct ike *k, const struct link *l);
/** ike_generation() - of the IKE daemon that said hello last, 0 = none has; @connected: is it there now? May be NULL */
uint64_t ike_generation(const struct ike *k, bool *connected);

#endif
