/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * device - the veth of a link: ipsecN in the workload namespace, bN in the backend namespace.
 * Made, or adopted when one of ours stands (also across a daemon's death), with its addresses,
 * names and sysctls. Control thread only.
 */
#ifndef DEVICE_H
#define DEVICE_H

#include <stdio.h>
#include "links.h"

/* interface groups of the backend ends, 256 links in each: what deletes one does not hold up everybody else for long */
enum { DEVICE_GROUP = 0xe59, DEVICE_GROUP_LINKS = 256 };

/**
 * device_make() - make or adopt; fills ifindex, b_ifindex; carrier stays down.
 * A pair that somebody made beforehand, ipsecN and bN in the workload namespace, is taken: what ipsecN has
 * been given stays, bN goes into the backend. Anything else of that name is -EEXIST.
 * Return: 0 or -errno, reason in errs
 */
int device_make(struct daemon *d, struct link *l, FILE *errs);
/** device_find() - of a link in the underlay's namespace, the device that a predecessor left: ifindex, b_ifindex */
void device_find(struct daemon *d, struct link *l);
/** device_config() - addresses, names, routes, sysctls as l->conf says; removes those that old (or NULL) had and conf has not */
int device_config(struct daemon *d, struct link *l, const struct link_conf *old, FILE *errs);
void device_set_mtu(struct daemon *d, struct link *l, uint32_t mtu);
/** device_set_carrier() - truth made visible: the backend end up or down */
void device_set_carrier(struct daemon *d, struct link *l, bool up);
/** device_set_dormant() - ipsecN has a carrier and is not up (RFC 2863): packets are routed into it, daemons that look at its
 * state keep away. IPv6 would take its routes for dead, so ignore_routes_with_linkdown is off as long */
void device_set_dormant(struct daemon *d, struct link *l, bool dormant);
/** device_restore() - put back what the kernel took when the device went down: the routes of `route =`, the link-local
 * address, without which OSPFv3 and unnumbered BGP are mute */
void device_restore(struct daemon *d, struct link *l);
/** device_routes() - those of `route =`, again: with its last address of a family the kernel takes all of that family */
void device_routes(struct daemon *d, struct link *l);
int device_del(struct daemon *d, struct link *l);
/** device_sweep() - delete backend ends that belong to no link: removed from the configuration while we were dead */
void device_sweep(struct daemon *d);
/** device_workload() - open the link's workload namespace (l->nl, l->netns_fd) */
int device_workload(struct daemon *d, struct link *l, FILE *errs);
void device_workload_close(struct link *l);

#endif
