/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * probe - liveness: is there a round trip? Between two ipsecd a dummy packet with a question
 * inside the ciphertext; to foreign peers an inner echo (liveness = ping). Worker thread only.
 * A reply is never answered, so nothing can ping-pong.
 *
 * A lost packet is not a dead peer: while the last round trip is fresh, a question that has waited for
 * a quarter of the interval is asked again, the same one, so that the answer to any of its copies counts.
 *
 * Every path that can be used is asked for itself, also one that stands by, and an answer goes back by the
 * path on which the question came: so both ends know of each path whether it carries both ways.
 */
#include <endian.h>
#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <sys/random.h>
#include "worker_priv.h"

/* Links whose questions would otherwise leave in one burst, for ever: spread by so much, at most an eighth of the interval. */
enum { FEW = 64, JITTER_NS = 250 * 1000 * 1000 };

/* Highest number our receiver has taken: the peer must send above it. 0 = nothing to say */
static uint64_t rx_floor(const struct wlink *l)
{
	return l->in && l->n_in == 1 ? *l->in->sa.replay.top : 0;
}

static void send_probe(struct worker *w, struct wlink *l, struct wsa_out *o, unsigned int path, struct probe *p)
{
	bool aside = path != l->cur_path && path != WPATH_BACK;

	p->flags |= (l->shares ? PROBE_F_SHARES : 0) | (aside ? PROBE_F_ASIDE : 0) |
		    (path & PROBE_PATH_MASK) << PROBE_PATH_SHIFT;
	memcpy(out_room(w, l, o, sizeof *p), p, sizeof *p);
	out_push(w, l, o, path, sizeof *p, NEXT_NONE);
}

static bool heard_lately(const struct worker *w, const struct wlink *l)
{
	uint64_t heard = atomic_load_explicit(&l->live.heard_ns, memory_order_relaxed);

	return heard && w->now - heard < 4 * l->interval_ns;
}

static void ask(struct worker *w, struct wlink *l, struct wsa_out *o, unsigned int path)
{
	struct wpath_live *v = &l->paths[path].live;
	struct probe p = {.magic = PROBE_MAGIC, .type = PROBE_REQUEST,
			  .flags = heard_lately(w, l) ? PROBE_F_HEARD : 0,
			  .interval_ms_be = htons(MIN(l->interval_ns / 1000000, 65535))};

	if (!v->nonce && getrandom(&v->nonce, sizeof v->nonce, GRND_NONBLOCK) < 0)
		v->nonce++;
	p.nonce = v->nonce;
	p.stamp_be = htobe64(w->now);
	p.floor_be = htobe64(rx_floor(l));
	send_probe(w, l, o, path, &p);
}

/* The question that was asked on this path is answered. */
static void answered(struct worker *w, struct wlink *l, struct wpath_live *v, uint64_t asked_ns)
{
	v->nonce = v->ping_sent_ns = 0;
	atomic_store_explicit(&v->roundtrip_ns, w->now, memory_order_relaxed);
	atomic_store_explicit(&v->rtt_ns, w->now - asked_ns, memory_order_relaxed);
	atomic_store_explicit(&l->live.roundtrip_ns, w->now, memory_order_relaxed);
	atomic_store_explicit(&l->live.peer_heard_ns, w->now, memory_order_relaxed);
	atomic_store_explicit(&l->live.rtt_ns, w->now - asked_ns, memory_order_relaxed);
}

/*
 * The way back: the path by which the question came. Several may lead to one remote, from addresses of
 * ours; and a peer may have several where we know one. What is authentic and the newest may be answered where
 * it came from; but nothing else is sent there, and nothing is learned from it here (I4).
 */
static unsigned int way_back(struct worker *w, struct wlink *l, const struct rx_meta *m, bool newest)
{
	struct wpath *back = &l->paths[WPATH_BACK];
	unsigned int found = WPATH_BACK;

	for (unsigned int i = 0; i < l->n_paths; i++) {
		if (!came_by(&l->paths[i], m))
			continue;
		if (!memcmp(&l->paths[i].src, &m->dst, sizeof m->dst))
			return i;
		if (found == WPATH_BACK || i == l->cur_path)
			found = i;
	}
	if (found != WPATH_BACK)
		return found;
	if (!newest || m->doubtful || !may_be_at(&l->paths[l->cur_path], &m->src))
		return l->cur_path;
	if (came_by(back, m) && !memcmp(&back->local, &m->dst, sizeof m->dst))
		return found;
	out_flush(w); /* an answer to somewhere else may wait in the round */
	back->remote = m->src;
	back->local = m->dst;
	back->port = m->port;
	back->encap = m->encap;
	back->fwmark = l->paths[l->cur_path].fwmark;
	return found;
}

/* ---- inner echo for foreign peers ---- */

/* By way of the deliver program and the link's xfrm device. */
static void seal_by_kernel(struct worker *w, struct wlink *l, uint8_t *ip, uint32_t len, bool v4)
{
	struct virtio_net_hdr vh = {0};
	struct {
		struct stamp st;
		uint16_t type_be;
	} __attribute__((packed)) eth = {
		.st = {.link = l->id, .gen = l->gen, .kind = STAMP_SEAL},
		.type_be = htons(v4 ? ETHERTYPE_IP : ETHERTYPE_IPV6),
	};
	struct iovec iov[] = {{&vh, sizeof vh}, {&eth, sizeof eth}, {ip, len}};

	if (tap_writev(&w->tap, iov, ARRAY_SIZE(iov)))
		return;
	l->ctr->out_probes++;
	l->ctr->kernel_probes++;
	l->ctr->kernel_probe_bytes += len;
}

/* struct echo - question or answer, from IP header to payload */
struct echo {
	uint8_t bytes[sizeof(struct ip6_hdr) + ECHO_LEN];
	uint32_t len;
	bool v4;
};

static uint64_t echo_ip4(uint8_t *buf, const struct in6_addr *src, const struct in6_addr *dst)
{
	struct ip ip = {.ip_v = 4, .ip_hl = 5, .ip_len = htons(sizeof ip + ECHO_LEN), .ip_off = htons(IP_DF), .ip_ttl = 64,
			.ip_p = IPPROTO_ICMP, .ip_src = addr_to4(src), .ip_dst = addr_to4(dst)};

	ip.ip_sum = csum_fold(csum_partial(&ip, sizeof ip, 0));
	memcpy(buf, &ip, sizeof ip);
	return 0;
}

static uint64_t echo_ip6(uint8_t *buf, const struct in6_addr *src, const struct in6_addr *dst)
{
	struct ip6_hdr ip6 = {.ip6_src = *src, .ip6_dst = *dst};

	ip6.ip6_vfc = 0x60;
	ip6.ip6_plen = htons(ECHO_LEN);
	ip6.ip6_nxt = IPPROTO_ICMPV6;
	ip6.ip6_hlim = 64;
	memcpy(buf, &ip6, sizeof ip6);
	return csum_partial(&ip6.ip6_src, 32, htonl(ECHO_LEN) + (uint64_t)htonl(IPPROTO_ICMPV6));
}

/* rest: identifier, number, payload as on the wire */
static struct echo echo_make(const struct in6_addr *src, const struct in6_addr *dst, bool answer,
			     const uint8_t rest[static ECHO_LEN - 4])
{
	struct echo e = {.v4 = addr_is4(dst)};
	uint8_t *icmp = e.bytes + (e.v4 ? sizeof(struct ip) : sizeof(struct ip6_hdr));
	uint64_t sum = e.v4 ? echo_ip4(e.bytes, src, dst) : echo_ip6(e.bytes, src, dst);

	if (e.v4)
		icmp[0] = answer ? ICMP_ECHOREPLY : ICMP_ECHO;
	else
		icmp[0] = answer ? ICMP6_ECHO_REPLY : ICMP6_ECHO_REQUEST;
	memcpy(icmp + 4, rest, ECHO_LEN - 4);
	memcpy(icmp + 2, &(uint16_t){csum_fold(csum_partial(icmp, ECHO_LEN, sum))}, 2);
	e.len = (uint32_t)(icmp - e.bytes) + ECHO_LEN;
	return e;
}

static void echo_send(struct worker *w, struct wlink *l, unsigned int path, struct echo *e)
{
	struct wsa_out *o;
	enum drop d;

	if (l->kernel) {
		seal_by_kernel(w, l, e->bytes, e->len, e->v4);
		return;
	}
	d = out_sa(l, e->bytes, e->len, &o);
	if (d) {
		l->ctr->drops_out[d]++;
		return;
	}
	memcpy(out_room(w, l, o, e->len), e->bytes, e->len);
	out_push_ip(w, l, o, path, e->len, true);
}

static void ping(struct worker *w, struct wlink *l, unsigned int path)
{
	struct wpath_live *v = &l->paths[path].live;
	uint8_t rest[ECHO_LEN - 4];
	uint32_t now = (uint32_t)w->now;
	struct echo e;

	if (!v->ping_sent_ns)
		v->ping_seq = ++l->ping_seq;
	memcpy(rest, &(uint16_t){PROBE_ECHO_ID(l->id)}, 2);
	memcpy(rest + 2, &(uint16_t){htons(v->ping_seq)}, 2);
	memcpy(rest + 4, PROBE_MAGIC, 4);
	memcpy(rest + 8, &now, 4);
	e = echo_make(&l->ping_src, &l->ping_dst, false, rest);
	v->ping_sent_ns = w->now;
	echo_send(w, l, path, &e);
}

/* Return: the ICMP header of an echo of such a length, NULL = something else */
static const uint8_t *echo_at(const uint8_t *ip, uint32_t len)
{
	bool v4 = ip[0] >> 4 == 4;
	uint32_t hl = v4 ? (ip[0] & 15) * 4u : sizeof(struct ip6_hdr);

	return len == hl + ECHO_LEN && (v4 ? ip[9] == IPPROTO_ICMP : ip[6] == IPPROTO_ICMPV6) ? ip + hl : NULL;
}

/* Between the link's own two addresses, from there to here? */
static bool echo_for_us(const struct wlink *l, const uint8_t *ip)
{
	const struct p2p *own = ip[0] >> 4 == 4 ? &l->addr4 : &l->addr6;
	unsigned int n = ip[0] >> 4 == 4 ? 4 : 16, off = ip[0] >> 4 == 4 ? 12 : 8;

	return own->set && !memcmp(ip + off, own->far.s6_addr + 16 - n, n) &&
	       !memcmp(ip + off + n, own->own.s6_addr + 16 - n, n);
}

bool probe_ping(struct worker *w, struct wlink *l, const uint8_t *ip, uint32_t len, const struct rx_meta *m, bool newest)
{
	const uint8_t *icmp = echo_at(ip, len);
	const struct p2p *own = ip[0] >> 4 == 4 ? &l->addr4 : &l->addr6;
	struct echo e;

	if (!icmp || icmp[0] != (ip[0] >> 4 == 4 ? ICMP_ECHO : ICMP6_ECHO_REQUEST) || memcmp(icmp + 8, PROBE_MAGIC, 4) ||
	    !echo_for_us(l, ip))
		return false;
	if (!l->admin_up || !(l->out || l->kernel) || !l->n_paths)
		return true;
	e = echo_make(&own->own, &own->far, true, icmp + 4);
	echo_send(w, l, m ? way_back(w, l, m, newest) : l->cur_path, &e);
	return true;
}

bool probe_ping_reply(struct worker *w, struct wlink *l, const uint8_t *ip, uint32_t len)
{
	const uint8_t *icmp = echo_at(ip, len);
	bool v4 = ip[0] >> 4 == 4;
	uint32_t asked;
	uint16_t id, seq;

	if (!icmp)
		return false;
	memcpy(&id, icmp + 4, 2);
	memcpy(&seq, icmp + 6, 2);
	memcpy(&asked, icmp + 12, 4); /* a question that was asked again is answered as often */
	if (icmp[0] != (v4 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY) || id != PROBE_ECHO_ID(l->id))
		return false;
	for (unsigned int i = 0; i < l->n_paths; i++) {
		struct wpath_live *v = &l->paths[i].live;

		if (v->ping_sent_ns && seq == htons(v->ping_seq))
			answered(w, l, v, w->now - ((uint32_t)w->now - asked));
	}
	return true;
}

void probe_opened(struct worker *w, struct wlink *l, const uint8_t *ip, uint32_t len)
{
	if (len < IP4_HDR_LEN || !(probe_ping_reply(w, l, ip, len) || probe_ping(w, l, ip, len, NULL, false)))
		return;
	l->ctr->in_probes++;
	l->ctr->kernel_echo_bytes += len;
	atomic_store_explicit(&l->live.heard_ns, w->now, memory_order_relaxed);
}

/* ---- both ---- */

/*
 * Does the peer have the successor of our SA? It hears this only if it has; then it sends on its own
 * half of the pair, and that is the answer (rekey.c).
 */
static void ask_on_next(struct worker *w, struct wlink *l)
{
	for (const struct wset *s = l->sets; s; s = s->after)
		if (s->next)
			ask(w, l, s->next, l->cur_path);
}

static bool asks_on_next(const struct wlink *l)
{
	const struct wset *s = l->sets;

	while (s && !s->next)
		s = s->after;
	return s;
}

static uint64_t relaxed(const _Atomic uint64_t *v)
{
	return atomic_load_explicit(v, memory_order_relaxed);
}

/* Not answered, and not for so long that nobody may be there. */
static bool overdue(const struct worker *w, const struct wlink *l, const struct wpath_live *v)
{
	bool waits = l->mode == LIVE_PING ? v->ping_sent_ns : v->nonce;
	uint64_t round = relaxed(l->kernel ? &l->live.roundtrip_ns : &v->roundtrip_ns); /* there one path stands for the others */

	/* half a tick early rather than half a tick late */
	return waits && w->now + TICK_NS / 2 >= relaxed(&v->asked_ns) + l->interval_ns / 4 &&
	       w->now < round + 4 * l->interval_ns;
}

/* The only path is always worth a try: what the routing tables said may be old. Not into a loop, though. */
static bool askable(const struct wlink *l, const struct wpath *p)
{
	return !IN6_IS_ADDR_UNSPECIFIED(&p->remote) && !p->loops && (p->usable || l->n_paths == 1);
}

static void ask_path(struct worker *w, struct wlink *l, unsigned int path)
{
	atomic_store_explicit(&l->paths[path].live.asked_ns, w->now, memory_order_relaxed);
	if (l->mode == LIVE_PING)
		ping(w, l, path);
	else
		ask(w, l, l->out, path);
}

static uint64_t jitter(const struct worker *w, const struct wlink *l)
{
	uint64_t room = MIN(l->interval_ns / 8, (uint64_t)JITTER_NS);

	return w->n_active < FEW ? 0 : (l->id * 2654435761u ^ w->now >> 20) % (room + 1);
}

void worker_probe_soon(struct worker *w, struct wlink *l)
{
	l->next_probe_ns = w->now + jitter(w, l);
}

void probe_tick(struct worker *w, struct wlink *l)
{
	bool due = w->now >= l->next_probe_ns, next = asks_on_next(l);

	if (l->mode == LIVE_OFF && !next)
		return;
	if (!l->admin_up || !(l->out || l->kernel) || !l->n_paths)
		return;
	if (due)
		l->next_probe_ns = w->now + l->interval_ns - jitter(w, l);
	if (due && next && askable(l, &l->paths[l->cur_path]))
		ask_on_next(w, l);
	l->turn += due;
	for (unsigned int k = 1; k <= l->n_paths && l->mode != LIVE_OFF; k++) {
		unsigned int i = (l->turn + k) % l->n_paths;

		if ((!l->kernel || i == l->cur_path) && askable(l, &l->paths[i]) && (due || overdue(w, l, &l->paths[i].live)))
			ask_path(w, l, i);
	}
}

/* The peer's receiver takes nothing at or below floor: jump, as far as numbers are reserved. */
static void jump(struct sa_out *o, uint64_t floor)
{
	if (floor > o->seq)
		o->seq = MIN(floor, o->seq_limit);
}

bool probe_read(struct probe *p, const uint8_t *data, uint32_t len)
{
	if (len < sizeof *p)
		return false;
	memcpy(p, data, sizeof *p);
	return !memcmp(p->magic, PROBE_MAGIC, 4);
}

static void take_answer(struct worker *w, struct wlink *l, const struct probe *p)
{
	for (unsigned int i = 0; p->nonce && i < l->n_paths; i++)
		if (p->nonce == l->paths[i].live.nonce)
			answered(w, l, &l->paths[i].live, be64toh(p->stamp_be));
}

void probe_input(struct worker *w, struct wlink *l, struct wsa_out *back, struct probe *p, const struct rx_meta *m, bool newest)
{
	atomic_store_explicit(&l->live.peer_speaks, 1, memory_order_relaxed);
	l->peer_shares = p->flags & PROBE_F_SHARES;
	if (p->flags & PROBE_F_HEARD)
		atomic_store_explicit(&l->live.peer_heard_ns, w->now, memory_order_relaxed);
	if (back)
		jump(&back->sa, be64toh(p->floor_be));
	if (p->type == PROBE_REPLY)
		take_answer(w, l, p);
	/* the peer asks while we have no answer of our own yet: ask too, and both ends come up together */
	if (p->type == PROBE_REQUEST && w->now > l->live.roundtrip_ns + 2 * l->interval_ns)
		l->next_probe_ns = 0;
	if (p->type == PROBE_REQUEST && back && l->admin_up && l->n_paths) {
		p->type = PROBE_REPLY;
		p->flags = PROBE_F_HEARD;
		p->floor_be = htobe64(rx_floor(l));
		send_probe(w, l, back, way_back(w, l, m, newest), p);
	}
}
