/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guard - the layers of fail-closed (I1, I1b) that live in routing, XFRM and nftables.
 *
 *   floors   `unreachable PREFIX metric 4294967294` in main, in underlay and workload namespaces
 *   xfrm     out policies: allow PREFIX on its links, block it on every other device (also those
 *            that do not exist yet); allow ESP, IKE and a peer's own outer address above that
 *   nft      table inet espwire_<instance>: prerouting drop of protected sources that do not arrive by a
 *            link (or lo), with counters; peers' outer addresses excepted
 *
 * The fourth layer (tcx/clsact guard on underlay devices) is load.h; the first (private backend
 * namespace) is ns.h. All are installed before a link can come up, survive the daemon, and are
 * removed only by guard_release(). Prefixes are counted by reference when several links share one.
 */
#ifndef GUARD_H
#define GUARD_H

#include "conf.h"
#include "nl.h"

struct guard_rule {
	struct prefix prefix;
	char devices[64][IFNAMSIZ]; /* links that may carry it */
	unsigned int n_devices;
};

/** struct guard_set - the whole truth for one namespace; guard_apply() makes it so */
struct guard_set {
	const char *instance;
	struct guard_rule *rules;
	unsigned int n_rules;
	struct in6_addr *peers; /* wild-side addresses that may be talked to in clear */
	unsigned int n_peers;
	bool allow_ike;         /* UDP 500, 4500 to anybody when a prefix covers everything */
};

/**
 * guard_apply() - reconcile floors, XFRM policies and the nft table of one namespace with the set
 * Adds before it removes; never a moment without. Idempotent (also over an earlier daemon's work).
 * What fails is logged with the layer's name and counted in *missing; other layers still go in.
 * Return: 0, or the first -errno.
 */
int guard_apply(struct nl *nl, int netns_fd, const struct guard_set *set, unsigned int *missing);

/** guard_audit() - which layers stand for the set: bitmask of GUARD_FLOOR|GUARD_XFRM|GUARD_NFT fully present */
enum { GUARD_FLOOR = 1, GUARD_XFRM = 2, GUARD_NFT = 4 };
int guard_audit(struct nl *nl, int netns_fd, const struct guard_set *set);

/** guard_nft_drops() - protected sources refused on arrival (reason plain-for-protected). Return: 0 or -errno */
int guard_nft_drops(int netns_fd, const char *instance, uint64_t *n);
/** guard_nft_cleartext() - IPv6 packets the table's output side refused (reason guard-cleartext). Return: 0 or -errno */
int guard_nft_cleartext(int netns_fd, const char *instance, uint64_t *n);

/** guard_release() - remove everything guard_apply() ever made for this instance in that namespace */
int guard_release(struct nl *nl, int netns_fd, const char *instance);

#endif
