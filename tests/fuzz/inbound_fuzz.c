/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inbound_fuzz - the whole way of envelopes through the worker: outer headers, SA, ESP, next header, source,
 * ECN, transport mode, probes, merging, delivery. Written by somebody who has the keys, so nothing is out of
 * reach; some are damaged on the way.
 *
 * Input: three bytes that choose suite, mode, addresses and settings; then records: how it travels, what it
 * carries, damage, and either the plaintext itself (with any trailer) or a few bytes that describe one.
 *
 * Held up: what came in was delivered, or was a probe, or has a reason, one by one; what was sent whole and may
 * come out comes out, once, with every byte, and nothing else does; damage and repetition move neither window nor endpoint and draw no answer;
 * no source but the allowed ones; no checksum that was wrong becomes right.
 * wraps: tap_writev port_receive port_release load_wctr out_room out_push out_push_ip out_flush recvmmsg
 */
#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include "fuzz_main.h"
#include "gso.h"
#include "pkt.h"
#include "pktgen.h"
#include "esp_model.h"
#include "worker_rig.h"

enum { PKTS = 48, PLAIN_MAX = 1600, BODY_MAX = PLAIN_MAX + 300 };
enum { F_ESN = 1, F_TRANSPORT = 2, F_UDP = 4, F_OUTER6 = 8, F_INNER = 16, F_DOWN = 32, F_PING = 64, F_LEARN = 128 };
enum { K_PLAIN = 3, K_FRAME = 4, K_TRAIN = 8, K_DAMAGE = 16, K_AGAIN = 32, K_SKIP = 64, K_ELSEWHERE = 128 };
enum { KIND_RAW = 0, KIND_FLOW = 1, KIND_PROBE = 2, KIND_GARBAGE = 3 };

/* struct plain - one thing that may come out of the link */
struct plain {
	uint8_t bytes[PLAIN_MAX];
	uint32_t len;
	bool out;
};

static struct {
	struct worker_rig r;
	struct sa_conf conf;
	uint8_t flags, proto;
	uint64_t seq;
	struct plain plains[PKTS];
	unsigned int n_sent, n_out, n_must, n_envelopes, n_asked;
	uint8_t last[BODY_MAX];
	uint32_t last_len;
	uint8_t tos;
} f;

static bool v6_outer(void)
{
	return f.flags & F_OUTER6;
}

/* ---- what comes out ---- */

/* Transport mode behind a NAT: the checksum may be made anew, and the header is the envelope's. */
static bool same_but(const uint8_t *a, const uint8_t *b, uint32_t len, uint32_t at)
{
	for (uint32_t i = 0; i < len; i++)
		if (a[i] != b[i] && i != at && i != at + 1)
			return false;
	return true;
}

static uint32_t csum_at(const uint8_t *ip, uint32_t hdr)
{
	uint8_t proto = ip[0] >> 4 == 4 ? ip[IP4_PROTO] : ip[IP6_NEXT];

	return proto == IPPROTO_TCP ? hdr + TCP_CSUM : proto == IPPROTO_UDP ? hdr + UDP_CSUM : hdr + 2;
}

/* ECN may turn to CE (with the IPv4 checksum), merging may number DF packets anew. */
static void normal(uint8_t *ip, uint32_t len)
{
	if (ip[0] >> 4 == 6) {
		ip[1] &= 0xcf;
		return;
	}
	ip[IP4_TOS] &= 0xfc;
	if (ip[0] == 0x45 && be16(ip + IP4_FRAG) & IP4_DF)
		put16(ip + IP4_ID, 0);
	put16(ip + IP4_CSUM, 0);
}

static bool is_source_allowed(const uint8_t *ip)
{
	if (!(f.flags & F_INNER))
		return true;
	return ip[0] >> 4 == 4 ? ip[IP4_ADDRS] == 10 : ip[IP6_ADDRS] == 0xfd;
}

static bool same_packet(const struct plain *s, const uint8_t *ip, uint32_t len)
{
	static uint8_t a[PLAIN_MAX + 64], b[PLAIN_MAX + 64];
	uint32_t hdr = ip[0] >> 4 == 4 ? (ip[0] & 15) * 4 : IP6_HDR_LEN;

	if (ip[0] >> 4 == 4 && f.flags & F_TRANSPORT)
		HOLD(slow_sum(ip, hdr, 0) == 0xffff);
	if (f.flags & F_TRANSPORT) /* s holds what stood behind ESP */
		return len == hdr + s->len && same_but(s->bytes, ip + hdr, s->len,
						       f.flags & F_UDP ? csum_at(ip, hdr) - hdr : s->len);
	if (len != s->len || ip[0] >> 4 != s->bytes[0] >> 4)
		return false;
	/* the header checksum is as right, or as wrong, as it was sent */
	if (ip[0] >> 4 == 4 && slow_sum(ip, hdr, 0) % 0xffff != slow_sum(s->bytes, hdr, 0) % 0xffff)
		return false;
	memcpy(a, s->bytes, len);
	memcpy(b, ip, len);
	normal(a, len);
	normal(b, len);
	return !memcmp(a, b, len);
}

static void came_out(const uint8_t *ip, uint32_t len)
{
	HOLD(!(f.flags & F_DOWN));
	HOLD(is_source_allowed(ip));
	for (unsigned int i = 0; i < f.n_sent; i++) {
		if (f.plains[i].out || !same_packet(&f.plains[i], ip, len))
			continue;
		f.plains[i].out = true;
		f.n_out++;
		return;
	}
	HOLD(!"a packet comes out that nobody sent");
}

static void to_tap(struct worker_rig *r, const struct virtio_net_hdr *vh, const uint8_t *frame, uint32_t len)
{
	static uint8_t seg[WR_ROOM];
	struct stamp st;
	struct gso g;

	memcpy(&st, frame, sizeof st);
	HOLD(st.link == WR_LINK && st.gen == r->l.gen && st.kind == STAMP_DELIVER);
	HOLD(be16(frame + 12) == (frame[TAP_L2_LEN] >> 4 == 4 ? 0x0800 : 0x86dd));
	frame += TAP_L2_LEN;
	len -= TAP_L2_LEN;
	if (vh->gso_type == VIRTIO_NET_HDR_GSO_NONE) {
		HOLD(!vh->flags);
		came_out(frame, len);
		return;
	}
	HOLD(!gso_parse(&g, vh, frame, len, TAP_L2_LEN) && g.n_segs > 1);
	for (unsigned int i = 0; i < g.n_segs; i++)
		came_out(seg, gso_segment(&g, i, seg, sizeof seg));
}

/* ---- what goes in ---- */

/* The next packet of a flow, so that some merge. Return: length */
static uint32_t flow_packet(struct fuzz_in *in, uint8_t *buf)
{
	static const struct pktgen *const kinds[] = {&pg_tcp4, &pg_udp4, &pg_tcp6, &pg_udp6};
	uint8_t how = fuzz_u8(in), what = fuzz_u8(in);
	struct pktgen p = *kinds[how & 3];
	uint32_t len;

	p.payload = 1 + (what & 63) * 8;
	p.seq += (how >> 2 & 15) * p.payload;
	p.at = (how >> 2 & 15) * p.payload;
	p.id += how >> 2 & 15;
	p.tos = what >> 6;
	len = pg_build(buf, &p);
	if (how & 0x40)
		buf[fuzz_u8(in) % len] ^= 1 << (fuzz_u8(in) & 7);
	if (how & 0x80) /* not among the allowed sources, 10.0.0.0/8 and fd00::/8 */
		buf[p.family == 4 ? IP4_ADDRS : IP6_ADDRS] ^= 1;
	return len;
}

static uint32_t probe(struct fuzz_in *in, uint8_t *buf)
{
	struct probe p = {.magic = PROBE_MAGIC};
	uint8_t how = fuzz_u8(in);

	p.type = how & 3;
	p.flags = how >> 2 & 1;
	p.floor_be = how & 8 ? htobe64(fuzz_u16(in)) : 0;
	p.nonce = how & 16 ? f.r.l.paths[0].live.nonce : 7;
	memcpy(buf, &p, sizeof p);
	buf[how & 32 ? 0 : sizeof p] ^= how & 32;
	return how & 64 ? fuzz_u8(in) % sizeof p : sizeof p;
}

static uint32_t add_trailer(uint8_t *body, uint32_t len, uint8_t next)
{
	uint32_t align = aead_by_alg(f.conf.alg)->align, pad = -(len + 2) & (align - 1);

	for (uint32_t i = 0; i < pad; i++)
		body[len + i] = (uint8_t)(i + 1);
	body[len + pad] = (uint8_t)pad;
	body[len + pad + 1] = next;
	return len + pad + 2;
}

static void may_come_out(const uint8_t *bytes, uint32_t len)
{
	struct plain *s = &f.plains[f.n_sent++];

	memcpy(s->bytes, bytes, len);
	s->len = len;
	s->out = false;
}

/* Slow reading of a plaintext: what of it may be delivered. Return: 0 = nothing, else its length (transport: + 1) */
static uint32_t deliverable(const uint8_t *body, uint32_t len, bool remote_ok)
{
	uint32_t pad, n;
	uint8_t next;

	if (len < 2)
		return 0;
	next = body[len - 1];
	pad = body[len - 2];
	if (pad + 2 > len)
		return 0;
	n = len - 2 - pad;
	for (uint32_t i = 0; i < pad; i++)
		if (body[n + i] != i + 1)
			return 0;
	if (f.flags & F_TRANSPORT)
		return next == 0 || next == 43 || next == 44 || next == 59 || !remote_ok ? 0 : n + 1;
	if (next == 4 && n >= 20 && body[0] >> 4 == 4 && (body[0] & 15) >= 5 && be16(body + 2) >= (body[0] & 15) * 4)
		return be16(body + 2) <= n ? be16(body + 2) : 0;
	if (next == 41 && n >= 40 && body[0] >> 4 == 6)
		return be16(body + 4) + 40u <= n ? be16(body + 4) + 40u : 0;
	return 0;
}

/* Nothing at all speaks against it. */
static bool must_come_out(const uint8_t *body, uint8_t how, uint8_t tos)
{
	bool ect = body[0] >> 4 == 4 ? body[IP4_TOS] & 3 : body[1] >> 4 & 3;

	if (f.flags & (F_DOWN | F_PING))
		return false;
	if (f.flags & F_TRANSPORT) /* the source is the envelope's, which is in no list */
		return !(f.flags & (F_INNER | F_LEARN)) && !(how & K_ELSEWHERE);
	return is_source_allowed(body) && (ect || (tos & 3) != 3);
}

/* What a plaintext that arrives whole leads to. */
static void expect(const uint8_t *body, uint32_t len, uint8_t how, uint8_t tos)
{
	uint32_t n = deliverable(body, len, !(how & K_ELSEWHERE) || f.flags & F_LEARN);

	if (n) {
		may_come_out(body, n - !!(f.flags & F_TRANSPORT));
		f.n_must += must_come_out(body, how, tos);
	}
	f.n_asked += len > sizeof(struct probe) && body[len - 1] == NEXT_NONE && !memcmp(body, PROBE_MAGIC, 4) &&
		     body[4] == PROBE_REQUEST;
}

static uint32_t plaintext(struct fuzz_in *in, uint8_t kind, uint8_t *body)
{
	uint32_t len, n;

	switch (kind) {
	case KIND_RAW:
		n = fuzz_u16(in) % PLAIN_MAX;
		len = (uint32_t)fuzz_take(in, body, n);
		if (f.r.in.sa.kind == AEAD_CBC_HMAC)
			len &= ~15u;
		return len;
	case KIND_FLOW:
		len = flow_packet(in, body);
		n = body[0] >> 4 == 4 ? IP4_HDR_LEN : IP6_HDR_LEN; /* whatever damage has made of it */
		f.proto = n == IP4_HDR_LEN ? body[IP4_PROTO] : body[IP6_NEXT];
		if (!(f.flags & F_TRANSPORT) || len < n)
			return add_trailer(body, len, n == IP4_HDR_LEN ? NEXT_IP4 : NEXT_IP6);
		memmove(body, body + n, len - n);
		return add_trailer(body, len - n, f.proto);
	default:
		return add_trailer(body, probe(in, body), NEXT_NONE);
	}
}

/* ESP header to ICV. Return: length, 0 = the body cannot be one of this suite */
static uint32_t envelope(struct fuzz_in *in, uint8_t how, uint8_t tos, bool *whole, uint8_t *esp)
{
	static uint8_t body[BODY_MAX];
	uint8_t iv[AEAD_IV_MAX] = {0};
	uint32_t len, n;

	*whole = false;
	if (how & K_AGAIN && f.last_len) {
		memcpy(esp, f.last, f.last_len);
		return f.last_len;
	}
	if ((how & K_PLAIN) == KIND_GARBAGE) {
		n = fuzz_u8(in);
		len = (uint32_t)fuzz_take(in, esp, n);
		if (how & K_SKIP && len >= 4)
			model_put_be(esp, f.conf.spi, 4);
		return len;
	}
	len = plaintext(in, how & K_PLAIN, body);
	f.seq += 1 + (how & K_SKIP ? fuzz_u8(in) : 0);
	model_put_be(iv, f.seq, 8);
	n = model_seal(f.r.in.sa.aead, &f.conf, f.seq, iv, body, len, esp);
	HOLD(n);
	if (how & K_DAMAGE) {
		esp[fuzz_u16(in) % n] ^= 1 << (fuzz_u8(in) & 7);
		return n;
	}
	*whole = true;
	memcpy(f.last, esp, n);
	f.last_len = n;
	expect(body, len, how, tos);
	return n;
}

static void outer4(uint8_t *ip, const struct wr_msg *m, uint32_t len)
{
	struct in_addr s = addr_to4(&m->src), d = addr_to4(&m->dst);

	memset(ip, 0, 20);
	ip[0] = 0x45;
	ip[IP4_TOS] = m->tos;
	pg16(ip + IP4_TOT_LEN, len);
	ip[IP4_TTL] = m->ttl;
	ip[IP4_PROTO] = m->port ? IPPROTO_UDP : IPPROTO_ESP;
	memcpy(ip + IP4_ADDRS, &s, 4);
	memcpy(ip + IP4_ADDRS + 4, &d, 4);
	pg16(ip + IP4_CSUM, (uint16_t)~slow_sum(ip, 20, 0));
}

static void outer6(uint8_t *ip, const struct wr_msg *m, uint32_t len)
{
	memset(ip, 0, 40);
	ip[0] = 0x60 | m->tos >> 4;
	ip[1] = m->tos << 4;
	pg16(ip + IP6_PAYLOAD_LEN, len - 40);
	ip[IP6_NEXT] = m->port ? IPPROTO_UDP : IPPROTO_ESP;
	ip[IP6_HOP_LIMIT] = m->ttl;
	memcpy(ip + IP6_ADDRS, &m->src, 16);
	memcpy(ip + IP6_ADDRS + 16, &m->dst, 16);
}

/* Outer headers before the ESP bytes at buf + 64. Return: where they begin; *len grows by them */
static uint8_t *with_headers(uint8_t *buf, const struct wr_msg *m, uint32_t *len)
{
	uint8_t *ip = buf + 64;

	if (m->port) {
		ip -= 8;
		*len += 8;
		pg16(ip, m->port);
		pg16(ip + 2, ESP_PORT);
		pg16(ip + 4, *len);
		pg16(ip + 6, 0);
	}
	ip -= v6_outer() ? 40 : 20;
	*len += v6_outer() ? 40 : 20;
	if (v6_outer())
		outer6(ip, m, *len);
	else
		outer4(ip, m, *len);
	return ip;
}

/* By the wire funnel, or by a socket: raw IPv4 with its header. */
static void travel(uint8_t *buf, uint32_t len, uint8_t how, const struct wr_msg *like)
{
	struct wr_msg m = *like;
	uint8_t *ip;

	if (how & K_FRAME && len + 128 < FUNNEL_MTU) {
		ip = with_headers(buf, &m, &len);
		wr_frame(&f.r, ip, len);
		return;
	}
	m.bytes = buf + 64;
	if (!m.port && !v6_outer())
		m.bytes = with_headers(buf, &m, &len);
	m.len = len;
	wr_message(&f.r, &m);
}

static void record(struct fuzz_in *in)
{
	static uint8_t buf[64 + BODY_MAX + 128];
	struct worker_rig *r = &f.r;
	uint8_t how = fuzz_u8(in);
	struct wr_msg m = {.src = wr_addr(v6_outer() ? "2001:db8::7" : "198.51.100.7"),
			   .dst = wr_addr(v6_outer() ? "2001:db8::1" : "192.0.2.1"),
			   .port = f.flags & F_UDP ? ESP_PORT : 0, .tos = f.tos++, .ttl = 61};
	uint64_t top = r->in_ctr.top, words[2] = {r->words[0], r->words[1]};
	unsigned int sent = r->n_sent, moved = r->l.live.moved;
	bool whole;
	uint32_t len;

	if (how & K_ELSEWHERE)
		m.src.s6_addr[15] ^= 0x40;
	len = envelope(in, how, m.tos, &whole, buf + 64);
	if (!len && !m.port)
		return;
	if (how & K_TRAIN && m.port && len) { /* UDP_GRO: twice the same in one message */
		if (2 * len < BODY_MAX)
			memcpy(buf + 64 + len, buf + 64, len), m.seg = (uint16_t)len, len *= 2, f.n_envelopes++;
		how &= ~K_FRAME;
	}
	f.n_envelopes += len || how & K_FRAME; /* a socket's empty datagram is nothing */
	travel(buf, len, how, &m);
	if (whole)
		return;
	HOLD(top == r->in_ctr.top && !memcmp(words, r->words, sizeof words));
	HOLD(sent == r->n_sent && moved == r->l.live.moved);
}

/* Everything that came in is somewhere. */
static void books(void)
{
	const struct wlink_ctr *c = &f.r.ctr;

	HOLD(c->in_pkts == f.n_out && f.n_out >= f.n_must);
	HOLD(c->in_pkts + c->in_probes + wr_drops(&f.r) + f.r.w.stats.no_sa + f.r.w.stats.torn == f.n_envelopes);
	HOLD(f.r.n_sent <= f.n_asked && f.r.out.sa.seq <= f.r.out.sa.seq_limit);
	for (unsigned int i = 0; i < MIN(f.r.n_sent, 8u); i++) /* answers, never questions */
		HOLD(f.r.sent[i].probe && f.r.sent[i].bytes[4] == PROBE_REPLY);
}

static void settings(void)
{
	static struct prefix inner[2];
	struct wlink *l = &f.r.l;

	prefix_parse("10.0.0.0/8", &inner[0]);
	prefix_parse("fd00::/8", &inner[1]);
	if (f.flags & F_INNER)
		l->inner = inner, l->n_inner = 2;
	l->admin_up = !(f.flags & F_DOWN);
	l->mode = f.flags & F_PING ? LIVE_PING : LIVE_PROBE;
	l->paths[0].learn = f.flags & F_LEARN;
	l->out = &f.r.out;
	l->out->sa.seq_limit = 1 << 20;
	f.r.tap = to_tap;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = {data, size};
	static bool ready;
	uint8_t suite;

	if (!ready)
		HOLD(!aead_backend_select(getenv("BACKEND") ? getenv("BACKEND") : "auto"));
	ready = true;
	suite = fuzz_u8(&in);
	f.flags = fuzz_u8(&in);
	f.conf = (struct sa_conf){.dir = SA_IN, .spi = 0x01020304, .alg = AEAD_NONE + 1 + suite % (AEAD_MAX - 1),
				  .mode = f.flags & F_TRANSPORT ? SA_TRANSPORT : SA_TUNNEL,
				  .esn = f.flags & F_ESN, .window = WR_WINDOW};
	f.seq = f.n_sent = f.n_out = f.n_must = f.n_envelopes = f.n_asked = f.last_len = f.tos = 0;
	HOLD(!wr_init(&f.r, &f.conf, v6_outer() ? "2001:db8::7" : "198.51.100.7", f.flags & F_UDP ? ENCAP_UDP : ENCAP_ESP));
	settings();
	while (in.left && f.n_sent + 2 < PKTS)
		record(&in);
	books();
	wr_fini(&f.r);
	return 0;
}

#ifndef FUZZ_LIBFUZZER
static size_t make_raw(uint64_t *s, uint8_t *buf)
{
	size_t len = 30 + fuzz_random(s) % 200, n = 0;

	buf[n++] = KIND_RAW;
	buf[n++] = 0;
	buf[n++] = (uint8_t)len;
	memset(buf + n, 0, len);
	buf[n] = fuzz_random(s) % 2 ? 0x45 : 0x60;
	buf[n + 3] = buf[n + 5] = (uint8_t)(fuzz_random(s) % 64);
	buf[n + 9] = buf[n + 6] = (uint8_t)(fuzz_random(s) % 60);
	buf[n + 8] = buf[n + 12] = (uint8_t[]){10, 0xfd, 11, 0xfc}[fuzz_random(s) % 4];
	buf[n + len - 1] = (uint8_t[]){4, 41, 59, 6}[fuzz_random(s) % 4];
	return n + len;
}

/* A few packets of a flow, one behind the other and of one size, so that they merge; now and then a damaged one. */
static size_t make_flow(uint64_t *s, uint8_t *buf, uint8_t how)
{
	uint8_t kind = fuzz_random(s) & 3, what = (uint8_t)(fuzz_random(s) & 0x0f), odd = fuzz_random(s) % 8 ? 0 : 0xc0;
	size_t n = 0;

	for (uint64_t i = 0, k = 1 + fuzz_random(s) % 8; i < k; i++) {
		uint8_t flow = (uint8_t)(kind | i << 2 | (fuzz_random(s) % 4 ? 0 : odd & fuzz_random(s)));

		buf[n++] = KIND_FLOW | how;
		buf[n++] = flow;
		buf[n++] = what;
		if (flow & 0x40) {
			buf[n++] = (uint8_t)fuzz_random(s);
			buf[n++] = (uint8_t)fuzz_random(s);
		}
	}
	return n;
}

static size_t make_input(uint64_t *s, uint8_t *buf, size_t room)
{
	size_t n = 0;

	buf[n++] = (uint8_t)fuzz_random(s);
	buf[n++] = (uint8_t)(fuzz_random(s) & fuzz_random(s));
	for (uint64_t k = 1 + fuzz_random(s) % 6; k && n + 300 < room; k--) {
		uint8_t how = (uint8_t)(fuzz_random(s) & fuzz_random(s) & fuzz_random(s) & ~K_PLAIN);

		switch (fuzz_random(s) % 4) {
		case 0:
			n += make_raw(s, buf + n);
			break;
		case 1:
			buf[n++] = (uint8_t)(how | KIND_PROBE);
			buf[n++] = (uint8_t)fuzz_random(s);
			break;
		case 2:
			buf[n++] = (uint8_t)(how | KIND_GARBAGE);
			buf[n++] = 40;
			break;
		default:
			n += make_flow(s, buf + n, how);
		}
	}
	return n;
}
#endif
