/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guard - the layers of fail-closed (I1, I1b) that live in routing, XFRM and nftables.
 *
 *   floors   `unreachable PREFIX metric 4294967294` in main, in underlay and workload namespaces
 *   xfrm     IPv4, out policies: allow PREFIX on its links, block it on every other device (also
 *            those that do not exist yet); peers' own addresses, and ESP and IKE, above that
 *   nft      table inet espwire_<instance>: prerouting drop of protected sources that do not arrive by
 *            a link of theirs (or lo); table ip6 espwire_<instance>: the default deny on the way out
 *            for IPv6, which XFRM cannot do (guard_xfrm.c says why). Both with counters
 *
 * What one removal alone opens, once a route to the wild side has been stolen as well (floors gone
 * round): IPv4 `ip xfrm policy flush` or disable_xfrm=1 on the device; IPv6 `nft flush ruleset`.
 * There the fourth layer stands, the tcx/clsact guard on underlay devices (load.h); the first is
 * the private backend namespace (ns.h). Without a stolen route every single removal is covered.
 *
 * All are installed before a link can come up, survive the daemon, and are removed only by
 * guard_release(). Of nested prefixes the longest decides, as in routing. Control thread only.
 */
#ifndef GUARD_H
#define GUARD_H

#include "conf.h"
#include "ipsec_shared.h"
#include "nl.h"

/**
 * struct guard_rule - one prefix and the devices that may carry it
 * Rules with equal prefixes count as one. A LAN behind a full tunnel is a rule too: its prefix, its
 * device. Names are exact ([A-Za-z0-9_.@+-]); another one stays blocked, with a line in the log.
 */
struct guard_rule {
	struct prefix prefix;
	char devices[64][IFNAMSIZ]; /* links that may carry it */
	unsigned int n_devices;
};

/**
 * struct guard_set - the whole truth for one namespace; guard_apply() makes it so
 * A prefix so short that the wild side's own life lies inside it (IPv4 below /8, IPv6 below /4) lets
 * pass, unless a narrower rule says otherwise: 224.0.0.0/24, broadcast, ff02::/16, fe80::/10, DHCP,
 * neighbour discovery, and inbound ICMP errors that quote one of our envelopes.
 */
struct guard_set {
	const char *instance;
	struct guard_rule *rules;
	unsigned int n_rules;
	struct in6_addr *peers; /* wild-side addresses that may be talked to in clear */
	unsigned int n_peers;
	struct in6_addr *ends; /* of transport mode links: ESP, IKE and neighbour discovery, and nothing else */
	unsigned int n_ends;   /* wins over peers */
	bool allow_ike;         /* ESP and UDP 500, 4500 to and from anybody inside such a short prefix */
	uint16_t ports[WORKER_MAX + 1]; /* with allow_ike: of our own UDP sockets, as good as 4500 (sock.h) */
	unsigned int n_ports;
	bool kernel;            /* some link's backend is the kernel: what has an XFRM state before it is no cleartext */
};

/**
 * guard_apply() - reconcile floors, XFRM policies and the nft tables of one namespace with the set
 * Adds before it removes; never a moment without. Idempotent (also over an earlier daemon's work),
 * and cheap when nothing changed. Call it again when a device of a rule was made anew: XFRM goes by
 * ifindex, and blocks the new device until then (nft goes by name). Other people's policies, routes
 * and tables are never touched: ours carry a tag (guard_xfrm.c), protocol 158, our table name.
 * What fails is logged with the layer's name and counted in *missing; other layers still go in.
 * Return: 0, or the first -errno.
 */
int guard_apply(struct nl *nl, int netns_fd, const struct guard_set *set, unsigned int *missing);

/**
 * guard_audit() - which layers stand for the set: bitmask of GUARD_FLOOR|GUARD_XFRM|GUARD_NFT fully present
 * GUARD_XFRM also needs disable_xfrm = 0 on every device but lo and the rules' own.
 */
enum { GUARD_FLOOR = 1, GUARD_XFRM = 2, GUARD_NFT = 4 };
int guard_audit(struct nl *nl, int netns_fd, const struct guard_set *set);

/** guard_nft_drops() - protected sources refused on arrival (reason plain-for-protected). Return: 0 or -errno */
int guard_nft_drops(int netns_fd, const char *instance, uint64_t *n);
/** guard_nft_cleartext() - IPv6 packets the table's output side refused (reason guard-cleartext). Return: 0 or -errno */
int guard_nft_cleartext(int netns_fd, const char *instance, uint64_t *n);

/** guard_release() - remove everything guard_apply() ever made for this instance in that namespace */
int guard_release(struct nl *nl, int netns_fd, const char *instance);

#endif
