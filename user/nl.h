/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nl - rtnetlink and ethtool requests, one struct nl per network namespace (libmnl).
 *
 * Control plane only; synchronous; every call returns 0 or -errno (the kernel's extended ack text
 * is kept for nl_err()). Names and ifindexes are of the namespace the struct was opened in. A second
 * socket per namespace carries notifications.
 *
 * Threads: requests are serialised by a lock inside, so any thread may call; nl_err() and the
 * monitor belong to one thread. The *_each() functions collect the whole dump first (repeated when
 * the kernel says it was interrupted), so their callbacks may make requests of their own.
 */
#ifndef NL_H
#define NL_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include "util.h"

struct nl; /* one namespace */

/** nl_open() - @netns_fd: -1 = the caller's. The calling thread's own namespace is unchanged afterwards */
int nl_open(struct nl **nlp, int netns_fd);
void nl_close(struct nl *nl);
/**
 * nl_on_wait() - fn(arg, true) before each request of this thread, fn(arg, false) after its answer
 * A request may wait for seconds: the kernel's network lock is one for all. NULL: nobody is told.
 */
void nl_on_wait(void (*fn)(void *arg, bool waits), void *arg);
const char *nl_err(const struct nl *nl); /**< kernel's words for the last failure, "" if none */

/* ---- transport, for those who speak another netlink family (guard: NETLINK_XFRM) ---- */
struct nlmsghdr;
typedef int (*nl_msg_fn)(void *arg, const struct nlmsghdr *h);       /* 0, or -errno: ends the request with it */
typedef bool (*nl_row_fn)(const struct nlmsghdr *h, void *zeroed_row); /* false: not a row */
int nl_open_bus(struct nl **nlp, int netns_fd, int bus);
/** nl_request() - send h, give every reply to fn (may be NULL), return the acknowledgement */
int nl_request(struct nl *nl, struct nlmsghdr *h, nl_msg_fn fn, void *arg);
/** nl_wipe() - what was received may have held keys */
void nl_wipe(struct nl *nl);
/** nl_dump() - rows of one dump in a malloc'd array (free() it); consistent, or -EINTR after many tries */
int nl_dump(struct nl *nl, struct nlmsghdr *h, size_t row_size, nl_row_fn parse, void **rowsp, size_t *np);

/* ---- devices ---- */
enum { NL_LOWER_UP = 1 << 16 }; /* linux/if.h's IFF_LOWER_UP, which net/if.h lacks */
enum { NL_ON_LINKDOWN4 = 1, NL_ON_NO_XFRM = 2, NL_ON_LINKDOWN6 = 4, NL_ON_KEEP_ADDR6 = 8 }; /* ignore_routes_with_linkdown, disable_xfrm; keep_addr_on_down */
struct nl_link {
	int ifindex;
	char name[IFNAMSIZ];
	char kind[16]; /* "veth", "tun", "" = physical/loopback */
	uint32_t mtu;
	uint32_t mtu6;     /* IPv6's own, which a router advertisement may lower; 0 = no IPv6 there */
	unsigned int flags; /* IFF_*, and NL_LOWER_UP: carrier */
	uint8_t operstate;
	bool dormant;      /* its mode: with a carrier it is dormant, not up (RFC 2863) */
	uint8_t mac[6];
	int peer_ifindex;  /* IFLA_LINK, 0 = none */
	bool peer_elsewhere; /* in another namespace */
	char alias[128];
	char altname[IFNAMSIZ + 8]; /* the first of them, "" = none */
	unsigned int on;   /* NL_ON_*: sysctls of the device */
	uint64_t tx_dropped, rx_dropped, tx_packets, rx_packets;
	bool deleted;      /* in notifications */
};
struct veth_spec {
	const char *name;  /* end in this namespace */
	const char *peer;  /* other end */
	int peer_netns_fd; /* -1 = same namespace */
	uint32_t peer_group;  /* interface group of `peer`, 0 = none: see nl_group_del() */
	uint32_t mtu;
	uint32_t txqlen;
	const uint8_t *mac, *peer_mac; /* NULL = kernel's choice */
	bool noarp;        /* `name`: NOARP and MULTICAST, no IPv6 address generation (addr_gen_mode none) on either end */
};
int nl_veth_add(struct nl *nl, const struct veth_spec *v); /* one queue each way on both ends */
/**
 * nl_veth_take() - a pair that somebody made, both ends in this namespace, becomes what nl_veth_add() makes
 * Of v: names, namespace and group of the peer, txqlen, noarp. Addresses and routes of v->name stay, the
 * peer loses its own as it moves. Return: 0 or -errno; a pair that was taken half way can be taken again.
 */
int nl_veth_take(struct nl *nl, const struct veth_spec *v);
/**
 * nl_xfrm_add() - an xfrm device, down, addr_gen_mode none, in the namespace netns_fd (-1: it stays here)
 * Its states and policies are those of the namespace it is made in, this one. For a moment its name is taken here, too.
 */
int nl_xfrm_add(struct nl *nl, const char *name, uint32_t if_id, int netns_fd);
int nl_link_get(struct nl *nl, const char *name, struct nl_link *out);
int nl_link_get_index(struct nl *nl, int ifindex, struct nl_link *out);
int nl_link_each(struct nl *nl, void (*fn)(void *arg, const struct nl_link *l), void *arg);
int nl_link_del(struct nl *nl, int ifindex);
/** nl_group_del() - every device of a group at once: a thousand cost as much as one. -ENODEV = there was none */
int nl_group_del(struct nl *nl, uint32_t group);
int nl_link_set_up(struct nl *nl, int ifindex, bool up);
/** nl_link_set_dormant() - as nl_link.dormant; operstate follows at once where there is a carrier */
int nl_link_set_dormant(struct nl *nl, int ifindex, bool dormant);
int nl_link_set_mtu(struct nl *nl, int ifindex, uint32_t mtu);
int nl_link_set_alias(struct nl *nl, int ifindex, const char *alias);
int nl_link_set_netns(struct nl *nl, int ifindex, int netns_fd);
int nl_link_altname_add(struct nl *nl, int ifindex, const char *altname); /* -EEXIST is success when it is ours */
int nl_link_set_txqlen(struct nl *nl, int ifindex, uint32_t len);
/** nl_tx_csum_off() - ethtool: transmit checksum offload (and TSO) off; called from any thread */
int nl_tx_csum_off(struct nl *nl, const char *name);

/* ---- addresses, routes ---- */
struct nl_addr {
	int ifindex;
	struct in6_addr local, peer; /* v4-mapped; peer == local when not point-to-point */
	uint8_t prefix_len;
	uint8_t scope;
	uint8_t proto;     /* whose: 0 = nobody says, NL_PROTO_ESPWIRE = what SAs have brought */
	bool deleted;
};
int nl_addr_add(struct nl *nl, const struct nl_addr *a); /* replaces; v6 without DAD */
int nl_addr_del(struct nl *nl, const struct nl_addr *a);
int nl_addr_each(struct nl *nl, void (*fn)(void *arg, const struct nl_addr *a), void *arg);

enum { NL_RT_UNICAST = 1, NL_RT_UNREACHABLE = 7 };
enum { NL_PROTO_ESPWIRE = 158 }; /* rtm_protocol of what we install */
struct nl_route {
	struct prefix dst;
	int type;         /* NL_RT_* */
	int oif;
	uint32_t metric, table; /* table 0 = main */
	bool has_src, has_via;
	struct in6_addr src, via;
	uint8_t proto;
	uint32_t mtu;     /* RTAX_MTU, 0 = none */
	char dev[IFNAMSIZ]; /* nl_route_get(): name of oif */
	uint32_t route_mtu, dev_mtu; /* nl_route_get(): of the route itself, 0 = none; of its device */
	bool learned;     /* nl_route_get(): mtu came by ICMP and expires */
	bool deleted;
};
int nl_route_add(struct nl *nl, const struct nl_route *r); /* replaces an equal one (dst, table, metric) of ours; never other people's */
int nl_route_del(struct nl *nl, const struct nl_route *r);
/** nl_route_same() - would nl_route_add() of the one find the other and leave it? */
bool nl_route_same(const struct nl_route *a, const struct nl_route *b);
/** struct tc_bpf - a BPF program in a device's clsact, known by its priority and handle */
struct tc_bpf {
	uint32_t prio, handle;
	const char *name;
	int prog;
};
/** nl_tc_bpf() - direct action, at the ingress, in place of the one that stands there; a clsact is made if there is none */
int nl_tc_bpf(struct nl *nl, int ifindex, const struct tc_bpf *t);
/** nl_tc_filters() - filters in the device's clsact, whoever's. Return: how many, or -errno */
int nl_tc_filters(struct nl *nl, int ifindex);
int nl_route_each(struct nl *nl, int family, void (*fn)(void *arg, const struct nl_route *r), void *arg); /* 0 = both; all tables, all types */
int nl_route_each_proto(struct nl *nl, int family, uint8_t proto,
			void (*fn)(void *arg, const struct nl_route *r), void *arg); /* filtered by the kernel */
/**
 * nl_route_get() - what the FIB says for a locally sent packet
 * The kernel takes ipproto (and dport) here for TCP, UDP and ICMP only; for others (ESP: 50) rules that name the
 * protocol are read first, and their tables: before rules that do not name it, whatever their priorities.
 * Return: 0, -ENETUNREACH ... ; out->oif, src, via, table, mtu (what the kernel would go by: learned, of the
 * route, or of the device) and where that comes from
 */
int nl_route_get(struct nl *nl, const struct in6_addr *dst, const struct in6_addr *src_or_null, uint32_t fwmark, uint8_t ipproto,
		 uint16_t dport, struct nl_route *out);
/** nl_route_oif() - the device that nl_route_get() would name, and no more than that: some two questions less */
int nl_route_oif(struct nl *nl, const struct in6_addr *dst, const struct in6_addr *src_or_null, uint32_t fwmark, uint8_t ipproto,
		 uint16_t dport, int *oif);

/**
 * nl_hold() - until nl_let_go(), nl_route_get() asks once for rules and devices, and not with every route: for a round
 * of thousands, by one thread. What changes meanwhile is found in the next round.
 */
void nl_hold(struct nl *nl);
void nl_let_go(struct nl *nl);

/* ---- sysctl of that namespace (runs a thread inside it; /proc/sys) ---- */

/** struct nl_sysctl - one setting of a device */
struct nl_sysctl {
	const char *family, *name; /* "ipv4", "ignore_routes_with_linkdown" */
	const char *value;
	int err;                   /* out: 0 or -errno */
};
/** nl_sysctls() - settings of one device, all at once: going into a namespace costs more than they do. Return: the first error */
int nl_sysctls(struct nl *nl, const char *dev, struct nl_sysctl *s, unsigned int n);

/* ---- notifications ---- */
struct nl_events {
	void (*link)(void *arg, const struct nl_link *l);
	void (*addr)(void *arg, const struct nl_addr *a);
	void (*route)(void *arg, const struct nl_route *r);
	void (*rule)(void *arg);    /* the order in which tables are asked has changed */
	void (*overrun)(void *arg); /* ENOBUFS, nothing older follows: look at everything */
};
int nl_monitor_open(struct nl *nl);  /* Return: fd to poll, or -errno */
int nl_monitor_read(struct nl *nl, const struct nl_events *ev, void *arg); /* drains without blocking */

#endif
