/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * worker_priv - struct worker, shared by the files that make up the worker's two flows
 * (outbound.c, inbound.c, probe.c, keepalive.c, cover.c, carry.c) and its life (worker.c). Nobody else includes it.
 *
 * All of it belongs to the worker thread, save what is marked otherwise.
 */
#ifndef WORKER_PRIV_H
#define WORKER_PRIV_H

#include "audit.h"
#include "carry.h"
#include "emit.h"
#include "esp.h"
#include "gro.h"
#include "gso.h"
#include "load.h"
#include "outer.h"
#include "port.h"
#include "sock.h"
#include "tap.h"
#include "worker.h"

enum {
	OUT_ARENA = 512 << 10, /* envelopes of one round lie here back to back */
	OUT_PKTS = 512,
	TAP_BURST = 64,        /* reads per round: 16 gave only 16-packet UDP_SEGMENT runs */
	RX_BUFS = 32,
	RX_UDP_BUFS = 8,       /* GRO'd datagram trains are large: keep a round inside L2 */
	RX_BUF_LEN = 65536 + 4096 + 64 * 3, /* not a power of two, or all headers share cache sets */
	RX_HEADROOM = 64,
	SPARE_LEN = 256 << 10,
	AGAIN_LEN = 65536,
	TICK_NS = 50 * 1000 * 1000,
};

/* What the loop waits for, in the order it is served: the XSK funnel before the TAP, so that a flow that turns
 * sticky keeps order. */
enum worker_ev { EV_CALL, EV_CARRY, EV_RAW, EV_TAP, EV_WIRE, EV_RAW4, EV_RAW6, EV_UDP4, EV_UDP6, EV_N };

/** struct outq - raw packets of one round: written to the arena, sealed by link, sent as runs */
struct outq {
	uint8_t *arena;
	uint32_t used;
	unsigned int n_pkts, n_runs;
	struct esp_pkt pkts[OUT_PKTS];
	struct run runs[OUT_PKTS];
	uint16_t first[OUT_PKTS]; /* of a run: index into pkts */
	bool closed;              /* the last run takes no more */
};

/** struct inq - envelopes of one SA in arrival order */
struct inq {
	struct wsa_in *sa;
	unsigned int n;
	struct esp_pkt pkts[ESP_BATCH];
	struct rx_meta meta[ESP_BATCH];
};

struct call {
	struct call *next;
	int (*fn)(struct worker *w, void *arg);
	void *arg;
	int result;
	bool done;
};

struct worker {
	struct worker_conf conf;
	pthread_t thread;
	_Atomic bool running, stop;
	bool stays; /* on one core, see worker_stay() */
	int epfd, evfd;

	/* mailbox: any thread puts, the worker takes */
	pthread_mutex_t call_lock;
	pthread_cond_t call_done;
	struct call *calls;

	struct wlink **links; /* [max_links] by id */
	unsigned int max_links;
	struct wlink **active; /* the same, packed, for the tick */
	unsigned int n_active;
	struct spi_slot {
		uint32_t spi_be;
		struct wsa_in *sa;
	} *spis; /* open addressing, power of two, never more than half full */
	unsigned int spi_mask, n_spis;

	uint64_t now; /* CLOCK_BOOTTIME of this round */
	uint64_t next_tick;
	uint64_t next_cover; /* the first of all links; 0 = none is due before the next tick */
	uint64_t lap; /* clocks() when the last stage ended */

	struct tap tap;
	struct port *raw, *wire; /* XSK funnels; NULL = sockets and TAP do it all */
	struct socks socks;
	struct emit emit;
	struct carry carry;
	struct outq out;
	struct inq in;
	struct gro *gro;
	uint8_t *tap_buf;
	uint8_t *rx_buf; /* RX_BUFS * RX_BUF_LEN */
	uint8_t *spare;  /* packets that outgrew their place, until they are delivered */
	uint32_t spare_used;
	uint8_t *again;  /* a packet as it came, in case its high half must be searched for */
	struct worker_stats stats;
	struct audit audit;
};

/** stage_end() - what has passed since the last stage ended went into this one, for n packets */
static inline void stage_end(struct worker *w, enum stage s, unsigned int n)
{
	uint64_t t = clocks();

	bump(&w->stats.stage[s].clocks, t - w->lap);
	bump(&w->stats.stage[s].packets, n);
	bump(&w->stats.stage[s].calls, 1);
	w->lap = t;
}

/** wlink_can_send() - has it an SA, and is it known where envelopes go? For packets of ours */
static inline bool wlink_can_send(const struct wlink *l)
{
	return l->admin_up && l->out && l->n_paths && !IN6_IS_ADDR_UNSPECIFIED(&l->paths[l->cur_path].remote);
}

/** may_be_at() - is the peer followed there? (`from`) */
static inline bool may_be_at(const struct wpath *p, const struct in6_addr *a)
{
	for (unsigned int i = 0; i < p->n_from; i++)
		if (prefix_match(&p->from[i], a))
			return true;
	return !p->n_from;
}

/** came_by() - is this envelope from where that path leads? */
static inline bool came_by(const struct wpath *p, const struct rx_meta *m)
{
	return !memcmp(&p->remote, &m->src, sizeof m->src) && p->encap == m->encap &&
	       (m->encap != ENCAP_UDP || p->port == m->port);
}

/* outbound.c */
/** out_sa() - the outbound SA that an IP packet of l goes by (RFC 4301 4.4.1). Return: DROP_NONE, or why there is none for it */
enum drop out_sa(const struct wlink *l, const uint8_t *ip, uint32_t len, struct wsa_out **o);
/** out_room() - where the next inner packet of l by o of up to len bytes is to be written; may flush the round */
uint8_t *out_room(struct worker *w, const struct wlink *l, const struct wsa_out *o, uint32_t len);
/**
 * out_push() - a dummy of ours (probe, cover) written at out_room() joins the round, on that path of l. @next: NEXT_*
 * Return: DROP_NONE, or why the SA's life ended before it (life_take()); then it is not counted yet
 */
enum drop out_push(struct worker *w, struct wlink *l, struct wsa_out *o, unsigned int path, uint32_t len, uint8_t next);
/**
 * out_push_ip() - the IP packet written at out_room() joins the round, in the SA's mode. @probe: ours, not raw traffic
 * Return: as out_push(), or why transport mode does not carry it
 */
enum drop out_push_ip(struct worker *w, struct wlink *l, struct wsa_out *o, unsigned int path, uint32_t len, bool probe);
/** out_flush() - seal and emit the round */
void out_flush(struct worker *w);
/** outbound_tap() - a round from the GSO funnel. Return: frames read */
unsigned int outbound_tap(struct worker *w);

/** outbound_port() - a round from the raw XSK funnel. Return: frames read */
unsigned int outbound_port(struct worker *w);

/* inbound.c */
/** inbound_port() - a round from the wire funnel. Return: envelopes read */
unsigned int inbound_port(struct worker *w);
/** inbound_socket() - a round from one of our sockets. Return: envelopes read */
unsigned int inbound_socket(struct worker *w, int fd, bool udp, bool v4);
/** inbound_add() - one envelope from ESP header to ICV, in memory that stays until inbound_flush() */
void inbound_add(struct worker *w, uint8_t *esp, uint32_t len, const struct rx_meta *m);
void inbound_flush(struct worker *w);

/* probe.c */
void probe_tick(struct worker *w, struct wlink *l);
/** probe_read() - is this authentic dummy packet a probe of an ipsecd? */
bool probe_read(struct probe *p, const uint8_t *data, uint32_t len);
/** probe_input() - an authentic probe came in on l, as m says; newest: none before it had a higher number. p is used up
 * @back: the SA for the answer, that of the same set: so the peer hears that we have it (rekey.c); NULL = none */
void probe_input(struct worker *w, struct wlink *l, struct wsa_out *back, struct probe *p, const struct rx_meta *m, bool newest);
/**
 * probe_ping() - is this inner packet such an echo of the peer, and for us? Then it is answered here, and consumed
 * The stack could not: its answer would go into a device that has no carrier until it has come. It goes back by
 * the path on which the question came, as m says; NULL: the kernel opened it, and has but one.
 */
bool probe_ping(struct worker *w, struct wlink *l, const uint8_t *ip, uint32_t len, const struct rx_meta *m, bool newest);
/** probe_opened() - the kernel has opened what looked like either */
void probe_opened(struct worker *w, struct wlink *l, const uint8_t *ip, uint32_t len);
/** probe_ping_reply() - is this inner packet the answer to our echo? Then it is consumed */
bool probe_ping_reply(struct worker *w, struct wlink *l, const uint8_t *ip, uint32_t len);

/* pmtu.c */
/** pmtu_told() - see emit_ears.too_big; arg: the worker */
void pmtu_told(void *arg, const struct in6_addr *dst, const uint8_t *esp, uint32_t mtu);

/* keepalive.c */
void keepalive_tick(struct worker *w, struct wlink *l);

/* cover.c */
/** cover_tick() - send what dummies are due, on all links; sets w->next_cover */
void cover_tick(struct worker *w);

/* worker.c */
/** worker_stray() - books of a link this worker does not (yet) know; NULL when there can be none */
struct wlink_ctr *worker_stray(struct worker *w, uint16_t id);
struct wlink *worker_link(const struct worker *w, uint16_t id);
struct wsa_in *worker_spi(const struct worker *w, uint32_t spi_be);
/** worker_lost() - the stack took n envelopes of s and found no neighbour for them: emitted no more */
void worker_lost(struct worker *w, const struct sent *s, unsigned int n);

#endif
