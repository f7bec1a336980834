/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gro - see gro.h. Held flows form a list, oldest first; a lookup compares hashes, then the headers
 * of the flow's first packet, which are the key: nothing is copied. A packet is a candidate when
 * nothing in its own headers forbids merging; it fits when the flow's headers agree. Checksums are
 * looked at last, when two packets would merge: a packet that stays alone costs none, for the
 * kernel checks it anyway (a TAP does not heed VIRTIO_NET_HDR_F_DATA_VALID).
 *
 * Owned by one worker. Packets stay in the caller's memory; only headers of merged heads change.
 */
#include "gro.h"

#include <netinet/in.h>
#include <stdlib.h>
#include "gso.h"
#include "ipsec_wire.h"
#include "pkt.h"

/* struct view - one packet, its headers found */
struct view {
	uint8_t *ip, *l4;
	uint32_t len, payload; /* IP bytes, bytes behind the L4 header */
	uint32_t tag, hash;
	uint16_t l3_len, l4_len;
	uint8_t family, proto;
};

struct flow {
	struct view head; /* its first packet */
	uint32_t next_seq;
	uint16_t next_id;
	struct gro_out out;
};

struct gro {
	bool udp;
	unsigned int n;
	uint32_t hash[GRO_FLOWS];     /* of held[], 0..n-1 */
	struct flow *held[GRO_FLOWS]; /* 0..n-1 oldest first, the rest free */
	struct flow flows[GRO_FLOWS];
	struct gro_out single; /* for packets that are not held */
};

struct gro *gro_new(bool udp)
{
	struct gro *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->udp = udp;
	for (unsigned int i = 0; i < GRO_FLOWS; i++)
		g->held[i] = &g->flows[i];
	return g;
}

void gro_free(struct gro *g)
{
	free(g);
}

/* --- reading a packet ----------------------------------------------------------------------- */

static bool read_ip4(struct view *p)
{
	uint32_t total;

	if (p->len < IP4_HDR_LEN || p->ip[0] != 0x45) /* with options: alone */
		return false;
	total = be16(p->ip + IP4_TOT_LEN);
	if (total < IP4_HDR_LEN || total > p->len || be16(p->ip + IP4_FRAG) & IP4_FRAGMENT)
		return false;
	p->len = total;
	p->l3_len = IP4_HDR_LEN;
	p->proto = p->ip[IP4_PROTO];
	p->hash = get64(p->ip + IP4_ADDRS) * 0x9e3779b97f4a7c15u >> 32;
	return true;
}

static bool read_ip6(struct view *p)
{
	uint32_t total;
	uint64_t mix = 0;

	if (p->len < IP6_HDR_LEN || p->ip[0] >> 4 != 6)
		return false;
	total = IP6_HDR_LEN + be16(p->ip + IP6_PAYLOAD_LEN);
	if (total > p->len)
		return false;
	p->len = total;
	p->l3_len = IP6_HDR_LEN;
	p->proto = p->ip[IP6_NEXT];
	for (int i = 0; i < 32; i += 8)
		mix = (mix ^ get64(p->ip + IP6_ADDRS + i)) * 0x9e3779b97f4a7c15u;
	p->hash = mix >> 32;
	return true;
}

static bool read_l4(struct view *p)
{
	uint32_t room = p->len - p->l3_len;

	p->l4 = p->ip + p->l3_len;
	if (p->proto == IPPROTO_TCP) {
		if (room < TCP_HDR_LEN)
			return false;
		p->l4_len = (p->l4[TCP_DOFF] >> 4) * 4;
		if (p->l4_len < TCP_HDR_LEN || p->l4_len > room)
			return false;
	} else if (p->proto == IPPROTO_UDP) {
		if (room < UDP_HDR_LEN || be16(p->l4 + UDP_LEN) != room)
			return false;
		p->l4_len = UDP_HDR_LEN;
	} else {
		return false;
	}
	p->payload = room - p->l4_len;
	p->hash ^= (get32(p->l4) + p->tag) * 0x85ebca6bu;
	return true;
}

/* Return: whether the packet belongs to a flow, that is, has ports at a known place. */
static bool read_flow(struct view *p)
{
	if (p->family == 4 ? !read_ip4(p) : !read_ip6(p))
		return false;
	return read_l4(p);
}

/* May it merge with anything? Its checksums are another question. */
static bool candidate(const struct view *p)
{
	if (!p->payload)
		return false;
	if (p->proto == IPPROTO_UDP)
		return get16(p->l4 + UDP_CSUM) != 0;
	return !(p->l4[TCP_DOFF] & 0x0f) && p->l4[TCP_FLAGS] & TCP_F_ACK &&
	       !(p->l4[TCP_FLAGS] & ~(TCP_F_ACK | TCP_F_PSH | TCP_F_FIN));
}

/* Nothing may follow it: merged behind it, its PSH or FIN would move. */
static bool closes(const struct view *p)
{
	return p->proto == IPPROTO_TCP && p->l4[TCP_FLAGS] & (TCP_F_PSH | TCP_F_FIN);
}

static bool verify(const struct view *p)
{
	uint32_t l4_bytes = p->len - p->l3_len;
	uint64_t pseudo = csum_pseudo(p->ip, p->family, p->proto, l4_bytes);

	if (p->family == 4 && csum_fold(csum_partial(p->ip, IP4_HDR_LEN, 0)))
		return false;
	return !csum_fold(csum_partial(p->l4, l4_bytes, pseudo));
}

/* --- comparing with a flow ------------------------------------------------------------------ */

static bool same_addrs(const struct view *a, const struct view *b)
{
	if (a->family != b->family || a->tag != b->tag)
		return false;
	if (a->family == 4)
		return get64(a->ip + IP4_ADDRS) == get64(b->ip + IP4_ADDRS);
	return !memcmp(a->ip + IP6_ADDRS, b->ip + IP6_ADDRS, 32);
}

static bool same_flow(const struct view *a, const struct view *b)
{
	return a->proto == b->proto && get32(a->l4) == get32(b->l4) && same_addrs(a, b);
}

static bool fits_ip(const struct flow *f, const struct view *p)
{
	const uint8_t *a = f->head.ip, *b = p->ip;

	if (p->family == 6)
		return get32(a) == get32(b) && a[IP6_HOP_LIMIT] == b[IP6_HOP_LIMIT];
	return a[IP4_TOS] == b[IP4_TOS] && a[IP4_TTL] == b[IP4_TTL] &&
	       get16(a + IP4_FRAG) == get16(b + IP4_FRAG) &&
	       (be16(a + IP4_FRAG) & IP4_DF || be16(b + IP4_ID) == f->next_id);
}

static bool fits_tcp(const struct flow *f, const struct view *p)
{
	const uint8_t *a = f->head.l4, *b = p->l4;

	return be32(b + TCP_SEQ) == f->next_seq && get32(a + TCP_ACK) == get32(b + TCP_ACK) &&
	       a[TCP_DOFF] == b[TCP_DOFF] && get16(a + TCP_WINDOW) == get16(b + TCP_WINDOW) &&
	       get16(a + TCP_URG_PTR) == get16(b + TCP_URG_PTR) &&
	       !memcmp(a + TCP_HDR_LEN, b + TCP_HDR_LEN, p->l4_len - TCP_HDR_LEN);
}

/* The head is verified when the second packet comes, with it. */
static bool verified(const struct flow *f)
{
	return f->out.n_segs > 1 || verify(&f->head);
}

static bool fits(const struct flow *f, const struct view *p)
{
	return p->payload <= f->head.payload && f->out.bytes + p->payload <= GRO_BYTES_MAX &&
	       fits_ip(f, p) && (p->proto == IPPROTO_UDP || fits_tcp(f, p)) && verified(f) &&
	       verify(p);
}

/* --- holding and emitting ------------------------------------------------------------------- */

static void start(struct flow *f, const struct view *p)
{
	f->head = *p;
	f->out.iov[0] = (struct iovec){p->ip, p->len};
	f->out.n_iov = 1;
	f->out.n_segs = 1;
	f->out.bytes = p->len;
	f->out.tag = p->tag;
	f->out.family = p->family;
	f->next_id = p->family == 4 ? be16(p->ip + IP4_ID) + 1 : 0;
	if (p->proto == IPPROTO_TCP)
		f->next_seq = be32(p->l4 + TCP_SEQ) + p->payload;
}

static void append(struct flow *f, const struct view *p)
{
	f->out.iov[f->out.n_iov++] = (struct iovec){p->l4 + p->l4_len, p->payload};
	f->out.n_segs++;
	f->out.bytes += p->payload;
	f->next_id++;
	f->next_seq += p->payload;
	if (p->proto == IPPROTO_TCP) /* only the last one can have PSH or FIN, see closes() */
		f->head.l4[TCP_FLAGS] = p->l4[TCP_FLAGS];
}

static void fix_headers(const struct flow *f)
{
	const struct view *h = &f->head;
	uint32_t l4_bytes = f->out.bytes - h->l3_len;
	uint16_t pseudo = csum_add16(csum_pseudo(h->ip, h->family, h->proto, l4_bytes));

	if (h->family == 4) {
		put16(h->ip + IP4_TOT_LEN, htons(f->out.bytes));
		put16(h->ip + IP4_CSUM, 0);
		put16(h->ip + IP4_CSUM, csum_fold(csum_partial(h->ip, IP4_HDR_LEN, 0)));
	} else {
		put16(h->ip + IP6_PAYLOAD_LEN, htons(l4_bytes));
	}
	if (h->proto == IPPROTO_UDP)
		put16(h->l4 + UDP_LEN, htons(l4_bytes));
	put16(h->l4 + (h->proto == IPPROTO_UDP ? UDP_CSUM : TCP_CSUM), pseudo);
}

static uint8_t gso_type(const struct view *h)
{
	if (h->proto == IPPROTO_UDP)
		return VIRTIO_NET_HDR_GSO_UDP_L4;
	return h->family == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
}

static void finish(struct flow *f, gro_emit_fn emit, void *arg)
{
	const struct view *h = &f->head;

	f->out.vh = (struct virtio_net_hdr){0};
	if (f->out.n_segs > 1) {
		f->out.vh = (struct virtio_net_hdr){
			.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			.gso_type = gso_type(h),
			.hdr_len = h->l3_len + h->l4_len,
			.gso_size = h->payload,
			.csum_start = h->l3_len,
			.csum_offset = h->proto == IPPROTO_UDP ? UDP_CSUM : TCP_CSUM,
		};
		fix_headers(f);
	}
	emit(arg, &f->out);
}

/* held[k] goes out; the younger ones move up, so that age order stays */
static void release(struct gro *g, unsigned int k, gro_emit_fn emit, void *arg)
{
	struct flow *f = g->held[k];
	unsigned int younger = --g->n - k;

	memmove(&g->held[k], &g->held[k + 1], younger * sizeof(g->held[0]));
	memmove(&g->hash[k], &g->hash[k + 1], younger * sizeof(g->hash[0]));
	g->held[g->n] = f;
	finish(f, emit, arg);
}

static void hold(struct gro *g, const struct view *p, gro_emit_fn emit, void *arg)
{
	if (g->n == GRO_FLOWS)
		release(g, 0, emit, arg);
	g->hash[g->n] = p->hash;
	start(g->held[g->n++], p);
}

static void alone(struct gro *g, const struct view *p, gro_emit_fn emit, void *arg)
{
	struct gro_out *out = &g->single;

	out->vh = (struct virtio_net_hdr){0};
	out->iov[0] = (struct iovec){p->ip, p->len};
	out->n_iov = 1;
	out->n_segs = 1;
	out->bytes = p->len;
	out->tag = p->tag;
	out->family = p->family;
	emit(arg, out);
}

/* Ports unknown (fragment, options, ICMP): it may belong to any flow between its two ends. */
static void release_pair(struct gro *g, const struct view *p, gro_emit_fn emit, void *arg)
{
	if (p->len < (p->family == 4 ? (uint32_t)IP4_HDR_LEN : (uint32_t)IP6_HDR_LEN))
		return;
	for (unsigned int k = 0; k < g->n;)
		if (same_addrs(&g->held[k]->head, p))
			release(g, k, emit, arg);
		else
			k++;
}

static uint8_t version(const uint8_t *ip, uint32_t len)
{
	return len && ip[0] >> 4 == 4 ? 4 : 6;
}

static struct flow *lookup(const struct gro *g, const struct view *p, unsigned int *k)
{
	for (*k = 0; *k < g->n; ++*k)
		if (g->hash[*k] == p->hash && same_flow(&g->held[*k]->head, p))
			return g->held[*k];
	return NULL;
}

void gro_add(struct gro *g, uint8_t *ip, uint32_t len, uint32_t tag, gro_emit_fn emit, void *arg)
{
	struct view p = {.ip = ip, .len = len, .tag = tag, .family = version(ip, len)};
	struct flow *f;
	unsigned int k;
	bool mergeable;

	if (!len || !read_flow(&p)) {
		release_pair(g, &p, emit, arg);
		alone(g, &p, emit, arg);
		return;
	}
	if (p.proto == IPPROTO_UDP && !g->udp) {
		alone(g, &p, emit, arg);
		return;
	}
	f = lookup(g, &p, &k);
	mergeable = candidate(&p);
	if (f && mergeable && fits(f, &p)) {
		append(f, &p);
		if (closes(&p) || p.payload < f->head.payload || f->out.n_segs == GRO_SEGS)
			release(g, k, emit, arg);
		return;
	}
	if (f)
		release(g, k, emit, arg);
	if (mergeable && !closes(&p))
		hold(g, &p, emit, arg);
	else
		alone(g, &p, emit, arg);
}

void gro_flush(struct gro *g, gro_emit_fn emit, void *arg)
{
	while (g->n)
		release(g, 0, emit, arg);
}
