/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inner_fuzz - the small pure checks: inner source, quoted packet, ECN, and transport mode there and back.
 *
 * Input: a byte that chooses, then an IP packet's bytes behind prefixes or an envelope's fields. Held up, each
 * against a slow reading of its RFC: a source passes when one of the prefixes has it, bit by bit, and so does what
 * an ICMP error straight behind the header quotes, while what is no error always passes; ECN follows
 * RFC 6040's table and touches nothing else, and a header checksum is as right or wrong after it as before; a
 * packet that transport mode takes comes back byte for byte, checksums that were wrong included.
 */
#include <stdbool.h>
#include <stdint.h>
#include "fuzz_main.h"
#include "conf.h"
#include "inner.h"
#include "pkt.h"
#include "pktgen.h"
#include "sel.h"
#include "transport.h"
#include "ipsec_wire.h"

enum { PREFIXES = 6, PKT_MAX = 1500, FRONT = 64 };

/* ::ffff:0:0/96: as an envelope's address it would be an IPv4 one. */
static bool is_mapped(const void *a)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	return !memcmp(a, mapped, sizeof mapped);
}

/* ---- source ---- */

static bool bit(const uint8_t *a, unsigned int i)
{
	return a[i / 8] >> (7 - i % 8) & 1;
}

/* RFC 4301 5.2, the slow way; a v4-mapped source in an IPv6 packet is nobody's. */
static bool slow_match(const struct prefix *p, const uint8_t *src, uint8_t family)
{
	const uint8_t *a = p->is4 ? p->addr.s6_addr + 12 : p->addr.s6_addr;

	if (p->is4 != (family == 4) || (family == 6 && is_mapped(src)))
		return false;
	for (unsigned int i = 0; i < p->len; i++)
		if (bit(a, i) != bit(src, i))
			return false;
	return true;
}

/* A prefix of the packet's own source with some bits turned, so that both answers come up. */
static void make_prefix(struct prefix *p, struct fuzz_in *in, const uint8_t *src, uint8_t family)
{
	uint8_t how = fuzz_u8(in);
	unsigned int bits;

	p->is4 = how & 1 ? family == 4 : family != 4;
	bits = p->is4 ? 32 : 128;
	p->len = (uint8_t)(fuzz_u8(in) % (bits + 1));
	memset(&p->addr, 0, sizeof p->addr);
	if (p->is4)
		p->addr.s6_addr[10] = p->addr.s6_addr[11] = 0xff;
	memcpy(p->addr.s6_addr + (p->is4 ? 12 : 0), src, bits / 8);
	if (how & 2)
		p->addr.s6_addr[(p->is4 ? 12 : 0) + fuzz_u8(in) % (bits / 8)] ^= 1 << (how >> 5);
	for (unsigned int i = p->len; i < bits; i++)
		p->addr.s6_addr[(p->is4 ? 12 : 0) + i / 8] &= (uint8_t) ~(1 << (7 - i % 8));
}

static void source(struct fuzz_in *in, uint8_t *ip, uint8_t family)
{
	uint8_t src[16] = {0};
	struct prefix list[PREFIXES];
	unsigned int n = fuzz_u8(in) % (PREFIXES + 1);
	bool want = !n;

	memcpy(src, ip + (family == 4 ? IP4_ADDRS : IP6_ADDRS), family == 4 ? 4 : 16);
	for (unsigned int i = 0; i < n; i++) {
		make_prefix(&list[i], in, src, family);
		want |= slow_match(&list[i], src, family);
	}
	HOLD(inner_source_ok(ip, family, list, n) == want);
}

/* ---- quoted packet ---- */

/* No extension headers, no options, no fragments: what is left to read of RFC 4301 6.2 is four lines. */
static bool slow_quote(const uint8_t *ip, uint32_t len, uint8_t family, const struct prefix *list, unsigned int n)
{
	uint32_t at = family == 4 ? 20 : 40;
	bool error = len > at && (family == 4 ? ip[at] < 32 && 0x1838 >> ip[at] & 1 : ip[at] < 128), ok = !error;

	if (error && len >= 2 * at + 8 && ip[at + 8] >> 4 == family)
		for (unsigned int i = 0; i < n; i++)
			ok |= slow_match(&list[i], ip + at + 8 + (family == 4 ? 16 : 24), family);
	return ok;
}

/* ---- selectors ---- */

/* The selector made of what was read takes the packet; one that is beside it does so only for what is quoted. */
static void selectors(struct fuzz_in *in, const uint8_t *ip, uint32_t len, uint8_t family)
{
	const uint8_t *src = ip + (family == 4 ? 12 : 8), *dst = ip + (family == 4 ? 16 : 24);
	uint8_t byte = fuzz_u8(in);
	struct sel_flow f, q;
	struct sel s;

	memset(&s, 0, sizeof s);
	if (!sel_flow(&f, ip, len)) {
		HOLD(family == 6 && (is_mapped(src) || is_mapped(dst)));
		return;
	}
	HOLD(!memcmp(f.src.s6_addr + (family == 4 ? 12 : 0), src, family == 4 ? 4 : 16));
	HOLD(!memcmp(f.dst.s6_addr + (family == 4 ? 12 : 0), dst, family == 4 ? 4 : 16));
	s.src[0] = s.src[1] = f.src;
	s.dst[0] = s.dst[1] = f.dst;
	s.proto = f.proto;
	s.sport[0] = f.has_ports ? f.sport : 0;
	s.sport[1] = f.has_ports ? f.sport : 65535;
	s.dport[0] = f.has_ports ? f.dport : 0;
	s.dport[1] = f.has_ports ? f.dport : 65535;
	HOLD(sels_take(&s, 1, ip, len));
	s.dst[0].s6_addr[15] ^= byte | 1;
	s.dst[1] = s.dst[0];
	HOLD(!sels_take(&s, 1, ip, len) || sel_quoted(&q, ip, len));
}

static void quote(struct fuzz_in *in, uint8_t *ip, uint32_t len, uint8_t family)
{
	uint32_t at = family == 4 ? 20 : 40, dst = at + 8 + (family == 4 ? 16 : 24);
	unsigned int n = 1 + fuzz_u8(in) % PREFIXES;
	struct prefix list[PREFIXES];
	uint8_t src[16] = {0};

	HOLD(inner_quote_ok(ip, len, family, NULL, 0));
	selectors(in, ip, len, family);
	if (len >= 2 * at + 8)
		memcpy(src, ip + dst, family == 4 ? 4 : 16);
	for (unsigned int i = 0; i < n; i++)
		make_prefix(&list[i], in, src, family);
	inner_quote_ok(ip, len, family, list, n); /* as it comes: nothing behind it is read */
	ip[family == 4 ? IP4_PROTO : IP6_NEXT] = family == 4 ? 1 : 58;
	if (family == 4) {
		ip[0] = 0x45;
		ip[IP4_FRAG] = ip[IP4_FRAG + 1] = 0;
	}
	HOLD(inner_quote_ok(ip, len, family, list, n) == slow_quote(ip, len, family, list, n));
	ip[family == 4 ? IP4_PROTO : IP6_NEXT] = 17;
	HOLD(inner_quote_ok(ip, len, family, list, n));
}

/* ---- ECN ---- */

enum { DROPPED = 4 };

/* RFC 6040 figure 4: outer, inner -> what goes on. */
static const uint8_t table[4][4] = {
	/* inner:     not-ECT  ECT(1)   ECT(0)   CE */
	[0] = {0, 1, 2, 3},
	[1] = {0, 1, 1, 3},
	[2] = {0, 1, 2, 3},
	[3] = {DROPPED, 3, 3, 3},
};

static void ecn(struct fuzz_in *in, uint8_t *ip, uint32_t len, uint8_t family)
{
	uint8_t tos = fuzz_u8(in), *was = fuzz_copy(ip, len);
	uint8_t field = family == 4 ? ip[IP4_TOS] & 3 : ip[1] >> 4 & 3, want = table[tos & 3][field];
	enum drop d = inner_ecn(ip, family, tos);

	HOLD(d == (want == DROPPED ? DROP_ECN_CE_NOT_ECT : DROP_NONE));
	if (!d) {
		HOLD((family == 4 ? ip[IP4_TOS] & 3 : ip[1] >> 4 & 3) == want);
		if (family == 4)
			HOLD(slow_sum(ip, 20, 0) % 0xffff == slow_sum(was, 20, 0) % 0xffff);
		if (want == field)
			HOLD(!memcmp(ip, was, len));
	}
	was[family == 4 ? IP4_TOS : 1] = ip[family == 4 ? IP4_TOS : 1]; /* and nothing else */
	if (family == 4)
		memcpy(was + IP4_CSUM, ip + IP4_CSUM, 2);
	HOLD(!memcmp(was, ip, len));
	free(was);
}

/* ---- transport mode ---- */

/* Behind ESP stands what stood behind the header; in front of it what the envelope's socket made. */
static void there_and_back(struct fuzz_in *in, const uint8_t *ip, uint32_t len, uint8_t family)
{
	static uint8_t frame[FRONT + PKT_MAX + 64], spare[PKT_MAX + 64];
	struct in6_addr src = {0}, dst = {0};
	struct sa_in sa = {.layout = ESP_LAYOUT_AEAD, .transport = true};
	uint8_t how = fuzz_u8(in);
	struct transport_hdr h = {0};
	struct rx_meta m = {.encap = how & 1 ? ENCAP_UDP : ENCAP_ESP, .has_tos = true, .front = how & 2 ? 64 : 0};
	struct esp_pkt p;
	enum drop d;

	if (family == 4) {
		src.s6_addr[10] = src.s6_addr[11] = dst.s6_addr[10] = dst.s6_addr[11] = 0xff;
		memcpy(src.s6_addr + 12, ip + IP4_ADDRS, 4);
		memcpy(dst.s6_addr + 12, ip + IP4_ADDRS + 4, 4);
	} else {
		memcpy(&src, ip + IP6_ADDRS, 16);
		memcpy(&dst, ip + IP6_ADDRS + 16, 16);
	}
	if (how & 4)
		dst.s6_addr[15] ^= 1;
	d = transport_take(ip, len, &dst, &h);
	HOLD(d == DROP_NONE || d == DROP_SHORT || d == DROP_FRAG_UNSUPPORTED || d == DROP_NOT_TRANSPORT);
	if (how & 4 || (family == 6 && (is_mapped(&src) || is_mapped(&dst))))
		HOLD(d);
	if (d)
		return;
	HOLD(h.hdr_len == (family == 4 ? 20 : 40) && !memcmp(&h.src, &src, 16) && esp_carries(h.next));
	m.src = src;
	m.dst = dst;
	m.tos = family == 4 ? ip[IP4_TOS] : (uint8_t)(ip[0] << 4 | ip[1] >> 4);
	m.ttl = h.ttl;
	memcpy(frame + FRONT, ip + h.hdr_len, len - h.hdr_len);
	if (how & 8) { /* a wire frame: the header itself is there */
		memcpy(frame, ip, h.hdr_len);
		m.ip = frame;
		m.hdr_len = h.hdr_len;
	}
	p = (struct esp_pkt){.data = frame + FRONT, .len = len - h.hdr_len, .next = h.next};
	HOLD(transport_spare(&p, &sa, &m) <= sizeof spare);
	transport_restore(&p, &sa, &m, spare);
	HOLD(p.len == len && p.next == (family == 4 ? NEXT_IP4 : NEXT_IP6));
	HOLD(p.data[family == 4 ? IP4_PROTO : IP6_NEXT] == h.next);
	HOLD(!memcmp(p.data + (family == 4 ? IP4_ADDRS : IP6_ADDRS), ip + (family == 4 ? IP4_ADDRS : IP6_ADDRS),
		     family == 4 ? 8 : 32));
	if (family == 4)
		HOLD(slow_sum(p.data, 20, 0) == 0xffff && be16(p.data + IP4_TOT_LEN) == len);
	else
		HOLD(be16(p.data + IP6_PAYLOAD_LEN) == len - 40);
	if (m.encap == ENCAP_ESP)
		HOLD(!memcmp(p.data + h.hdr_len, ip + h.hdr_len, len - h.hdr_len));
}

/* ---- all ---- */

/* The packet as the worker has it: a whole header, its length the packet's. Return: length, 0 = none */
static uint32_t packet(struct fuzz_in *in, uint8_t *ip, uint8_t *family)
{
	uint8_t how = fuzz_u8(in);
	uint32_t len;

	*family = how & 1 ? 4 : 6;
	len = (uint32_t)fuzz_take(in, ip, how & 2 ? 64 : 600);
	if (len < (*family == 4 ? 20 : 40))
		return 0;
	ip[0] = (uint8_t)(*family << 4 | (ip[0] & 15));
	if (*family == 4) {
		ip[0] = how & 4 ? 0x45 : ip[0];
		pg16(ip + IP4_TOT_LEN, len);
		if (how & 8)
			pg16(ip + IP4_FRAG, be16(ip + IP4_FRAG) & IP4_DF);
	} else {
		pg16(ip + IP6_PAYLOAD_LEN, len - 40);
	}
	return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = {data, size};
	uint8_t buf[PKT_MAX], what = fuzz_u8(&in), family, *ip;
	uint32_t len = packet(&in, buf, &family);

	if (!len)
		return 0;
	ip = fuzz_copy(buf, len);
	switch (what % 4) {
	case 0:
		source(&in, ip, family);
		break;
	case 1:
		ecn(&in, ip, len, family);
		break;
	case 2:
		quote(&in, ip, len, family);
		break;
	default:
		there_and_back(&in, ip, len, family);
	}
	free(ip);
	return 0;
}

#ifndef FUZZ_LIBFUZZER
static size_t make_input(uint64_t *s, uint8_t *buf, size_t room)
{
	static const struct pktgen *const kinds[] = {&pg_tcp4, &pg_udp4, &pg_tcp6, &pg_udp6};
	struct pktgen p = *kinds[fuzz_random(s) % 4];
	size_t n;

	p.payload = fuzz_random(s) % 64;
	buf[0] = (uint8_t)fuzz_random(s);
	buf[1] = (uint8_t)((p.family == 4) | 2 * (fuzz_random(s) & 7));
	n = 2 + pg_build(buf + 2, &p);
	if (fuzz_random(s) & 1) /* some of them quote themselves */
		memmove(buf + 2 + (p.family == 4 ? 28 : 48), buf + 2, p.family == 4 ? 20 : 40);
	if (fuzz_random(s) & 1)
		buf[2 + (p.family == 4 ? 20 : 40)] = (uint8_t)(fuzz_random(s) % 16);
	if (!(fuzz_random(s) & 1))
		buf[2 + fuzz_random(s) % (n - 2)] ^= (uint8_t)fuzz_random(s);
	for (unsigned int i = 0; i < 20; i++)
		buf[n++] = (uint8_t)fuzz_random(s);
	return n;
}
#endif
