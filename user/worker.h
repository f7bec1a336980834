/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * worker - one thread, one core: reads raw packets from its funnels and envelopes from the wire
 * funnel and its sockets, runs ESP, emits and delivers. Sole writer of the mutable half of its
 * links and SAs; everybody else changes them through worker_call().
 */
#ifndef WORKER_H
#define WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "conf.h"
#include "ipsec_shared.h"
#include "ipsec_wire.h"
#include "sa.h"
#include "spread.h"

/** struct wpath_live - what the worker knows of one path; atomics: worker writes, control reads (relaxed) */
struct wpath_live {
	_Atomic uint64_t roundtrip_ns; /* last time a probe sent on it was answered (or a ping) */
	_Atomic uint64_t rtt_ns;
	_Atomic uint64_t asked_ns;     /* last probe sent on it */
	_Atomic uint64_t envelopes, bytes; /* that the stack took: ESP and what it carries, no outer headers */
	uint64_t n_left, left_ns;      /* envelopes as seen by the last tick, and when that last changed */
	uint64_t nonce;                /* of the question that waits for an answer; 0 = none does */
	uint64_t ping_sent_ns;         /* the same, of an echo */
	uint16_t ping_seq;
};

/** struct wpath - where envelopes of a link go. Writer: owning worker (control by worker_call) */
struct wpath {
	struct in6_addr remote; /* v4-mapped; unspecified = not known yet */
	struct in6_addr local;  /* unspecified = the routing tables choose */
	uint16_t port;          /* peer's UDP port, host order */
	uint8_t encap;          /* enum encap */
	uint32_t fwmark;
	struct in6_addr src;    /* what the routing tables chose for local; tells paths to one remote apart */
	bool learn;             /* follow authenticated packets (I4) */
	struct prefix from[FROM_MAX]; /* but only inside these; n_from 0 = anywhere */
	unsigned int n_from;
	bool usable;            /* the FIB has a route for it that does not lead into a tunnel again */
	bool loops;             /* it has one that does */
	bool in_use;            /* carries traffic now */
	uint64_t moved_ns;      /* last time its remote was learned */
	struct wpath_live live;
	_Atomic uint32_t mtu;   /* of one envelope, IP header included; 0 = not known. Control writes what it knows,
				 * the worker lowers it at a router's word and tells control (relaxed) */
};

/** struct wlink_live - liveness as the worker sees it; atomics: worker writes, control reads (relaxed) */
struct wlink_live {
	_Atomic uint64_t heard_ns;     /* last authenticated packet of any kind */
	_Atomic uint64_t roundtrip_ns; /* last time a probe of ours was answered (or a ping), on whatever path */
	_Atomic uint64_t peer_heard_ns; /* last time the peer said that it hears us */
	_Atomic uint64_t rtt_ns;       /* of the last answered probe */
	_Atomic uint64_t keepalives;   /* sent, RFC 3948 2.3 */
	_Atomic uint64_t covers;       /* dummies sent as cover traffic, RFC 4303 2.6 */
	_Atomic uint32_t moved;        /* endpoint changes learned; control compares with what it has seen */
	_Atomic uint32_t peer_speaks;  /* a probe of ours was understood: the peer is an ipsecd */
	_Atomic uint32_t tx_errno;     /* last errno of an emission that failed, 0 after a success */
	_Atomic uint32_t told_mtu[PATHS_MAX]; /* the least a router named; control takes it and leaves 0 */
};

/** struct resync - the search for the high half of a sender that got too far ahead, RFC 4303 A3 */
struct resync {
	uint32_t fails;   /* ICVs that failed in a row */
	uint32_t skip;    /* high halves tried in vain */
	uint64_t next_ns; /* not before */
};

/** struct wset - SAs of one link for the same packets. Writer: owning worker (control by worker_call) */
struct wset {
	struct wset *after;       /* the next one to look at on the way out: from narrow to wide */
	const struct sel *out_sel; /* n_sel 0 = what no narrower one is for */
	const struct sel *in_sel;
	unsigned int n_sel;
	struct wsa_out *out;      /* SA in use; NULL = none yet */
	struct wsa_out *next;     /* its successor, while the peer is asked whether it has it; or NULL */
};

/** struct wsa_in - an inbound SA in the worker */
struct wsa_in {
	struct sa_in sa;
	uint32_t slot;
	uint16_t sgen;
	uint16_t link;
	struct sa_ctr *ctr;
	struct life life;
	struct resync resync;
	const struct wset *set; /* what may come by it, and what goes back */
};

/** struct wsa_out - an outbound SA in the worker */
struct wsa_out {
	struct sa_out sa;
	uint32_t slot;
	uint16_t sgen;
	struct sa_ctr *ctr;
	struct life life; /* taken from when a packet joins the round, before it is sealed */
};

/** struct wlink - the worker's half of a link */
struct wlink {
	uint16_t id, gen;
	bool admin_up;
	bool kernel;              /* its SAs are the kernel's: of them the worker knows only that they are in place, and sends echoes */
	const struct sa_ctr *kernel_out; /* the slot of the one that sends; control writes there. NULL = none does */
	struct wset *sets;        /* NULL = there is no SA */
	struct wsa_out *out;      /* of the widest that lives: probes and dummies go by it; NULL = there is no SA */
	struct wsa_in *in;        /* the newest inbound one: its floor is told to the peer */
	unsigned int n_in;        /* inbound ones: with two, which one a floor is for would be a guess */
	struct wpath paths[PATHS_MAX + 1]; /* one more: WPATH_BACK */
	unsigned int n_paths;
	unsigned int cur_path;    /* of those in use the first */
	uint8_t carriers[WORKER_MAX]; /* workers that send and deliver for this one (carry.h) */
	unsigned int n_carriers;
	uint32_t reach;           /* numbers that may be on their way by them; 0 = they send no envelopes */
	bool shares;              /* flows are spread over several, by slot */
	bool peer_shares;         /* so does the peer, as it says: its packets come from several places */
	uint8_t slot[SPREAD_SLOTS];
	struct prefix *inner;     /* sources the peer may use; n_inner 0 = any */
	unsigned int n_inner;
	struct wlink_ctr *ctr;
	struct wlink_live live;
	enum liveness_mode mode;
	uint64_t interval_ns, next_probe_ns;
	struct { uint64_t asked_ns; bool back; } nested[PATHS_MAX]; /* nest_returns(), in the round that began then */
	unsigned int turn;        /* whose question leaves last, modulo n_paths: of those read together only the newest moves a peer */
	uint64_t keepalive_ns;    /* 0 = off */
	uint64_t cover_ns, next_cover_ns; /* between two dummies, 0 = none; when the next is due */
	struct in6_addr ping_src, ping_dst; /* LIVE_PING: inner echo */
	struct p2p addr4, addr6;  /* the link's own; transport mode puts them in the place of the wild side's */
	uint16_t ping_seq;        /* last one used, on any path */
	pthread_mutex_t path_lock; /* paths[]: worker writes under it, control reads under it */
	_Atomic uint32_t mtu;     /* of the device; control writes when it changes (relaxed) */
	struct outer_conf outer;
	uint32_t tfc;             /* shorter inner packets are padded to this, at most to mtu; 0 = off */
};

/* paths[WPATH_BACK]: to where the last question came from that came by none of the paths; answers go there */
enum { WPATH_BACK = PATHS_MAX };

/* of the echoes that stand for probes (liveness = ping), network order */
#define PROBE_ECHO_ID(link) htons((uint16_t)(0xe500u ^ (link)))
/* ICMP header and eight bytes; the whole packet */
enum { ECHO_LEN = 16 };
#define PROBE_ECHO_LEN(v4) (((v4) ? IP4_HDR_LEN : IP6_HDR_LEN) + ECHO_LEN)

struct worker;
struct load;
struct nl;
struct nest;

struct worker_conf {
	unsigned int index;
	unsigned int first_core; /* worker 0's, counted in what the process may use, modulo */
	int backend_fd, underlay_fd; /* namespaces */
	struct load *load;
	struct nl *nl_k;             /* backend namespace */
	struct nest *nest;           /* where envelopes in links lead; NULL = nobody looks */
	uint32_t gso_queue, xsk_queue;
	bool use_xsk;
	bool audit;
};

/** worker_new() - create funnels and sockets, do not start. Return: 0 or -errno with the reason logged */
int worker_new(struct worker **wp, const struct worker_conf *c);
int worker_start(struct worker *w);
/** worker_stop() - ask, join; workers that carry for each other: all, before the first is freed. NULL is fine */
void worker_stop(struct worker *w);
void worker_free(struct worker *w); /* stops it, too */

/**
 * worker_call() - run fn(w, arg) inside the worker thread and wait for it
 * The one way to change what the worker owns. When the worker is not running, runs it here.
 */
int worker_call(struct worker *w, int (*fn)(struct worker *w, void *arg), void *arg);

/* For use inside worker_call(): */
/** worker_probe_soon() - at the next tick, or a little later when many links might want that at once */
void worker_probe_soon(struct worker *w, struct wlink *l);
void worker_link_set(struct worker *w, struct wlink *l);     /* by l->id; replaces */
void worker_link_clear(struct worker *w, uint16_t id);
int worker_sa_in_set(struct worker *w, struct wsa_in *sa);   /* by slot and SPI */
void worker_sa_in_clear(struct worker *w, struct wsa_in *sa);

/**
 * worker_stay() - keep the worker on one core from now on; inside worker_call() too
 * A thread that the scheduler moves while its last envelopes wait in the old core's backlog sends the
 * next ones past them, up to a round's worth (OUT_PKTS). A peer with a window of WINDOW_NARROW or more
 * forgives that, and free choice of the core makes small packets a third faster where cores are shared.
 */
void worker_stay(struct worker *w);
enum { WINDOW_NARROW = 1024 };

/** enum stage - where a worker's time goes: the way out, the way in, work for other workers */
enum stage { STAGE_READ, STAGE_SEAL, STAGE_EMIT, STAGE_RECEIVE, STAGE_OPEN, STAGE_CHECK, STAGE_DELIVER, STAGE_CARRY, N_STAGES };

/** struct worker_stats - written by the worker, read relaxed by anyone */
struct worker_stats {
	_Atomic uint64_t loops, sleeps, tap_reads, tap_writes, sendmmsgs, sendmsgs_segs, recvmmsgs, recv_msgs, recv_pkts;
	_Atomic uint64_t wire_pkts, wire_bytes, wire_udp; /* envelopes by XDP; of them in UDP */
	_Atomic uint64_t xsk_rx, udp_gso_runs, tx_eagain, no_sa, torn, bad_stamp, esn_tries, esn_resyncs;
	_Atomic uint64_t given, carried; /* packets, to and from other workers */
	_Atomic uint64_t kicks, waits;   /* others woken; waited for others */
	struct {
		_Atomic uint64_t clocks, packets, calls;
	} stage[N_STAGES];
};
/** bump() - add to a counter only this thread writes: a plain add, no bus lock */
static inline void bump(_Atomic uint64_t *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}
struct audit;
/** worker_audit() - what it noted; for audit_take() */
struct audit *worker_audit(struct worker *w);
const struct worker_stats *worker_stats(const struct worker *w);
unsigned int worker_n_taps(const struct worker *w);
struct port_stats;
/** worker_port_stats() - of the raw and the wire funnel. Return: false when there are none */
bool worker_port_stats(const struct worker *w, struct port_stats *raw, struct port_stats *wire);
/** worker_wire_mtu() - longest envelope that AF_XDP takes in, the outer headers included; 0 = none */
uint32_t worker_wire_mtu(const struct worker *w);
unsigned int worker_n_xsks(const struct worker *w);
int worker_tap_ifindex(const struct worker *w);
/** worker_socks() - the sockets' fds into out[4] (the guardian keeps duplicates). Return: how many */
unsigned int worker_socks(const struct worker *w, int *out);
/** worker_udp_port() - private port of its UDP sockets, host order: what 4500 is on the wire */
uint16_t worker_udp_port(const struct worker *w);

#endif
