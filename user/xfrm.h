/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xfrm - the kernel's IPsec in its own words: netlink messages that make states and policies, what its
 * states count, and whether this kernel can at all.
 *
 * Transport mode is mode BEET here: on the wire the same as long as its inner addresses are the outer ones, which these states
 * say. The kernel's own transport mode sends an envelope the way of the packet in it; from an xfrm device that is
 * back into the device (tried: `Local routing loop detected`).
 *
 * The *_msg() functions are pure. Whoever sends a message with a key in it wipes the buffer. Requests go
 * through nl.h's transport (NETLINK_XFRM), one bus per namespace; control thread only.
 * RFC 4301 4.4.2, linux/xfrm.h.
 */
#ifndef XFRM_H
#define XFRM_H

#include "nl.h"
#include "sa.h"

enum {
	XFRM_MSG_LEN = 2048,     /* room for any message here */
	XFRM_WINDOW_MAX = 4096,  /* the kernel's largest */
	XFRM_WINDOW_OUT = 32,    /* it wants one of outbound states with ESN, too */
	XFRM_MOVED_S = 1,        /* of a peer that goes on sending from another port it tells no more often */
};

/** struct xstate - one SA as the kernel is told of it */
struct xstate {
	const struct sa_conf *conf;   /* direction, SPI, suite, keys, mode, ESN, window; secret */
	struct in6_addr src, dst;     /* outer, of one family */
	uint32_t if_id;               /* of the xfrm device; also its reqid */
	uint32_t mark;                /* out: fwmark of envelopes, 0 = none */
	uint16_t sport, dport;        /* in UDP, host order; 0 = bare ESP */
	uint64_t seq;                 /* out: last number used; in: nothing up to here is taken */
	uint64_t hard_pkts, hard_bytes; /* no packet after so many, 0 = no limit; bytes: inner ones */
	uint64_t hard_s;              /* nor so long after the state was made */
	bool no_ecn, no_pmtu;         /* ecn = off; df = clear */
	const struct sel *sel;        /* in: takes in nothing else; NULL = everything. xfrm_has_words() */
	int offload;                  /* ifindex of the device that is asked to do the cryptography, 0 = none: xfrm_offload_read() */
};

/** struct xpolicy - what an xfrm device may send, or take in: all of one inner family */
struct xpolicy {
	bool out, is4;
	uint32_t if_id;
	struct in6_addr src, dst; /* outer, of the states; in: src and dst unspecified = any */
	bool outer4;              /* their family */
	uint32_t spi;             /* out: of the state in use, host order */
	enum sa_mode mode;
	const struct sel *sel;    /* not all of them, but these; before wider ones. NULL = all. xfrm_has_words() */
	uint32_t index;           /* to delete one that was found, 0 = by what it says */
};

/** xfrm_has_words() - can the kernel tell packets by that? Its selectors know prefixes, not ranges; no ICMP types, no OPAQUE here */
bool xfrm_has_words(const struct sel *s);

/** struct xuse - what a state has counted */
struct xuse {
	uint64_t pkts, bytes;
	uint64_t seq; /* out: last number used; in: the highest taken */
	uint64_t made_s; /* when the state was made, wall clock; 0 = not known */
	struct in6_addr src; /* the outer source of the state */
};

/** struct xerr - what a state has refused */
struct xerr {
	uint32_t old, dup, icv; /* left of the window, seen before, not authentic */
};

/** struct xmapping - the peer of an inbound state in UDP is somewhere else: an authentic packet came from there */
struct xmapping {
	uint32_t spi, if_id;
	struct in6_addr dst; /* of the state */
	struct in6_addr to;
	uint16_t port;       /* host order */
};

/** struct xexpire - a state whose life is over, or soon will be, as the kernel tells it */
struct xexpire {
	uint32_t spi, if_id;
	struct in6_addr dst;
	bool hard;
	bool by_pkts, by_bytes; /* which limit; neither: time */
	uint64_t pkts, bytes;   /* that it has counted */
};

/** xfrm_state_msg() - into buf[XFRM_MSG_LEN], aligned to 8. NULL: a suite or window the kernel has no words for */
struct nlmsghdr *xfrm_state_msg(void *buf, const struct xstate *s);
/**
 * xfrm_limit_msg() - of a state that stands, all that it may be told anew: its limits, and ports if it is in UDP
 * already; as xfrm_state_msg()
 * No key goes over the wire: what the kernel does not look at is zero.
 */
struct nlmsghdr *xfrm_limit_msg(void *buf, const struct xstate *s);
/**
 * xfrm_seq_msg() - an outbound state that stands goes on behind seq, and not behind the number that it used last
 * Counters, key and IVs stay what they are. Never to a number below its own: then it would use numbers twice (I2).
 */
struct nlmsghdr *xfrm_seq_msg(void *buf, const struct in6_addr *dst, uint32_t spi, uint64_t seq);
struct nlmsghdr *xfrm_state_del_msg(void *buf, const struct in6_addr *dst, uint32_t spi);
/** xfrm_use_msg() - ask for counters and numbers: the one request whose answer holds no key */
struct nlmsghdr *xfrm_use_msg(void *buf, const struct in6_addr *dst, uint32_t spi);
/** xfrm_use_read() - the answer. Return: is it one? */
bool xfrm_use_read(const struct nlmsghdr *h, enum sa_dir dir, struct xuse *u);
/**
 * xfrm_err_msg() - ask for what it has refused; the answer holds its keys: nl_wipe() after it
 * xfrm_err_read() - the answer. Return: is it one?
 */
struct nlmsghdr *xfrm_err_msg(void *buf, const struct in6_addr *dst, uint32_t spi);
bool xfrm_err_read(const struct nlmsghdr *h, struct xerr *e);
/**
 * xfrm_offload_read() - the same answer: which device does its cryptography?
 * The kernel takes the wish for any device, and without a word does it itself where that one cannot.
 * @ifindex: 0 = none. Return: is it one?
 */
bool xfrm_offload_read(const struct nlmsghdr *h, int *ifindex);
/** xfrm_watch() - a socket that hears of states whose life is over, and of peers that moved, in the caller's namespace. Return: fd, or -errno */
int xfrm_watch(void);
/** xfrm_expire_read() - one message of it. Return: is it about an ESP state with an if_id? */
bool xfrm_expire_read(const struct nlmsghdr *h, struct xexpire *e);
/** xfrm_mapping_read() - one message of it. Return: is it about an ESP state of ours (reqid = if_id)? */
bool xfrm_mapping_read(const struct nlmsghdr *h, struct xmapping *m);
/** xfrm_policy_msg() - adds, or replaces an equal one's template */
struct nlmsghdr *xfrm_policy_msg(void *buf, const struct xpolicy *p);
/** xfrm_policy_get_msg() - is it there? -ENOENT = no */
struct nlmsghdr *xfrm_policy_get_msg(void *buf, const struct xpolicy *p);
struct nlmsghdr *xfrm_policy_del_msg(void *buf, const struct xpolicy *p);

enum { XFRM_IF_ID_MASK = 0xffff0000 };
/** xfrm_if_id() - those of an instance; the lower half is the link's. Far from what people count with */
uint32_t xfrm_if_id(const char *instance);
/** struct xfound - a state or policy that is there: what it takes to delete it */
struct xfound {
	uint32_t if_id;
	uint32_t spi;        /* of a state; 0 = it is a policy */
	struct in6_addr dst; /* of a state */
	bool out, is4;       /* of a policy */
	bool whole;          /* it is for all of its inner family */
	uint32_t index;      /* the kernel's number of it */
};

/**
 * xfrm_sweep() - delete every state and policy whose if_id is this one under the mask
 * @keep: says which are to stay; NULL = none
 * Return: 0 or the first -errno
 */
int xfrm_sweep(struct nl *bus, uint32_t mask, uint32_t if_id, bool (*keep)(void *arg, const struct xfound *f), void *arg);

/**
 * xfrm_probe() - does this kernel do ESP, and has it xfrm devices?
 * Tried, not guessed: a state and a device are made in a namespace of ours and taken away again. May load modules.
 * @why: what is missing, as a sentence without its end
 * Return: 0 or -EOPNOTSUPP
 */
int xfrm_probe(int netns_fd, struct nl *nl, char *why, size_t len);

#endif
