/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * emit - envelopes leave through the worker's sockets, so that ordinary routing, ip rules (fwmark
 * as per-message data), neighbours, PMTU and the OUTPUT firewall all see them (seed, conclusion 4).
 *
 * Queue runs, then flush: one sendmmsg() per socket. A run of equal-sized envelopes to a UDP path
 * is one message with UDP_SEGMENT. Owned by one worker thread. Every envelope that does not leave
 * is counted on its link with a reason.
 *
 * The sockets stand at IP_PMTUDISC_PROBE: DF is set and the kernel's learned path MTUs do not count,
 * which anybody can plant by an ICMP error about a ping. What an envelope may be is known per path
 * (wpath.mtu). A longer one goes with IP_PMTUDISC_DONT: the stack may cut it, and in IPv4 any router.
 */
#ifndef EMIT_H
#define EMIT_H

#include <netinet/in.h>
#include <sys/socket.h>
#include "sock.h"
#include "worker.h"

enum { EMIT_MAX = 256, EMIT_RUN_SEGS = 64, EMIT_RUN_BYTES = 65000, EMIT_SENT = 256 };

struct sent;

/** struct emit_ears - whom to tell what error queues say of envelopes that the stack took */
struct emit_ears {
	/* our own stack says that n envelopes of s found no next hop: a neighbour that does not answer is
	 * known only seconds after sendmsg() took them */
	void (*lost)(void *arg, const struct sent *s, unsigned int n);
	/* somebody, who quotes an envelope to dst that begins with esp (8 bytes), says that only mtu bytes pass (IP header
	 * included, 0 = he does not say); not authentic by itself */
	void (*too_big)(void *arg, const struct in6_addr *dst, const uint8_t *esp, uint32_t mtu);
	void *arg;
};

/** struct run - consecutive envelopes of one SA at data, seg bytes each, the last may be shorter */
struct run {
	uint8_t *data;
	uint32_t len;
	uint32_t seg;
	uint16_t n;
	uint8_t tos;
	uint8_t ttl;          /* 0 = the socket's */
	uint8_t df;           /* DF_AUTO, DF_SET, DF_CLEAR; IPv6 has none: DF_CLEAR is DF_AUTO there */
	bool probe;           /* ours: not in the books of raw packets */
	uint8_t path;         /* index into the link's paths */
	uint8_t carrier;      /* which worker sends it, see carry.h */
	struct in6_addr src;  /* unspecified = the path's; transport mode: the raw packet's */
	uint32_t inner_bytes; /* of all n */
	struct wlink *link;
	struct wsa_out *sa;   /* which seals them */
};

/**
 * struct emit_msg - a run as its sockets see it: all that sendmsg() wants, and nothing that is the link's, so that any
 * worker can send it (handoff.h). Result: how many of n the stack took, and why not the rest
 */
struct emit_msg {
	uint8_t *data;
	uint32_t len, seg;
	uint32_t mark;
	struct in6_addr dst, src; /* src unspecified = the routing tables choose */
	uint16_t port;        /* UDP, host order; 0 = bare ESP */
	uint16_t n;
	uint8_t tos, ttl;
	bool whole;           /* one message, cut by UDP_SEGMENT; else one per envelope */
	bool cut;             /* may be fragmented from the first try on */
	bool df;              /* never, also where the device's MTU has shrunk */
	/* for what comes back later */
	bool probe;
	uint16_t giver;       /* worker whose link it is */
	uint16_t link, gen;
	uint32_t inner_bytes; /* of all n */
	/* result */
	uint16_t sent;
	int err;              /* an errno; 0 = all were sent */
};

/** struct sent - what an error queue may still tell of a run that the stack took */
struct sent {
	uint32_t spi;
	uint32_t seq;         /* of the first envelope, low half */
	uint32_t inner_bytes; /* of all n */
	uint16_t giver, link, gen;
	uint16_t n;
	bool probe;
	bool whole; /* one message: it arrives or dies as one */
};

struct emit {
	struct socks *socks;
	struct worker_stats *stats;
	struct load *load;
	uint16_t worker;      /* whose it is */
	unsigned int n;
	struct run runs[EMIT_MAX];
	struct emit_msg msgs[EMIT_MAX]; /* of runs */
	unsigned int n_sent; /* ever: the newest is sent[(n_sent - 1) % EMIT_SENT] */
	struct sent sent[EMIT_SENT];
};

/** emit_run() - queue; r->data must stay until emit_flush(). Flushes by itself when full. */
void emit_run(struct emit *e, const struct run *r);
void emit_flush(struct emit *e);
/** emit_address() - r as a message by its path, of the links of worker giver. Return: 0, or the errno that it fails with */
int emit_address(struct emit_msg *m, const struct run *r, uint16_t giver);
/** emit_send() - n of them, by e's sockets, results in place */
void emit_send(struct emit *e, struct emit_msg *const *m, unsigned int n);
/** emit_book() - the results of one, in the books of its link */
void emit_book(struct wlink *l, unsigned int path, const struct emit_msg *m);
/** emit_errors() - drain the sockets' error queues. What else an ICMP message claims is nobody's (I4) */
void emit_errors(struct emit *e, const struct emit_ears *ears);
/** emit_keepalive() - RFC 3948 2.3, on a path of l, which is UDP and known. Return: 0 or an errno */
int emit_keepalive(struct emit *e, struct wlink *l, unsigned int path);
/** emit_drop_reason() - what an errno of sendmsg() means */
enum drop emit_drop_reason(int err);

#endif
