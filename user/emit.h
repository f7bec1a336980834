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
	struct in6_addr src;  /* unspecified = the path's; transport mode: the raw packet's */
	uint32_t inner_bytes; /* of all n */
	struct wlink *link;
	struct wsa_out *sa;   /* which seals them */
};

/** struct sent - what an error queue may still tell of a run that the stack took */
struct sent {
	uint32_t spi;
	uint32_t seq;         /* of the first envelope, low half */
	uint32_t inner_bytes; /* of all n */
	uint16_t link, gen;
	uint16_t n;
	bool probe;
	bool whole; /* one message: it arrives or dies as one */
};

struct emit {
	struct socks *socks;
	struct worker_stats *stats;
	struct load *load;
	unsigned int n;
	struct run runs[EMIT_MAX];
	unsigned int n_sent; /* ever: the newest is sent[(n_sent - 1) % EMIT_SENT] */
	struct sent sent[EMIT_SENT];
};

/** emit_run() - queue; r->data must stay until emit_flush(). Flushes by itself when full. */
void emit_run(struct emit *e, const struct run *r);
void emit_flush(struct emit *e);
/** emit_errors() - drain the sockets' error queues. What else an ICMP message claims is nobody's (I4) */
void emit_errors(struct emit *e, const struct emit_ears *ears);
/** emit_keepalive() - RFC 3948 2.3, on a path of l, which is UDP and known. Return: 0 or an errno */
int emit_keepalive(struct emit *e, struct wlink *l, unsigned int path);
/** emit_drop_reason() - what an errno of sendmsg() means */
enum drop emit_drop_reason(int err);

#endif
