/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * probe - liveness: is there a round trip? Between two ipsecd a dummy packet with a question
 * inside the ciphertext; to foreign peers an inner echo (liveness = ping). Worker thread only.
 * A reply is never answered, so nothing can ping-pong.
 *
 * A lost packet is not a dead peer: while the last round trip is fresh, a question that has waited for
 * a quarter of the interval is asked again, the same one, so that the answer to any of its copies counts.
 */
#include <endian.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <sys/random.h>
#include "worker_priv.h"

/* Highest number our receiver has taken: the peer must send above it. 0 = nothing to say */
static uint64_t rx_floor(const struct wlink *l)
{
	return l->in && l->n_in == 1 ? *l->in->sa.replay.top : 0;
}

static void send_probe(struct worker *w, struct wlink *l, const struct probe *p)
{
	memcpy(out_room(w, l, sizeof *p), p, sizeof *p);
	out_push(w, l, sizeof *p, NEXT_NONE, true);
}

static bool heard_lately(const struct worker *w, const struct wlink *l)
{
	uint64_t heard = atomic_load_explicit(&l->live.heard_ns, memory_order_relaxed);

	return heard && w->now - heard < 4 * l->interval_ns;
}

static void ask(struct worker *w, struct wlink *l)
{
	struct probe p = {.magic = PROBE_MAGIC, .type = PROBE_REQUEST,
			  .flags = heard_lately(w, l) ? PROBE_F_HEARD : 0,
			  .interval_ms_be = htons(MIN(l->interval_ns / 1000000, 65535))};

	if (!l->probe_nonce && getrandom(&l->probe_nonce, sizeof l->probe_nonce, GRND_NONBLOCK) < 0)
		l->probe_nonce++;
	p.nonce = l->probe_nonce;
	p.stamp_be = htobe64(w->now);
	p.floor_be = htobe64(rx_floor(l));
	send_probe(w, l, &p);
}

/* ---- inner echo for foreign peers ---- */

static uint16_t echo_id(const struct wlink *l)
{
	return htons(0xe500u ^ l->id);
}

static void ping(struct worker *w, struct wlink *l)
{
	uint8_t buf[sizeof(struct ip6_hdr) + 16] = {0}, *icmp;
	bool v4 = addr_is4(&l->ping_dst);
	uint32_t len;
	uint64_t sum;

	l->ping_seq += !l->probe_sent_ns;
	if (v4) {
		struct ip *ip = (void *)buf;

		icmp = buf + sizeof *ip;
		len = sizeof *ip + 16;
		ip->ip_v = 4;
		ip->ip_hl = 5;
		ip->ip_len = htons(len);
		ip->ip_off = htons(IP_DF);
		ip->ip_ttl = 64;
		ip->ip_p = IPPROTO_ICMP;
		ip->ip_src = addr_to4(&l->ping_src);
		ip->ip_dst = addr_to4(&l->ping_dst);
		ip->ip_sum = csum_fold(csum_partial(ip, sizeof *ip, 0));
		sum = 0;
	} else {
		struct ip6_hdr *ip6 = (void *)buf;

		icmp = buf + sizeof *ip6;
		len = sizeof *ip6 + 16;
		ip6->ip6_vfc = 0x60;
		ip6->ip6_plen = htons(16);
		ip6->ip6_nxt = IPPROTO_ICMPV6;
		ip6->ip6_hlim = 64;
		ip6->ip6_src = l->ping_src;
		ip6->ip6_dst = l->ping_dst;
		sum = csum_partial(&ip6->ip6_src, 32, htonl(16) + (uint64_t)htonl(IPPROTO_ICMPV6));
	}
	icmp[0] = v4 ? ICMP_ECHO : ICMP6_ECHO_REQUEST;
	memcpy(icmp + 4, &(uint16_t){echo_id(l)}, 2);
	memcpy(icmp + 6, &(uint16_t){htons(l->ping_seq)}, 2);
	memcpy(icmp + 8, &w->now, 8);
	memcpy(icmp + 2, &(uint16_t){csum_fold(csum_partial(icmp, 16, sum))}, 2);
	l->probe_sent_ns = w->now;
	memcpy(out_room(w, l, len), buf, len);
	out_push_ip(w, l, len, true);
}

bool probe_ping_reply(struct worker *w, struct wlink *l, const uint8_t *ip, uint32_t len)
{
	bool v4 = ip[0] >> 4 == 4;
	uint32_t hl = v4 ? (ip[0] & 15) * 4u : sizeof(struct ip6_hdr);
	const uint8_t *icmp = ip + hl;
	uint16_t id, seq;

	if (len != hl + 16 || (v4 ? ip[9] != IPPROTO_ICMP : ip[6] != IPPROTO_ICMPV6))
		return false;
	memcpy(&id, icmp + 4, 2);
	memcpy(&seq, icmp + 6, 2);
	if (icmp[0] != (v4 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY) || id != echo_id(l))
		return false;
	if (seq == htons(l->ping_seq) && l->probe_sent_ns) {
		atomic_store_explicit(&l->live.roundtrip_ns, w->now, memory_order_relaxed);
		atomic_store_explicit(&l->live.peer_heard_ns, w->now, memory_order_relaxed);
		atomic_store_explicit(&l->live.rtt_ns, w->now - l->probe_sent_ns, memory_order_relaxed);
		l->probe_sent_ns = 0;
	}
	return true;
}

/* ---- both ---- */

/*
 * Does the peer have the successor of our SA? It hears this only if it has; then it sends on its own
 * half of the pair, and that is the answer (rekey.c).
 */
static void ask_on_next(struct worker *w, struct wlink *l)
{
	struct wsa_out *cur = l->out;

	out_flush(w);
	l->out = l->next;
	ask(w, l);
	out_flush(w);
	l->out = cur;
}

/* Not answered, and not for so long that nobody may be there. */
static bool overdue(const struct worker *w, const struct wlink *l)
{
	uint64_t round = atomic_load_explicit(&l->live.roundtrip_ns, memory_order_relaxed);
	uint64_t sent = atomic_load_explicit(&l->live.sent_ns, memory_order_relaxed);
	bool waits = l->mode == LIVE_PING ? l->probe_sent_ns : l->probe_nonce;

	/* half a tick early rather than half a tick late */
	return waits && w->now + TICK_NS / 2 >= sent + l->interval_ns / 4 && w->now < round + 4 * l->interval_ns;
}

void probe_tick(struct worker *w, struct wlink *l)
{
	if (l->mode == LIVE_OFF && !l->next)
		return;
	if (w->now >= l->next_probe_ns)
		l->next_probe_ns = w->now + l->interval_ns;
	else if (!overdue(w, l))
		return;
	if (!wlink_can_send(l))
		return;
	if (l->next)
		ask_on_next(w, l);
	if (l->mode == LIVE_OFF)
		return;
	atomic_store_explicit(&l->live.sent_ns, w->now, memory_order_relaxed);
	if (l->mode == LIVE_PING)
		ping(w, l);
	else
		ask(w, l);
}

/* The peer's receiver takes nothing at or below floor: jump, as far as numbers are reserved. */
static void jump(struct wlink *l, uint64_t floor)
{
	struct sa_out *o = &l->out->sa;

	if (floor > o->seq)
		o->seq = MIN(floor, o->seq_limit);
}

bool probe_input(struct worker *w, struct wlink *l, const uint8_t *data, uint32_t len)
{
	struct probe p;

	if (len < sizeof p)
		return false;
	memcpy(&p, data, sizeof p);
	if (memcmp(p.magic, PROBE_MAGIC, 4))
		return false;
	atomic_store_explicit(&l->live.peer_speaks, 1, memory_order_relaxed);
	if (p.flags & PROBE_F_HEARD)
		atomic_store_explicit(&l->live.peer_heard_ns, w->now, memory_order_relaxed);
	if (l->out)
		jump(l, be64toh(p.floor_be));
	if (p.type == PROBE_REPLY && p.nonce == l->probe_nonce && l->probe_nonce) {
		l->probe_nonce = 0;
		atomic_store_explicit(&l->live.roundtrip_ns, w->now, memory_order_relaxed);
		atomic_store_explicit(&l->live.peer_heard_ns, w->now, memory_order_relaxed);
		atomic_store_explicit(&l->live.rtt_ns, w->now - be64toh(p.stamp_be), memory_order_relaxed);
	}
	/* the peer asks while we have no answer of our own yet: ask too, and both ends come up together */
	if (p.type == PROBE_REQUEST && w->now > l->live.roundtrip_ns + 2 * l->interval_ns)
		l->next_probe_ns = 0;
	if (p.type == PROBE_REQUEST && l->out && l->admin_up) {
		p.type = PROBE_REPLY;
		p.flags = PROBE_F_HEARD;
		p.floor_be = htobe64(rx_floor(l));
		send_probe(w, l, &p);
	}
	return true;
}
