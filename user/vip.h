/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vip - virtual addresses (RFC 7296 2.19): what the peer's pool has given us stands on the device, and to what ours
 * has given the peer there is a route into it, for as long as the link sends on an SA for it. Control thread only.
 *
 * Both are read off the selectors of SAs: strongSwan narrows the side that is said to be "dynamic" to the address that was
 * given. So an address comes and goes with its SA, in one message with it, and packets from another one are not
 * accepted. What an ipsecd leaves behind when it is killed carries its mark (NL_PROTO_ESPWIRE) and is taken away by the next.
 */
#ifndef VIP_H
#define VIP_H

#include "links.h"

/** vip_follow() - device and routes as the SAs in use say it; event `virtual-address` for each that comes or goes */
void vip_follow(struct daemon *d, struct link *l);
/** vip_restore() - put back what the kernel took when the device went down or was deleted */
void vip_restore(struct daemon *d, struct link *l);
/** vip_clear() - take all away: its section says something else about them now */
void vip_clear(struct daemon *d, struct link *l);
/** vip_sweep() - what a predecessor left on devices that were adopted; before the first SA */
void vip_sweep(struct daemon *d);

#endif
