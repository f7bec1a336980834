/* SPDX-License-Identifier: GPL-2.0-or-later */
/* outer: where ESP lies in frames and messages, honest and lying ones, and who is said to have sent it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include "conf.h"
#include "ipsec_wire.h"
#include "outer.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { ROOM = 2048, TOS = 0xbb, TTL = 0x5d, PORT = 31337, ESP_LEN = 60 };

static struct in6_addr addr(const char *s)
{
	struct in6_addr a;

	assert_int_equal(addr_parse(s, &a), 0);
	return a;
}

/* ---- envelopes to be sent ---- */

/* Every value of every field under every option, against the words of RFC 4301 5.1.2 and RFC 6040 4.1. */
static void test_head(void **state)
{
	static const uint8_t df_want[4][2] = {[DF_AUTO] = {DF_AUTO, DF_AUTO}, [DF_COPY] = {DF_CLEAR, DF_SET},
					      [DF_SET] = {DF_SET, DF_SET}, [DF_CLEAR] = {DF_CLEAR, DF_CLEAR}};
	uint8_t ip4[20] = {0x45}, ip6[40] = {0x60};
	struct outer_conf c;
	struct head h;

	for (unsigned int n = 0; n < 256 * 64; n++) {
		bool v6 = n & 1, df = n & 2;
		uint8_t tos = (uint8_t)(n >> 2), ttl = (uint8_t)(n * 7 + 1), dscp;

		c = (struct outer_conf){.dscp_fixed = n >> 3 & 1, .dscp = n % 64, .ecn_off = n >> 10 & 1,
					.ttl_copy = n >> 11 & 1, .ttl = n >> 11 & 1 ? 0 : n % 256, .df = n >> 12 & 3};
		ip4[1] = tos;
		ip4[6] = df ? 0x40 : 0;
		ip4[8] = ip6[7] = ttl;
		ip6[0] = 0x60 | tos >> 4;
		ip6[1] = (uint8_t)(tos << 4);
		h = outer_head(&c, v6 ? ip6 : ip4);
		dscp = c.dscp_fixed ? c.dscp : tos >> 2;
		assert_int_equal(h.tos >> 2, dscp);
		assert_int_equal(h.tos & 3, c.ecn_off ? 0 : tos & 3);
		assert_int_equal(h.ttl, c.ttl_copy ? ttl : c.ttl);
		assert_int_equal(h.df, df_want[c.df][v6 || df]);
		assert_true(IN6_IS_ADDR_UNSPECIFIED(&h.src));
		h = outer_head(&c, NULL);
		assert_int_equal(h.tos, c.dscp_fixed ? c.dscp << 2 : 0);
		assert_int_equal(h.ttl, c.ttl);
		assert_int_equal(h.df, c.df == DF_COPY ? DF_AUTO : c.df);
	}
}

/* ---- frames ---- */

/* struct frame - one envelope with its outer headers, and where a reader must find it */
struct frame {
	int family;
	uint32_t opts; /* IPv4 option bytes */
	bool udp;
	uint32_t esp_len, padding; /* behind the packet: Ethernet's */
	uint32_t hdrs, total, len; /* out */
	uint8_t *ip;		   /* out: len bytes, not one more */
};

static void put_be16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void build_ip4(struct frame *f)
{
	struct in_addr src = {htonl(0xc6336402)}, dst = {htonl(0xc6336401)}; /* 198.51.100.2, .1 */

	f->ip[0] = (uint8_t)(0x40 | (20 + f->opts) / 4);
	f->ip[1] = TOS;
	put_be16(f->ip + 2, f->total);
	f->ip[8] = TTL;
	f->ip[9] = f->udp ? IPPROTO_UDP : IPPROTO_ESP;
	memcpy(f->ip + 12, &src, sizeof src);
	memcpy(f->ip + 16, &dst, sizeof dst);
}

static void build_ip6(struct frame *f)
{
	struct in6_addr src = addr("2001:db8::2"), dst = addr("2001:db8::1");

	put_be16(f->ip, 0x6000 | TOS << 4);
	put_be16(f->ip + 4, f->total - 40);
	f->ip[6] = f->udp ? IPPROTO_UDP : IPPROTO_ESP;
	f->ip[7] = TTL;
	memcpy(f->ip + 8, &src, sizeof src);
	memcpy(f->ip + 24, &dst, sizeof dst);
}

static void build(struct frame *f)
{
	uint8_t *udp;

	f->hdrs = (f->family == 4 ? 20 + f->opts : 40) + (f->udp ? 8 : 0);
	f->total = f->hdrs + f->esp_len;
	f->len = f->total + f->padding;
	f->ip = calloc(1, f->len);
	if (f->family == 4)
		build_ip4(f);
	else
		build_ip6(f);
	if (f->udp) {
		udp = f->ip + f->hdrs - 8;
		put_be16(udp, PORT);
		put_be16(udp + 2, 4500);
		put_be16(udp + 4, 8 + f->esp_len);
	}
}

static void check_meta(const struct rx_meta *m, int family, bool udp)
{
	struct in6_addr src = addr(family == 4 ? "198.51.100.2" : "2001:db8::2");
	struct in6_addr dst = addr(family == 4 ? "198.51.100.1" : "2001:db8::1");

	assert_memory_equal(&m->src, &src, sizeof src);
	assert_memory_equal(&m->dst, &dst, sizeof dst);
	assert_int_equal(m->ttl, TTL);
	assert_int_equal(m->encap, udp ? ENCAP_UDP : ENCAP_ESP);
	assert_int_equal(m->port, udp ? PORT : 0);
	assert_true(m->has_tos);
	assert_int_equal(m->tos, TOS);
}

static void check_frame(struct frame f)
{
	struct outer o;

	build(&f);
	assert_true(outer_frame(&o, f.ip, f.len));
	assert_ptr_equal(o.esp, f.ip + f.hdrs);
	assert_int_equal(o.len, f.esp_len);
	assert_int_equal(o.seg, f.esp_len);
	check_meta(&o.meta, f.family, f.udp);
	assert_ptr_equal(o.meta.ip, f.ip); /* transport mode puts it back */
	assert_int_equal(o.meta.hdr_len, f.hdrs - (f.udp ? 8 : 0));
	free(f.ip);
}

static void test_frames(void **state)
{
	for (int udp = 0; udp < 2; udp++)
		for (uint32_t padding = 0; padding <= 18; padding += 6)
			for (uint32_t len = ESP_HDR_LEN; len < 100; len++) {
				for (uint32_t opts = 0; opts <= 40; opts += 4)
					check_frame((struct frame){.family = 4, .opts = opts, .udp = udp,
								   .esp_len = len, .padding = padding});
				check_frame((struct frame){.family = 6, .udp = udp, .esp_len = len,
							   .padding = padding});
			}
}

/* Whatever a frame ends in the middle of is refused, without a look behind its end. */
static void test_torn_frames(void **state)
{
	for (int udp = 0; udp < 2; udp++)
		for (int family = 4; family <= 6; family += 2) {
			struct frame f = {.family = family, .udp = udp, .esp_len = ESP_LEN};

			build(&f);
			for (uint32_t len = 0; len < f.total; len++) {
				uint8_t *torn = malloc(len ? len : 1);
				struct outer o;

				memcpy(torn, f.ip, len);
				assert_false(outer_frame(&o, torn, len));
				free(torn);
			}
			free(f.ip);
		}
}

/* No ESP header behind the outer ones: a keepalive byte, an empty datagram, nothing at all. */
static void test_no_room_for_esp(void **state)
{
	for (int udp = 0; udp < 2; udp++)
		for (int family = 4; family <= 6; family += 2)
			for (uint32_t len = 0; len < ESP_HDR_LEN; len++) {
				struct frame f = {.family = family, .udp = udp, .esp_len = len, .padding = 40};
				struct outer o;

				build(&f);
				assert_false(outer_frame(&o, f.ip, f.len));
				free(f.ip);
			}
}

/* What an IPv6 header says must not read as an IPv4 address afterwards. */
static void test_mapped(void **state)
{
	static const uint8_t at[] = {8, 24};

	for (int udp = 0; udp < 2; udp++)
		for (size_t i = 0; i < 2; i++) {
			struct in6_addr v4 = addr("198.51.100.2");
			struct frame f = {.family = 6, .udp = udp, .esp_len = ESP_LEN};
			struct outer o;

			build(&f);
			memcpy(f.ip + at[i], &v4, sizeof v4);
			assert_false(outer_frame(&o, f.ip, f.len));
			free(f.ip);
		}
}

/* Total length and payload length may say anything: believed only as far as there are bytes. */
static void test_lying_totals(void **state)
{
	for (int udp = 0; udp < 2; udp++)
		for (int family = 4; family <= 6; family += 2)
			for (uint32_t said = 0; said <= 0xffff; said++) {
				struct frame f = {.family = family, .udp = udp, .esp_len = ESP_LEN};
				uint32_t total = said + (family == 6 ? 40 : 0);
				struct outer o;

				build(&f);
				put_be16(f.ip + (family == 4 ? 2 : 4), said);
				assert_int_equal(outer_frame(&o, f.ip, f.len),
						 total >= f.hdrs + (udp ? ESP_LEN : ESP_HDR_LEN) && total <= f.len);
				free(f.ip);
			}
}

/* So may the length of the datagram: what stands behind it is not ESP, and it ends in its packet. */
static void test_lying_datagrams(void **state)
{
	for (int family = 4; family <= 6; family += 2)
		for (uint32_t said = 0; said <= 0xffff; said++) {
			struct frame f = {.family = family, .udp = true, .esp_len = ESP_LEN, .padding = 20};
			bool ok = said >= 8 + ESP_HDR_LEN && said <= 8 + ESP_LEN;
			struct outer o;

			build(&f);
			put_be16(f.ip + f.hdrs - 4, said);
			assert_int_equal(outer_frame(&o, f.ip, f.len), ok);
			if (ok)
				assert_int_equal(o.len, said - 8);
			free(f.ip);
		}
}

/* Neither IPv4 nor IPv6, and an IPv4 header shorter than one. */
static void test_no_ip(void **state)
{
	for (uint32_t first = 0; first <= 0xff; first++) {
		struct frame f = {.family = 4, .esp_len = ESP_LEN};
		struct outer o;

		build(&f);
		f.ip[0] = (uint8_t)first;
		if (first >> 4 != 6)
			assert_int_equal(outer_frame(&o, f.ip, f.len),
					 first >> 4 == 4 && (first & 15) >= 5 &&
						 (first & 15) * 4 + ESP_HDR_LEN <= f.len);
		free(f.ip);
	}
}

/* ---- UDP checksums ---- */

/* Slow and obvious: RFC 768, 16-bit words of pseudo-header and datagram. */
static uint16_t sum_of(const uint8_t *ip, const uint8_t *udp, uint32_t len)
{
	uint32_t n_addrs = ip[0] >> 4 == 4 ? 8 : 32, s = IPPROTO_UDP + len;
	const uint8_t *addrs = ip + (n_addrs == 8 ? 12 : 8);

	for (uint32_t i = 0; i < n_addrs; i++)
		s += (uint32_t)addrs[i] << (i % 2 ? 0 : 8);
	for (uint32_t i = 0; udp && i < len; i++)
		s += (uint32_t)udp[i] << (i % 2 ? 0 : 8);
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)s;
}

static bool sum_ok(const struct frame *f)
{
	struct outer o;

	assert_true(outer_frame(&o, f->ip, f->len));
	return outer_sum_ok(&o);
}

/* Every bit that a checksum covers, and that leaves a frame which can be read. */
static void flip_all(const struct frame *f, bool partial)
{
	uint32_t udp = f->hdrs - 8, addrs = f->family == 4 ? 12 : 8, n_addrs = f->family == 4 ? 8 : 32;

	for (uint32_t i = addrs; i < f->total; i = i == addrs + n_addrs - 1 ? udp : i + 1) {
		if (i == udp + 4 || i == udp + 5)
			continue; /* a length that lies: torn, or another datagram */
		for (unsigned int bit = 0; bit < 8; bit++) {
			f->ip[i] ^= 1u << bit;
			assert_int_equal(sum_ok(f), partial && i >= udp && i != udp + 6 && i != udp + 7);
			f->ip[i] ^= 1u << bit;
		}
	}
	assert_true(sum_ok(f));
}

static void check_sums(int family, uint32_t opts, uint32_t len)
{
	struct frame f = {.family = family, .opts = opts, .udp = true, .esp_len = len, .padding = 6};
	uint8_t *udp;
	uint16_t s;

	build(&f);
	udp = f.ip + f.hdrs - 8;
	for (uint32_t i = 0; i < len; i++)
		udp[8 + i] = (uint8_t)(i * 37 + 1);
	assert_true(sum_ok(&f)); /* none: RFC 768, RFC 6935 */
	s = (uint16_t)~sum_of(f.ip, udp, 8 + len);
	put_be16(udp + 6, s ? s : 0xffff);
	flip_all(&f, false);
	put_be16(udp + 6, sum_of(f.ip, NULL, 8 + len)); /* the rest is hardware's */
	flip_all(&f, true);
	free(f.ip);
}

static void test_sums(void **state)
{
	struct frame bare = {.family = 4, .esp_len = 40};

	for (uint32_t len = ESP_HDR_LEN; len < 40; len++) {
		check_sums(4, 0, len);
		check_sums(4, 12, len);
		check_sums(6, 0, len);
	}
	build(&bare);
	assert_true(sum_ok(&bare));
	free(bare.ip);
}

/* ---- socket messages ---- */

/* struct msg - what the kernel would fill in */
struct msg {
	struct sockaddr_in6 name;
	struct iovec iov;
	_Alignas(struct cmsghdr) uint8_t control[192];
	struct msghdr h;
	uint8_t bytes[ROOM];
};

static void msg_init(struct msg *m, int family)
{
	*m = (struct msg){0};
	m->iov = (struct iovec){m->bytes, ROOM};
	m->h = (struct msghdr){.msg_name = &m->name, .msg_namelen = sizeof m->name,
			       .msg_iov = &m->iov, .msg_iovlen = 1, .msg_control = m->control};
	if (family == 4) {
		struct sockaddr_in s4 = {.sin_family = AF_INET, .sin_port = htons(PORT),
					 .sin_addr = {htonl(0xc6336402)}};

		memcpy(&m->name, &s4, sizeof s4);
	} else {
		m->name = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(PORT),
						.sin6_addr = addr("2001:db8::2")};
	}
}

static void msg_control(struct msg *m, int level, int type, const void *value, size_t len)
{
	struct cmsghdr *c = (void *)(m->control + m->h.msg_controllen);

	*c = (struct cmsghdr){.cmsg_len = CMSG_LEN(len), .cmsg_level = level, .cmsg_type = type};
	memcpy(CMSG_DATA(c), value, len);
	m->h.msg_controllen += CMSG_SPACE(len);
}

/* What our sockets ask for: TOS, TTL and where it was sent to. */
static void put_header(struct msg *m, int family)
{
	struct in_pktinfo p4 = {.ipi_addr = {htonl(0xc6336401)}};
	struct in6_pktinfo p6 = {.ipi6_addr = addr("2001:db8::1")};
	int tclass = TOS, ttl = TTL;
	uint8_t tos = TOS;

	if (family == 4) {
		msg_control(m, IPPROTO_IP, IP_TOS, &tos, sizeof tos);
		msg_control(m, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl);
		msg_control(m, IPPROTO_IP, IP_PKTINFO, &p4, sizeof p4);
	} else {
		msg_control(m, IPPROTO_IPV6, IPV6_TCLASS, &tclass, sizeof tclass);
		msg_control(m, IPPROTO_IPV6, IPV6_HOPLIMIT, &ttl, sizeof ttl);
		msg_control(m, IPPROTO_IPV6, IPV6_PKTINFO, &p6, sizeof p6);
	}
}

static void test_datagrams(void **state)
{
	static const int segs[] = {-1, 0, 1, 60, 99, 100, 101, 65535};
	struct outer o;
	struct msg m;

	for (int family = 4; family <= 6; family += 2)
		for (size_t i = 0; i < ARRAY_SIZE(segs); i++)
			for (int order = 0; order < 2; order++) {
				msg_init(&m, family);
				if (order)
					put_header(&m, family);
				msg_control(&m, IPPROTO_UDP, UDP_GRO, &segs[i], sizeof segs[i]);
				if (!order)
					put_header(&m, family);
				assert_true(outer_message(&o, &m.h, 100, true, family == 4));
				assert_ptr_equal(o.esp, m.bytes);
				assert_int_equal(o.len, 100);
				assert_int_equal(o.seg, segs[i] > 0 && segs[i] < 100 ? segs[i] : 100);
				check_meta(&o.meta, family, true);
			}
}

/* Nothing is made up where the kernel said nothing; foreign control data is passed over. */
static void test_bare_datagrams(void **state)
{
	uint64_t stamp = 1;
	struct outer o;
	struct msg m;

	msg_init(&m, 4);
	msg_control(&m, SOL_SOCKET, SO_TIMESTAMP, &stamp, sizeof stamp);
	assert_true(outer_message(&o, &m.h, 1, true, true)); /* a keepalive, RFC 3948 2.3 */
	assert_int_equal(o.len, 1);
	assert_int_equal(o.seg, 1);
	assert_false(o.meta.has_tos);
	assert_true(outer_message(&o, &m.h, 0, true, true));
	assert_int_equal(o.len, 0);
	assert_int_equal(o.seg, 0);
}

static void test_raw4(void **state)
{
	struct outer o;
	struct msg m;

	msg_init(&m, 4);
	put_header(&m, 4);
	for (uint32_t hdr = 20; hdr <= 60; hdr += 4)
		for (uint32_t len = 0; len < 100; len++) {
			m.bytes[0] = (uint8_t)(0x40 | hdr / 4);
			assert_int_equal(outer_message(&o, &m.h, len, false, true), len >= hdr + ESP_HDR_LEN);
			if (len < hdr + ESP_HDR_LEN)
				continue;
			assert_ptr_equal(o.esp, m.bytes + hdr);
			assert_int_equal(o.len, len - hdr);
			assert_int_equal(o.seg, len - hdr);
			assert_int_equal(o.meta.encap, ENCAP_ESP);
			assert_int_equal(o.meta.tos, TOS);
			assert_ptr_equal(o.meta.ip, m.bytes);
			assert_int_equal(o.meta.hdr_len, hdr);
		}
}

static void test_raw6(void **state)
{
	struct outer o;
	struct msg m;

	msg_init(&m, 6);
	m.bytes[0] = 0x4f; /* no header here, whatever it looks like */
	assert_true(outer_message(&o, &m.h, 40, false, false));
	assert_ptr_equal(o.esp, m.bytes);
	assert_int_equal(o.len, 40);
	assert_int_equal(o.meta.encap, ENCAP_ESP);
	assert_null(o.meta.ip);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_head),
		cmocka_unit_test(test_frames),
		cmocka_unit_test(test_torn_frames),
		cmocka_unit_test(test_no_room_for_esp),
		cmocka_unit_test(test_mapped),
		cmocka_unit_test(test_lying_totals),
		cmocka_unit_test(test_lying_datagrams),
		cmocka_unit_test(test_no_ip),
		cmocka_unit_test(test_sums),
		cmocka_unit_test(test_datagrams),
		cmocka_unit_test(test_bare_datagrams),
		cmocka_unit_test(test_raw4),
		cmocka_unit_test(test_raw6),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
