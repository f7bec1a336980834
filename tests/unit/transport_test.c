/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transport mode: what may go and how it comes back, for every suite and both families, packet by
 * packet and in trains whose bytes touch; checksums that a NAT has broken.
 */
#include "crypto_rig.h"
#include "conf.h"
#include "csum.h"
#include "esp.h"
#include "pkt.h"
#include "transport.h"

enum { WINDOW = 128, MAX_LEN = 1500 };

static const char *const remote4 = "203.0.113.2", *const remote6 = "2001:db8::2";

static struct in6_addr addr(const char *s)
{
	struct in6_addr a;

	assert_int_equal(addr_parse(s, &a), 0);
	return a;
}

/* --- raw packets --------------------------------------------------------------------------------- */

/* The field a checksum of this protocol stands in. */
static uint32_t sum_at(uint8_t proto)
{
	return proto == IPPROTO_TCP ? TCP_CSUM : proto == IPPROTO_UDP ? UDP_CSUM : 2;
}

static void set_sum(uint8_t *ip, uint32_t hdr, uint32_t len, uint8_t proto)
{
	uint8_t *l4 = ip + hdr;
	uint16_t sum;

	put16(l4 + sum_at(proto), 0);
	sum = csum_fold(csum_partial(l4, len - hdr, csum_pseudo(ip, ip[0] >> 4, proto, len - hdr)));
	put16(l4 + sum_at(proto), proto == IPPROTO_UDP && !sum ? 0xffff : sum);
}

static bool sum_good(const uint8_t *ip, uint32_t hdr, uint32_t len, uint8_t proto)
{
	uint64_t pseudo = csum_pseudo(ip, ip[0] >> 4, proto, len - hdr);

	return !csum_fold(csum_partial(ip + hdr, len - hdr, pseudo));
}

/* To the peer, from us, noise inside; every field that may differ from packet to packet does. */
static void make4(uint8_t *ip, uint32_t len, uint8_t proto)
{
	struct in6_addr src = addr("198.51.100.1"), dst = addr(remote4);

	rig_fill(ip, len);
	ip[0] = 0x45;
	put16(ip + IP4_TOT_LEN, htons((uint16_t)len));
	put16(ip + IP4_FRAG, rig_below(2) ? htons(IP4_DF) : 0);
	ip[IP4_PROTO] = proto;
	memcpy(ip + IP4_ADDRS, src.s6_addr + 12, 4);
	memcpy(ip + IP4_ADDRS + 4, dst.s6_addr + 12, 4);
	put16(ip + IP4_CSUM, 0);
	put16(ip + IP4_CSUM, csum_fold(csum_partial(ip, 20, 0)));
}

static void make6(uint8_t *ip, uint32_t len, uint8_t next)
{
	struct in6_addr src = addr("2001:db8::1"), dst = addr(remote6);

	rig_fill(ip, len);
	ip[0] = 0x60 | (ip[0] & 15);
	put16(ip + IP6_PAYLOAD_LEN, htons((uint16_t)(len - 40)));
	ip[IP6_NEXT] = next;
	memcpy(ip + IP6_ADDRS, &src, 16);
	memcpy(ip + IP6_ADDRS + 16, &dst, 16);
}

/* --- what may go --------------------------------------------------------------------------------- */

static enum drop take(const uint8_t *ip, uint32_t len, struct transport_hdr *h)
{
	struct in6_addr remote = addr(ip[0] >> 4 == 4 ? remote4 : remote6);

	return transport_take(ip, len, &remote, h);
}

static void test_take4(void **state)
{
	struct in6_addr src = addr("198.51.100.1"), other = addr("203.0.113.3"), any = {0};
	struct transport_hdr h;
	uint8_t ip[100];

	for (unsigned int proto = 0; proto < 256; proto++) {
		make4(ip, sizeof ip, (uint8_t)proto);
		assert_int_equal(take(ip, sizeof ip, &h),
				 memchr("\0\x2b\x2c\x3b", (int)proto, 4) ? DROP_NOT_TRANSPORT : DROP_NONE);
		assert_int_equal(h.next, proto);
		assert_int_equal(h.hdr_len, 20);
		assert_int_equal(h.ttl, ip[IP4_TTL]);
		assert_memory_equal(&h.src, &src, 16);
	}
	make4(ip, sizeof ip, IPPROTO_TCP);
	assert_int_equal(transport_take(ip, sizeof ip, &other, &h), DROP_NOT_TRANSPORT);
	assert_int_equal(transport_take(ip, sizeof ip, &any, &h), DROP_NOT_TRANSPORT);
	for (uint32_t len = 0; len < 20; len++)
		assert_int_equal(take(ip, len, &h), DROP_SHORT);
	assert_int_equal(take(ip, 20, &h), DROP_NONE); /* nothing behind the header */
	for (unsigned int ihl = 0; ihl < 16; ihl++) {
		ip[0] = (uint8_t)(0x40 | ihl);
		assert_int_equal(take(ip, 40, &h), ihl < 5 || ihl > 10 ? DROP_SHORT :
						   ihl == 5	       ? DROP_NONE :
									 DROP_NOT_TRANSPORT);
	}
	ip[0] = 0x45;
	for (unsigned int bit = 0; bit < 16; bit++) { /* RFC 4303 3.3.4: any fragment, MF or offset */
		put16(ip + IP4_FRAG, htons((uint16_t)(1 << bit)));
		assert_int_equal(take(ip, sizeof ip, &h),
				 bit == 14 ? DROP_NONE : DROP_FRAG_UNSUPPORTED);
	}
}

static void test_take6(void **state)
{
	static const struct {
		uint8_t next;
		uint8_t after; /* what the header's first byte says, for those that have one */
		enum drop want;
	} rows[] = {
		{IPPROTO_TCP, 0, DROP_NONE},
		{IPPROTO_ICMPV6, 0, DROP_NONE},
		{NEXT_IP4, 0, DROP_NONE},
		{NEXT_IP6, 0, DROP_NONE},
		{IPPROTO_ESP, 0, DROP_NONE},
		{NEXT_NONE, 0, DROP_NOT_TRANSPORT},
		{IPPROTO_HOPOPTS, IPPROTO_TCP, DROP_NOT_TRANSPORT},
		{IPPROTO_ROUTING, IPPROTO_TCP, DROP_NOT_TRANSPORT},
		{IPPROTO_FRAGMENT, IPPROTO_TCP, DROP_FRAG_UNSUPPORTED},
		{IPPROTO_DSTOPTS, IPPROTO_UDP, DROP_NONE},
		{IPPROTO_DSTOPTS, IPPROTO_ROUTING, DROP_NOT_TRANSPORT},
		{IPPROTO_DSTOPTS, IPPROTO_FRAGMENT, DROP_FRAG_UNSUPPORTED},
		{IPPROTO_DSTOPTS, NEXT_NONE, DROP_NONE},
	};
	struct in6_addr src = addr("2001:db8::1"), other = addr("2001:db8::3"), mapped = addr("192.0.2.1");
	struct transport_hdr h;
	uint8_t ip[100];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		make6(ip, sizeof ip, rows[i].next);
		ip[40] = rows[i].after;
		ip[41] = 1; /* 16 bytes, if it is such a header */
		assert_int_equal(take(ip, sizeof ip, &h), rows[i].want);
		if (rows[i].want)
			continue;
		assert_int_equal(h.next, rows[i].next);
		assert_int_equal(h.hdr_len, 40);
		assert_int_equal(h.ttl, ip[IP6_HOP_LIMIT]);
		assert_memory_equal(&h.src, &src, 16);
	}
	make6(ip, sizeof ip, IPPROTO_TCP); /* an IPv4 address in an IPv6 header */
	memcpy(ip + IP6_ADDRS, &mapped, 16);
	assert_int_equal(take(ip, sizeof ip, &h), DROP_NOT_TRANSPORT);
	make6(ip, sizeof ip, IPPROTO_TCP);
	memcpy(ip + IP6_ADDRS + 16, &mapped, 16);
	assert_int_equal(transport_take(ip, sizeof ip, &mapped, &h), DROP_NOT_TRANSPORT);
	make6(ip, sizeof ip, IPPROTO_DSTOPTS); /* options behind options, and out of the packet */
	ip[40] = IPPROTO_DSTOPTS;
	ip[41] = 0;
	ip[48] = IPPROTO_TCP;
	ip[49] = 0;
	assert_int_equal(take(ip, sizeof ip, &h), DROP_NONE);
	ip[49] = 200;
	assert_int_equal(take(ip, sizeof ip, &h), DROP_SHORT);
	for (uint32_t len = 0; len < 56; len++)
		assert_int_equal(take(ip, len, &h), DROP_SHORT);
	make6(ip, sizeof ip, IPPROTO_TCP);
	assert_int_equal(transport_take(ip, sizeof ip, &other, &h), DROP_NOT_TRANSPORT);
	ip[0] = 0x50; /* no IP at all */
	assert_int_equal(take(ip, 30, &h), DROP_SHORT);
}

/* --- there and back ------------------------------------------------------------------------------ */

static struct pair {
	struct sa_out out;
	struct sa_in in;
	uint64_t top, words[WINDOW / 64 * 2];
} pair;

static void pair_open(enum aead_alg alg)
{
	struct sa_conf c = {.dir = SA_OUT, .spi = 0x10203040, .alg = alg, .esn = true,
			    .window = WINDOW, .mode = SA_TRANSPORT};

	memset(&pair, 0, sizeof pair);
	rig_fill(c.key, sizeof c.key);
	rig_fill(c.salt, sizeof c.salt);
	assert_int_equal(sa_out_init(&pair.out, &c), 0);
	c.dir = SA_IN;
	assert_int_equal(sa_in_init(&pair.in, &c, &pair.top, pair.words), 0);
}

static void pair_close(void)
{
	sa_out_fini(&pair.out);
	sa_in_fini(&pair.in);
}

/* Take the header off raw and seal the rest at at, where its ESP header will be. Return: envelope's length */
static uint32_t send_raw(const uint8_t *raw, uint32_t len, uint8_t *at)
{
	struct transport_hdr h;
	struct esp_pkt p = {.data = at + esp_headroom(pair.out.layout)};

	assert_int_equal(take(raw, len, &h), DROP_NONE);
	p.next = h.next;
	p.len = len - h.hdr_len;
	memcpy(p.data, raw + h.hdr_len, p.len);
	esp_seal(&pair.out, &p, 1);
	assert_int_equal(p.drop, DROP_NONE);
	assert_ptr_equal(p.data, at);
	return p.len;
}

static struct rx_meta outer_of(const uint8_t *raw)
{
	bool is4 = raw[0] >> 4 == 4;

	return (struct rx_meta){
		.src = addr(is4 ? "198.51.100.1" : "2001:db8::1"),
		.dst = addr(is4 ? remote4 : remote6),
		.tos = is4 ? raw[1] : (uint8_t)(raw[0] << 4 | raw[1] >> 4),
		.ttl = is4 ? raw[IP4_TTL] : raw[IP6_HOP_LIMIT],
	};
}

/* What no socket tells of the sender's header: identification and DF, flow label. */
static void forget_the_rest(uint8_t *ip)
{
	if (ip[0] >> 4 == 6) {
		ip[1] &= 0xf0;
		ip[2] = ip[3] = 0;
		return;
	}
	put16(ip + IP4_ID, 0);
	put16(ip + IP4_FRAG, 0);
	put16(ip + IP4_CSUM, 0);
	put16(ip + IP4_CSUM, csum_fold(csum_partial(ip, 20, 0)));
}

/* The header at hand, as on the wire: the whole packet comes back, byte for byte. */
static void whole_header(const uint8_t *raw, uint32_t len, bool udp)
{
	static uint8_t buf[MAX_LEN + 200];
	struct rx_meta o = outer_of(raw);
	uint32_t hdr = raw[0] >> 4 == 4 ? 20 : 40, at = hdr + (udp ? 8 : 0), n;
	struct fence f = fence_new(sizeof buf);
	struct esp_pkt p;
	uint8_t *frame;

	n = send_raw(raw, len, buf);
	frame = fence_end(&f, at + n);
	memcpy(frame, raw, hdr);
	frame[hdr == 20 ? 9 : 6] = IPPROTO_ESP; /* the envelope's own: replaced */
	rig_fill(frame + 2, hdr == 20 ? 2 : 0);
	memcpy(frame + at, buf, n);
	p = (struct esp_pkt){.data = frame + at, .len = n};
	esp_open(&pair.in, &p, 1, NULL);
	assert_int_equal(p.drop, DROP_NONE);
	o.ip = frame;
	o.hdr_len = (uint8_t)hdr;
	o.encap = udp ? ENCAP_UDP : ENCAP_ESP;
	assert_int_equal(transport_spare(&p, &pair.in, &o), 0);
	transport_restore(&p, &pair.in, &o, NULL);
	assert_int_equal(p.len, len);
	assert_memory_equal(p.data, raw, len);
	assert_int_equal(p.next, hdr == 20 ? NEXT_IP4 : NEXT_IP6);
	fence_free(&f);
}

/*
 * A train of envelopes as UDP_GRO gives it: back to back, opened together, then restored in turn
 * while the earlier ones are still in use. No header may fall on another packet.
 */
static void train(uint8_t (*raw)[MAX_LEN], const uint32_t *len, unsigned int n)
{
	static uint8_t buf[64 + ESP_BATCH * (MAX_LEN + 100)], spare[ESP_BATCH][MAX_LEN];
	struct esp_pkt p[ESP_BATCH];
	uint32_t at = 64, k, moved = 0;

	for (unsigned int i = 0; i < n; i++, at += k) {
		k = send_raw(raw[i], len[i], buf + at);
		p[i] = (struct esp_pkt){.data = buf + at, .len = k};
	}
	esp_open(&pair.in, p, n, NULL);
	for (unsigned int i = 0; i < n; i++) {
		struct rx_meta o = outer_of(raw[i]);

		assert_int_equal(p[i].drop, DROP_NONE);
		o.front = i ? pair.in.layout.icv_len : 64;
		moved += transport_spare(&p[i], &pair.in, &o) != 0;
		assert_in_range(transport_spare(&p[i], &pair.in, &o), 0, MAX_LEN);
		transport_restore(&p[i], &pair.in, &o, spare[i]);
	}
	if (8 + pair.in.layout.iv_len + pair.in.layout.icv_len >= 40) /* AES-CBC with HMAC-SHA-2: room for any header */
		assert_int_equal(moved, 0);
	for (unsigned int i = 0; i < n; i++) {
		forget_the_rest(raw[i]);
		assert_int_equal(p[i].len, len[i]);
		assert_memory_equal(p[i].data, raw[i], len[i]);
		assert_int_equal(p[i].next, raw[i][0] >> 4 == 4 ? NEXT_IP4 : NEXT_IP6);
	}
}

static void test_round_trip(void **state)
{
	static uint8_t raw[ESP_BATCH][MAX_LEN];
	uint32_t len[ESP_BATCH];

	for (enum aead_alg alg = AEAD_NONE + 1; alg < AEAD_MAX; alg++) {
		pair_open(alg);
		for (uint32_t n = 0; n < 100; n++) {
			make4(raw[0], 20 + n, (uint8_t)(100 + n));
			whole_header(raw[0], 20 + n, n % 2);
			make6(raw[0], 40 + n, IPPROTO_SCTP);
			whole_header(raw[0], 40 + n, n % 2);
		}
		for (int pass = 0; pass < 40; pass++) {
			for (unsigned int i = 0; i < ESP_BATCH; i++) {
				bool six = rig_below(2);

				len[i] = 40 + (uint32_t)rig_below(pass % 2 ? 30 : MAX_LEN - 40);
				if (six)
					make6(raw[i], len[i], IPPROTO_UDP);
				else
					make4(raw[i], len[i], NEXT_IP4);
			}
			train(raw, len, ESP_BATCH);
		}
		pair_close();
	}
}

/* What transport mode may find behind ESP; the dummy stays a dummy. */
static void test_next_headers(void **state)
{
	uint8_t frame[200];

	pair_open(AEAD_AES_GCM_128);
	for (unsigned int next = 0; next < 256; next++) {
		struct esp_pkt p = {.data = frame + 16, .len = 30, .next = (uint8_t)next};
		bool bad = next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING ||
			   next == IPPROTO_FRAGMENT;

		esp_seal(&pair.out, &p, 1);
		esp_open(&pair.in, &p, 1, NULL);
		assert_int_equal(p.drop, bad ? DROP_BAD_NEXT_HEADER : DROP_NONE);
		assert_int_equal(p.next, next);
		if (!bad)
			assert_int_equal(p.len, 30); /* never trimmed: nothing inside says how long it is */
	}
	pair_close();
}

/* --- RFC 3948 3.1.2 ------------------------------------------------------------------------------ */

/* raw was sent from its own addresses; the envelope shows those of a NAT. Return: is the sum right now? */
static bool through_nat(const uint8_t *raw, uint32_t len, uint8_t proto, bool udp, uint8_t *got)
{
	uint32_t hdr = raw[0] >> 4 == 4 ? 20 : 40, n;
	struct rx_meta o = outer_of(raw);
	static uint8_t buf[MAX_LEN + 200];
	struct esp_pkt p;

	o.src = addr(hdr == 20 ? "192.0.2.77" : "2001:db8:77::1");
	o.encap = udp ? ENCAP_UDP : ENCAP_ESP;
	o.front = 64;
	n = send_raw(raw, len, buf + 64);
	p = (struct esp_pkt){.data = buf + 64, .len = n};
	esp_open(&pair.in, &p, 1, NULL);
	assert_int_equal(p.drop, DROP_NONE);
	transport_restore(&p, &pair.in, &o, NULL);
	assert_int_equal(p.len, len);
	memcpy(got, p.data, len);
	return sum_good(got, hdr, len, proto);
}

static void test_nat(void **state)
{
	static const uint8_t protos[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMPV6};
	uint8_t raw[MAX_LEN], got[MAX_LEN];

	pair_open(AEAD_CHACHA20_POLY1305);
	for (unsigned int i = 0; i < 600; i++) {
		uint8_t proto = protos[i % 3];
		bool six = proto == IPPROTO_ICMPV6 || rig_below(2);
		uint32_t hdr = six ? 40 : 20, len = hdr + 20 + (uint32_t)rig_below(200);

		(six ? make6 : make4)(raw, len, proto);
		set_sum(raw, hdr, len, proto);
		assert_true(sum_good(raw, hdr, len, proto));
		assert_true(through_nat(raw, len, proto, true, got));
		/* nothing else inside has changed */
		memset(raw + hdr + sum_at(proto), 0, 2);
		memset(got + hdr + sum_at(proto), 0, 2);
		assert_memory_equal(raw + hdr, got + hdr, len - hdr);
		/* not in UDP: no NAT can have been there, so a wrong sum stays wrong */
		assert_false(through_nat(raw, len, proto, false, got));
	}
	/* no checksum (RFC 768) stays none; too short for one is left alone */
	make4(raw, 60, IPPROTO_UDP);
	put16(raw + 20 + UDP_CSUM, 0);
	through_nat(raw, 60, IPPROTO_UDP, true, got);
	assert_int_equal(get16(got + 20 + UDP_CSUM), 0);
	make4(raw, 20 + 7, IPPROTO_UDP);
	through_nat(raw, 20 + 7, IPPROTO_UDP, true, got);
	assert_memory_equal(got + 20, raw + 20, 7);
	/* ICMP over IPv4 sums no addresses */
	make4(raw, 60, IPPROTO_ICMP);
	through_nat(raw, 60, IPPROTO_ICMP, true, got);
	assert_memory_equal(got + 20, raw + 20, 40);
	pair_close();
}

/* A right sum is not touched, whatever else: it may be the sender's 0xffff. */
static void test_right_sums_stay(void **state)
{
	uint8_t raw[80];

	pair_open(AEAD_AES_GCM_256);
	for (unsigned int i = 0; i < 200; i++) {
		make4(raw, sizeof raw, IPPROTO_UDP);
		set_sum(raw, 20, sizeof raw, IPPROTO_UDP);
		whole_header(raw, sizeof raw, true);
	}
	pair_close();
}

/* --- other addresses ----------------------------------------------------------------------------- */

static void make(uint8_t *ip, uint32_t len, uint8_t proto, bool is4)
{
	if (is4)
		make4(ip, len, proto);
	else
		make6(ip, len, proto);
}

/* There and back: right checksums stay right, wrong ones wrong, and nothing else but the addresses moves. */
static void readdressed(bool is4, uint8_t proto)
{
	struct in6_addr a = addr(is4 ? "198.51.100.1" : "2001:db8::1"), b = addr(is4 ? remote4 : remote6);
	struct in6_addr own = addr(is4 ? "10.9.0.1" : "fd09::1"), far = addr(is4 ? "10.9.0.2" : "fd09::2");
	uint32_t hdr = is4 ? 20 : 40, len = hdr + 20 + rig_below(1200), sum = sum_at(proto);
	uint8_t raw[1500], got[1500];
	bool good = rig_below(4);

	make(raw, len, proto, is4);
	set_sum(raw, hdr, len, proto);
	raw[len - 1] ^= !good;
	memcpy(got, raw, len);
	assert_true(transport_between(got, len, &a, &b));
	assert_false(transport_between(got, len, &b, &a));
	transport_readdress(got, len, &own, &far);
	assert_true(transport_between(got, len, &own, &far));
	assert_int_equal(sum_good(got, hdr, len, proto), good);
	assert_true(!is4 || !csum_fold(csum_partial(got, 20, 0)));
	assert_memory_equal(got + hdr, raw + hdr, sum);
	assert_memory_equal(got + hdr + sum + 2, raw + hdr + sum + 2, len - hdr - sum - 2);
	transport_readdress(got, len, &a, &b);
	assert_int_equal(sum_good(got, hdr, len, proto), good);
	assert_memory_equal(got + hdr, raw + hdr, sum);
}

static void test_readdress(void **state)
{
	static const uint8_t protos[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMPV6};
	struct in6_addr own = addr("10.9.0.1"), far = addr("10.9.0.2");
	uint8_t raw[60], got[60];

	for (unsigned int i = 0; i < 30000; i++)
		readdressed(i % 5 < 2, protos[i % 5 < 2 ? i % 2 : i % 3]);
	/* UDP without a checksum; a later fragment, whose bytes are no header; ICMP over IPv4 */
	for (unsigned int i = 0; i < 3; i++) {
		make4(raw, sizeof raw, i == 2 ? IPPROTO_ICMP : IPPROTO_UDP);
		if (!i)
			put16(raw + 20 + UDP_CSUM, 0);
		if (i == 1)
			put16(raw + IP4_FRAG, htons(100));
		memcpy(got, raw, sizeof raw);
		transport_readdress(got, sizeof got, &own, &far);
		assert_memory_equal(got + 20, raw + 20, 40);
	}
}

/* No byte behind a packet of any length is looked at (AddressSanitizer watches), quotes cut short included. */
static void test_readdress_short(void **state)
{
	static const uint8_t protos[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_DSTOPTS};

	for (unsigned int i = 0; i < ARRAY_SIZE(protos); i++) {
		for (uint32_t len = 20; len < 120; len++) {
			bool is4 = len < 40 || rig_below(2);
			struct in6_addr own = addr(is4 ? "10.9.0.1" : "fd09::1"), far = addr(is4 ? "10.9.0.2" : "fd09::2");
			uint8_t *ip = malloc(len);

			make(ip, len, protos[i], is4);
			if (len > (is4 ? 20u : 40u))
				ip[is4 ? 20 : 40] = is4 ? 3 : 1;
			if (len > 60 && is4) /* quotes itself, the other way */
				memcpy(ip + 28, ip, 12), memcpy(ip + 40, ip + 16, 4), memcpy(ip + 44, ip + 12, 4);
			transport_readdress(ip, len, &own, &far);
			free(ip);
		}
	}
}

/* RFC 5508 4.2: the quoted packet gets the addresses back that it had on the other side. */
static void test_readdress_quote(void **state)
{
	for (int is4 = 0; is4 < 2; is4++) {
		struct in6_addr a = addr(is4 ? "198.51.100.1" : "2001:db8::1"), b = addr(is4 ? remote4 : remote6);
		struct in6_addr own = addr(is4 ? "10.9.0.1" : "fd09::1"), far = addr(is4 ? "10.9.0.2" : "fd09::2");
		uint32_t hdr = is4 ? 20 : 40, len = 2 * hdr + 8 + 8, size = is4 ? 4 : 16, at = is4 ? IP4_ADDRS : IP6_ADDRS;
		uint8_t p[120], *q = p + hdr + 8, want[120];

		make(p, len, is4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, is4);
		p[hdr] = is4 ? 3 : 1;
		make(want, hdr + 8, IPPROTO_UDP, is4);
		memcpy(q, want, hdr + 8);
		memcpy(q + at, want + at + size, size); /* the other way: an IPv4 header's sum is the same */
		memcpy(q + at + size, want + at, size);
		if (!is4)
			set_sum(p, hdr, len, IPPROTO_ICMPV6);
		transport_readdress(p, len, &own, &far);
		assert_true(transport_between(q, hdr + 8, &far, &own));
		assert_true(is4 ? !csum_fold(csum_partial(q, 20, 0)) : sum_good(p, hdr, len, IPPROTO_ICMPV6));
		transport_readdress(p, len, &a, &b);
		assert_true(transport_between(q, hdr + 8, &b, &a));
	}
}

/* --- sizes --------------------------------------------------------------------------------------- */

/* What esp_raw_max() allows fits, and a byte more does not. */
static void test_raw_max(void **state)
{
	for (enum aead_alg alg = AEAD_NONE + 1; alg < AEAD_MAX; alg++) {
		const struct esp_layout l = sa_layout(alg);

		for (uint32_t mtu = 0; mtu < 2000; mtu++) {
			for (uint32_t ip = 20; ip <= 40; ip += 20) {
				uint32_t udp = mtu & 1 ? 8 : 0, tun = esp_raw_max(l, 0, mtu, ip, udp);
				uint32_t tra = esp_raw_max(l, 1, mtu, ip, udp);

				if (!tun) {
					assert_int_equal(tra, 0);
					continue;
				}
				assert_int_equal(tra, tun + ip);
				assert_true(ip + udp + esp_envelope_len(l, tra - ip) <= mtu);
				assert_true(ip + udp + esp_envelope_len(l, tra - ip + 1) > mtu);
			}
		}
	}
	assert_int_equal(esp_raw_max(ESP_LAYOUT_AEAD, 1, 1500, 20, 0), 1466);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_take4),
		cmocka_unit_test(test_take6),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_next_headers),
		cmocka_unit_test(test_nat),
		cmocka_unit_test(test_right_sums_stay),
		cmocka_unit_test(test_readdress),
		cmocka_unit_test(test_readdress_short),
		cmocka_unit_test(test_readdress_quote),
		cmocka_unit_test(test_raw_max),
	};

	rig_seed("transport_test");
	if (aead_backend_select("auto"))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
