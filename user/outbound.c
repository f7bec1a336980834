/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * outbound - raw packets become envelopes: read from a funnel, cut into wire segments, sealed in
 * place in the arena, emitted as runs. Worker thread only. RFC 4303 3.3.
 */
#include <errno.h>
#include <net/ethernet.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include "nest.h"
#include "pkt.h"
#include "transport.h"
#include "worker_priv.h"

/* struct way - which path an envelope takes, and which worker sends it: CARRY_SELF, or another's index */
struct way {
	uint8_t path, carrier;
};

static struct way by_path(unsigned int path)
{
	return (struct way){(uint8_t)path, CARRY_SELF};
}

/* What the cipher works on, RFC 4301 4.4.2.1: payload, padding and trailer. */
static uint32_t cipher_len(struct esp_layout l, uint32_t env)
{
	return env - esp_headroom(l) - l.icv_len;
}

static void seal(struct worker *w, struct wsa_out *o, struct esp_pkt *p, unsigned int n)
{
	uint64_t bytes = 0, ok = 0;

	esp_seal(&o->sa, p, n);
	for (unsigned int i = 0; i < n; i++) {
		if (p[i].drop)
			continue;
		ok++;
		bytes += cipher_len(o->sa.layout, p[i].len);
	}
	o->ctr->pkts += ok;
	o->ctr->bytes += bytes;
	o->ctr->top = o->sa.seq;
	o->ctr->last_used_ns = w->now;
}

/* Seal the packets of consecutive runs of one SA together: fewer, fuller batches. */
static void seal_all(struct worker *w)
{
	struct outq *q = &w->out;
	unsigned int i = 0, end, n, run = 0;
	struct wsa_out *o;

	while (run < q->n_runs) {
		o = q->runs[run].sa;
		while (run < q->n_runs && q->runs[run].sa == o)
			run++;
		end = run < q->n_runs ? q->first[run] : q->n_pkts;
		for (; i < end; i += n) {
			n = MIN(end - i, (unsigned int)ESP_BATCH);
			seal(w, o, q->pkts + i, n);
		}
	}
}

/* RFC 4303 3.3.3: what a counter at its end kept from leaving. The addresses are the envelope's. */
static void note(struct worker *w, const struct wlink *l, const struct wsa_out *o, unsigned int path, enum drop d)
{
	const struct wpath *p = &l->paths[path];
	struct audit_rec r = {.what = (uint8_t)d, .link = l->id, .out = true};

	if (!w->audit.on)
		return;
	r.spi = ntohl(o->sa.spi_be);
	r.seq = o->sa.seq;
	r.src = p->local;
	r.dst = p->remote;
	audit_note(&w->audit, w->now, &r);
}

/* The numbers run out monotonically: what was refused is the tail of a run. */
static void trim(struct worker *w, struct run *r, const struct esp_pkt *p)
{
	unsigned int ok = 0;

	while (ok < r->n && !p[ok].drop)
		ok++;
	for (unsigned int i = ok; i < r->n && !r->probe; i++) {
		r->link->ctr->drops_out[p[i].drop ? p[i].drop : DROP_TX_ERROR]++;
		note(w, r->link, r->sa, r->path, p[i].drop ? p[i].drop : DROP_TX_ERROR);
	}
	if (ok < r->n) {
		r->inner_bytes = (uint64_t)r->inner_bytes * ok / r->n;
		r->n = ok;
		r->len = ok * r->seg;
	}
}

/* Before the round gets its numbers: not too far behind is what others still have to send of earlier ones. */
static void pace(struct worker *w)
{
	const struct outq *q = &w->out;
	uint32_t reach = UINT32_MAX;

	for (unsigned int i = 0; i < q->n_runs; i++)
		if (q->runs[i].link->reach)
			reach = MIN(reach, q->runs[i].link->reach);
	if (reach != UINT32_MAX)
		carry_pace(w, q->n_pkts, reach);
	w->carry.burst_out = q->n_pkts >= CARRY_MIN;
}

void out_flush(struct worker *w)
{
	struct outq *q = &w->out;

	if (!q->n_pkts)
		return;
	stage_end(w, STAGE_READ, q->n_pkts);
	pace(w);
	stage_end(w, STAGE_EMIT, 0); /* waiting for those who send is sending */
	seal_all(w);
	stage_end(w, STAGE_SEAL, q->n_pkts);
	for (unsigned int i = 0; i < q->n_runs; i++) {
		struct run *r = &q->runs[i];

		trim(w, r, q->pkts + q->first[i]);
		if (r->n && !carry_send(w, r, r->carrier))
			emit_run(&w->emit, r);
		w->carry.sealed += r->n;
	}
	carry_kick(w); /* they send beside us */
	emit_flush(&w->emit);
	stage_end(w, STAGE_EMIT, q->n_pkts);
	q->used = q->n_pkts = q->n_runs = 0;
	q->closed = true;
}

/* RFC 4303 2.7: with TFC padding nothing on the wire is shorter than what the link asks for. */
static uint32_t tfc_len(const struct wlink *l, uint32_t len)
{
	uint32_t mtu = atomic_load_explicit(&l->mtu, memory_order_relaxed);

	return MAX(len, MIN(l->tfc, mtu));
}

/* Where the next envelope's inner packet will be. */
static uint8_t *arena_room(const struct outq *q, struct esp_layout suite)
{
	return q->arena + q->used + esp_headroom(suite);
}

uint8_t *out_room(struct worker *w, const struct wlink *l, const struct wsa_out *o, uint32_t len)
{
	const struct esp_layout suite = o->sa.layout;
	struct outq *q = &w->out;

	if (q->n_pkts == OUT_PKTS || q->used + esp_envelope_len(suite, tfc_len(l, len)) > OUT_ARENA)
		out_flush(w);
	return arena_room(q, suite);
}

static bool same_head(const struct run *r, const struct head *h)
{
	return r->tos == h->tos && r->ttl == h->ttl && r->df == h->df && !memcmp(&r->src, &h->src, sizeof h->src);
}

static bool joins(const struct outq *q, const struct wsa_out *o, struct way way, uint32_t env, const struct head *h, bool probe)
{
	const struct run *r;

	if (q->closed || !q->n_runs)
		return false;
	r = &q->runs[q->n_runs - 1];
	return r->sa == o && r->path == way.path && r->carrier == way.carrier && env <= r->seg && same_head(r, h) &&
	       r->probe == probe && r->n < EMIT_RUN_SEGS && r->len + env <= EMIT_RUN_BYTES;
}

/* @from: where the inner packet lies: at out_room(), or elsewhere until the round is sent */
static enum drop push(struct worker *w, struct wlink *l, struct wsa_out *o, struct way way, uint8_t *from, uint32_t len,
		      uint8_t next, const struct head *h, bool probe)
{
	const struct esp_layout suite = o->sa.layout;
	uint32_t padded = tfc_len(l, len), env = esp_envelope_len(suite, padded);
	struct outq *q = &w->out;
	uint8_t *data = arena_room(q, suite);
	enum drop d = life_take(&o->life, w->now, cipher_len(suite, env));
	struct run *r;

	if (d) {
		note(w, l, o, way.path, d);
		return d;
	}
	memset(from + len, 0, padded - len);

	if (joins(q, o, way, env, h, probe)) {
		r = &q->runs[q->n_runs - 1];
	} else {
		r = &q->runs[q->n_runs];
		*r = (struct run){.data = q->arena + q->used, .seg = env, .tos = h->tos, .ttl = h->ttl, .df = h->df,
				  .src = h->src, .probe = probe, .path = way.path, .carrier = way.carrier, .link = l, .sa = o};
		q->first[q->n_runs++] = q->n_pkts;
	}
	r->n++;
	r->len += env;
	r->inner_bytes += len;
	q->closed = env < r->seg; /* UDP_SEGMENT: only the last may be shorter */
	q->pkts[q->n_pkts++] = (struct esp_pkt){.data = data, .from = from == data ? NULL : from, .len = padded,
						  .next = next};
	q->used += env;
	return DROP_NONE;
}

enum drop out_push(struct worker *w, struct wlink *l, struct wsa_out *o, unsigned int path, uint32_t len, uint8_t next)
{
	const struct head h = outer_head(&l->outer, NULL);

	return push(w, l, o, by_path(path), arena_room(&w->out, o->sa.layout), len, next, &h, true);
}

/* Which path an inner packet takes, and who sends it: those of its flow. */
static struct way way_of(const struct worker *w, const struct wlink *l, const uint8_t *ip, uint32_t len)
{
	return (struct way){
		.path = (uint8_t)(l->shares ? l->slot[spread_hash(ip, len) % SPREAD_SLOTS] : l->cur_path),
		.carrier = (uint8_t)(l->reach ? carry_who(w, l, ip, len) : CARRY_SELF),
	};
}

/* In transport mode the packet's own destination decides as well. */
static unsigned int path_to(const struct wlink *l, unsigned int path, const uint8_t *ip)
{
	struct in6_addr dst;
	struct in_addr v4;

	if (!l->shares)
		return path;
	if (ip[0] >> 4 == 4) {
		memcpy(&v4, ip + IP4_ADDRS + 4, sizeof v4);
		dst = addr_from4(v4);
	} else {
		memcpy(&dst, ip + IP6_ADDRS + 16, sizeof dst);
	}
	for (unsigned int i = 0; i < l->n_paths && memcmp(&l->paths[path].remote, &dst, sizeof dst); i++)
		if (l->paths[i].in_use && !memcmp(&l->paths[i].remote, &dst, sizeof dst))
			return i;
	return path;
}

/* A link with addresses of its own: on the wire they become those of the hosts (seed, section 5). */
static void readdress(const struct wlink *l, const struct wpath *p, uint8_t *ip, uint32_t len)
{
	const struct p2p *own = len && ip[0] >> 4 == 4 ? &l->addr4 : &l->addr6;
	const struct in6_addr *local = IN6_IS_ADDR_UNSPECIFIED(&p->local) ? &p->src : &p->local;

	if (!own->set || !memcmp(&own->far, &p->remote, sizeof own->far) || IN6_IS_ADDR_UNSPECIFIED(local) ||
	    addr_is4(local) != addr_is4(&own->far) || addr_is4(&p->remote) != addr_is4(&own->far))
		return;
	if (transport_between(ip, len, &own->own, &own->far))
		transport_readdress(ip, len, local, &p->remote);
}

/* RFC 4303 3.1.1: the packet's own header is the envelope's; what is behind it moves up to ESP. */
static enum drop push_transport(struct worker *w, struct wlink *l, struct wsa_out *o, struct way way, uint8_t *ip,
				uint32_t len, bool probe)
{
	const struct in6_addr *remote;
	static const struct outer_conf as_it_is;
	struct head h = outer_head(&as_it_is, ip);
	struct transport_hdr t;
	enum drop d;

	way.path = (uint8_t)path_to(l, way.path, ip);
	remote = &l->paths[way.path].remote;
	if (!l->n_paths || IN6_IS_ADDR_UNSPECIFIED(remote))
		return DROP_NO_ROUTE;
	readdress(l, &l->paths[way.path], ip, len);
	d = transport_take(ip, len, remote, &t);
	if (d)
		return d;
	h.src = t.src;
	h.ttl = t.ttl;
	len -= t.hdr_len;
	memmove(ip, ip + t.hdr_len, len);
	return push(w, l, o, way, ip, len, t.next, &h, probe);
}

static enum drop push_ip(struct worker *w, struct wlink *l, struct wsa_out *o, struct way way, uint8_t *ip, uint32_t len,
			 bool probe)
{
	struct head h;

	if (o->sa.transport)
		return push_transport(w, l, o, way, ip, len, probe);
	h = outer_head(&l->outer, ip);
	return push(w, l, o, way, ip, len, ip[0] >> 4 == 4 ? NEXT_IP4 : NEXT_IP6, &h, probe);
}

enum drop out_push_ip(struct worker *w, struct wlink *l, struct wsa_out *o, unsigned int path, uint32_t len, bool probe)
{
	return push_ip(w, l, o, by_path(path), arena_room(&w->out, o->sa.layout), len, probe);
}

/* The narrowest that is for it; a set whose first SA only stands by is for nothing yet. */
static struct wsa_out *first_for(const struct wset *s, const struct sel_flow *f)
{
	while (s && (!s->out || (s->n_sel && !sels_match(s->out_sel, s->n_sel, f))))
		s = s->after;
	return s ? s->out : NULL;
}

static struct wsa_out *choose(const struct wset *s, const uint8_t *ip, uint32_t len)
{
	struct sel_flow f;
	struct wsa_out *o;

	if (s && s->out && !s->n_sel) /* what most links have */
		return s->out;
	o = sel_flow(&f, ip, len) ? first_for(s, &f) : NULL;
	return !o && sel_quoted(&f, ip, len) ? first_for(s, &f) : o;
}

enum drop out_sa(const struct wlink *l, const uint8_t *ip, uint32_t len, struct wsa_out **o)
{
	if (!l->admin_up)
		return DROP_LINK_DOWN;
	if (!l->out)
		return DROP_NO_SA;
	*o = choose(l->sets, ip, len);
	return *o ? DROP_NONE : DROP_SELECTOR;
}

/* An envelope of another link is to go into l: not if l's own come back. Once a round, as it takes system calls. */
static enum drop comes_back(struct worker *w, struct wlink *l, unsigned int path, const struct stamp *st)
{
	if (!(st->flags & STAMP_F_NESTED))
		return DROP_NONE;
	if (l->nested[path].asked_ns != w->now) {
		l->nested[path].asked_ns = w->now;
		l->nested[path].back = nest_returns(w->conf.nest, l->id, path);
	}
	return l->nested[path].back ? DROP_ROUTE_LOOP : DROP_NONE;
}

static void cut(struct worker *w, struct wlink *l, struct wsa_out *o, struct way way, const struct gso *g)
{
	uint32_t room = g->seg_payload ? (uint32_t)g->l3_len + g->l4_len + g->seg_payload : g->len;
	enum drop d;
	int n;

	for (unsigned int i = 0; i < g->n_segs; i++) {
		n = gso_segment(g, i, out_room(w, l, o, room), room);
		d = n < 0 ? DROP_SHORT : push_ip(w, l, o, way, arena_room(&w->out, o->sa.layout), n, false);
		if (d)
			l->ctr->drops_out[d]++;
	}
}

/* One frame of the GSO funnel: virtio header, stamp, IP packet. */
static void tap_frame(struct worker *w, const uint8_t *buf, uint32_t len)
{
	const struct virtio_net_hdr *vh = (const void *)buf;
	const uint8_t *ip = buf + TAP_VNET_LEN + TAP_L2_LEN;
	struct way way = {0};
	struct wsa_out *o;
	struct stamp st;
	struct wlink *l;
	struct gso g;
	enum drop d;

	if (len < TAP_VNET_LEN + TAP_L2_LEN + IP4_HDR_LEN) {
		bump(&w->stats.bad_stamp, 1);
		return;
	}
	memcpy(&st, buf + TAP_VNET_LEN, sizeof st);
	l = worker_link(w, st.link);
	if (l && st.kind == STAMP_OPENED && st.gen == l->gen) {
		probe_opened(w, l, ip, len - TAP_VNET_LEN - TAP_L2_LEN);
		return;
	}
	if (!l || st.kind != STAMP_RAW || st.gen != l->gen) {
		bump(&w->stats.bad_stamp, 1);
		return;
	}
	if (gso_parse(&g, vh, ip, len - TAP_VNET_LEN - TAP_L2_LEN, TAP_L2_LEN)) {
		l->ctr->out_tap_segs++;
		l->ctr->drops_out[DROP_SHORT]++;
		return;
	}
	l->ctr->out_tap_segs += g.n_segs;
	d = out_sa(l, ip, len - TAP_VNET_LEN - TAP_L2_LEN, &o);
	if (!d) {
		way = way_of(w, l, ip, len - TAP_VNET_LEN - TAP_L2_LEN);
		d = comes_back(w, l, way.path, &st);
	}
	if (d) {
		l->ctr->drops_out[d] += g.n_segs;
		return;
	}
	cut(w, l, o, way, &g);
}

/* The inner packet of a frame, to be sealed from there if padding and trailer fit behind it; else a copy. */
static uint8_t *take_from(struct worker *w, const struct wlink *l, const struct wsa_out *o, const struct port_frame *f,
			  uint32_t len)
{
	uint8_t *ip = f->data + TAP_L2_LEN, *room = out_room(w, l, o, len);

	if (tfc_len(l, len) + ESP_TAILROOM_MAX <= f->room - TAP_L2_LEN)
		return ip;
	memcpy(room, ip, len);
	return room;
}

/* One frame of the XSK funnel: stamp, Ethernet type, a single IP packet; checksums complete unless the stamp says so. */
static void port_frame(struct worker *w, const struct port_frame *f)
{
	const uint8_t *ip = f->data + TAP_L2_LEN;
	struct way way = {0};
	struct wsa_out *o;
	struct stamp st;
	struct wlink *l;
	uint32_t len;
	uint8_t family;
	enum drop d;

	memcpy(&st, f->data, sizeof st);
	l = worker_link(w, st.link);
	if (!l || st.kind != STAMP_RAW || st.gen != l->gen || f->len < TAP_L2_LEN + IP4_HDR_LEN) {
		bump(&w->stats.bad_stamp, 1);
		return;
	}
	l->ctr->out_xsk_segs++;
	family = ip[0] >> 4;
	len = family == 4 ? ip[2] << 8 | ip[3] : (ip[4] << 8 | ip[5]) + IP6_HDR_LEN;
	d = len > f->len - TAP_L2_LEN ? DROP_SHORT : out_sa(l, ip, len, &o);
	if (!d) {
		way = way_of(w, l, ip, len);
		d = comes_back(w, l, way.path, &st);
	}
	if (!d) {
		uint8_t *from = take_from(w, l, o, f, len);

		if (st.flags & STAMP_F_UNFINISHED)
			gso_finish(from, len);
		d = push_ip(w, l, o, way, from, len, false);
	}
	if (d)
		l->ctr->drops_out[d]++;
}

unsigned int outbound_port(struct worker *w)
{
	struct port_frame f[PORT_BATCH];
	unsigned int n = port_receive(w->raw, f, PORT_BATCH);

	for (unsigned int i = 0; i < n; i++)
		port_frame(w, &f[i]);
	out_flush(w); /* sealed, that is copied, before the frames go back */
	port_release(w->raw, f, n);
	bump(&w->stats.xsk_rx, n);
	return n;
}

unsigned int outbound_tap(struct worker *w)
{
	unsigned int i;
	int n;

	for (i = 0; i < TAP_BURST; i++) {
		n = tap_read(&w->tap, w->tap_buf, TAP_READ_MAX);
		if (n < 0)
			break;
		tap_frame(w, w->tap_buf, n);
	}
	bump(&w->stats.tap_reads, i + (i < TAP_BURST)); /* the last one found nothing */
	out_flush(w);
	return i;
}
