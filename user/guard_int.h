/* SPDX-License-Identifier: GPL-2.0-or-later */
/* guard_int - what the files of guard share: the plan, a checked and sorted copy of a guard_set. */
#ifndef GUARD_INT_H
#define GUARD_INT_H

#include "guard.h"

/* One prefix; equal prefixes of the set are one rule with all their devices. */
struct grule {
	struct prefix p;
	bool wide; /* so short that neighbours, DHCP and IKE live inside it */
	char (*devs)[IFNAMSIZ];
	unsigned int n_devs;
};

/* Sorted by family, address, length: a prefix stands directly before those inside it. */
struct gplan {
	char instance[INSTANCE_MAX];
	struct grule *r;
	unsigned int n, n4;     /* the first n4 are IPv4 */
	struct in6_addr *peers; /* only those inside a rule; sorted, no two equal */
	unsigned int n_peers;
	struct in6_addr *ends; /* likewise */
	unsigned int n_ends;
	bool allow_ike;
	uint16_t ports[WORKER_MAX + 1];
	unsigned int n_ports;
	bool kernel;
};

struct prefix guard_host_prefix(const struct in6_addr *a);

/* ---- guard_xfrm.c ---- */

/** xfrm_load() - what should stand (from the plan and the devices of now) and what does */
struct gxfrm;
int guard_xfrm_load(struct gxfrm **xp, struct nl *nl, int netns_fd, const struct gplan *plan);
void guard_xfrm_free(struct gxfrm *x);
/** Add or correct what lacks. Return: number of policies that could not be made; *err the first
 * reason */
unsigned int guard_xfrm_add(struct gxfrm *x, int *err);
int guard_xfrm_prune(struct gxfrm *x); /**< remove ours that the plan does not want */
bool guard_xfrm_complete(const struct gxfrm *x);
/** The name of a device whose policies are switched off (sysctl disable_xfrm), or false */
bool guard_xfrm_pierced(int netns_fd, const struct gplan *plan, char name[IFNAMSIZ]);

/* ---- guard_nft.c ---- */

int guard_nft_apply(int netns_fd, const struct gplan *plan);
bool guard_nft_complete(int netns_fd, const struct gplan *plan);
int guard_nft_release(int netns_fd, const char *instance);
/** guard_nft_others() - what other instances protect here; to->p is malloc'd. Return: 0, or -ENOMEM */
int guard_nft_others(int netns_fd, const char *instance, struct prefixes *to);

#endif
