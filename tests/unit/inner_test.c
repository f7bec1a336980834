/* SPDX-License-Identifier: GPL-2.0-or-later */
/* inner: who may send what and quote what, and RFC 6040's table, cell by cell, for both families. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "inner.h"
#include "pktgen.h"

enum { NOT_ECT, ECT_1, ECT_0, CE }; /* RFC 3168 5 */

static void set_source(uint8_t *ip, const char *s)
{
	struct in6_addr a;

	assert_int_equal(addr_parse(s, &a), 0);
	if (addr_is4(&a))
		memcpy(ip + 12, a.s6_addr + 12, 4);
	else
		memcpy(ip + 8, &a, sizeof a);
}

static void test_source(void **state)
{
	static const char *const allowed[] = {"10.2.0.0/16", "192.0.2.7", "fd02::/48", "0.0.0.0/8"};
	static const struct {
		const char *src;
		bool ok;
	} row[] = {
		{"10.2.0.1", true},	{"10.2.255.255", true}, {"10.1.255.255", false},
		{"10.3.0.0", false},	{"192.0.2.7", true},	{"192.0.2.6", false},
		{"0.1.2.3", true},	{"255.255.255.255", false},
		{"fd02::1", true},	{"fd02:0:0:ffff:ffff:ffff:ffff:ffff", true},
		{"fd02:0:1::", false},	{"fe80::1", false},	{"::", false},
	};
	struct prefix p[ARRAY_SIZE(allowed)];
	uint8_t ip[40] = {0};

	for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
		assert_int_equal(prefix_parse(allowed[i], &p[i]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		uint8_t family = strchr(row[i].src, ':') ? 6 : 4;

		set_source(ip, row[i].src);
		assert_int_equal(inner_source_ok(ip, family, p, ARRAY_SIZE(p)), row[i].ok);
		assert_true(inner_source_ok(ip, family, NULL, 0));
	}
}

/* A mapped address in an IPv6 header is no way around the IPv4 prefixes. */
static void test_mapped_source(void **state)
{
	static const char *const lists[] = {"10.0.0.0/8", "0.0.0.0/0", "::/0"};
	uint8_t ip[40] = {0x60};
	struct prefix p;

	ip[18] = ip[19] = 0xff;
	ip[20] = 10;
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		assert_int_equal(prefix_parse(lists[i], &p), 0);
		assert_false(inner_source_ok(ip, 6, &p, 1));
	}
}

/* --- what an ICMP error quotes, RFC 4301 6.2 --- */

enum { ROOM = 512 };

static struct prefix peers[2]; /* of the peer: 10.2.0.0/16, fd02::/48 */

static int set_peers(void **state)
{
	return prefix_parse("10.2.0.0/16", &peers[0]) || prefix_parse("fd02::/48", &peers[1]);
}

static bool passes(const uint8_t *ip, uint32_t len, uint8_t family)
{
	uint8_t *exact = malloc(len); /* for the sanitizer: nothing behind len is read */
	bool ok;

	memcpy(exact, ip, len);
	ok = inner_quote_ok(exact, len, family, peers, ARRAY_SIZE(peers));
	assert_true(inner_quote_ok(exact, len, family, NULL, 0));
	free(exact);
	return ok;
}

/* A header of family before proto, to dst; 20 or 40 bytes. */
static uint32_t header(uint8_t *ip, uint8_t family, uint8_t proto, const char *dst)
{
	struct in6_addr a;

	memset(ip, 0, 40);
	ip[0] = family == 4 ? 0x45 : 0x60;
	ip[family == 4 ? 9 : 6] = proto;
	assert_int_equal(addr_parse(dst, &a), 0);
	memcpy(ip + (family == 4 ? 16 : 24), a.s6_addr + (family == 4 ? 12 : 0), family == 4 ? 4 : 16);
	return family == 4 ? 20 : 40;
}

/* An error of the given type about a packet to dst. Return: its length */
static uint32_t an_error(uint8_t *p, uint8_t family, uint8_t type, const char *dst)
{
	uint32_t at = header(p, family, family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, family == 4 ? "10.1.0.2" : "fd01::2");

	memset(p + at, 0, 8);
	p[at] = type;
	at += 8;
	return at + header(p + at, family, IPPROTO_UDP, dst) + 8;
}

/* Every type: errors by what they quote, all else whatever stands there. */
static void test_quote_by_type(void **state)
{
	uint8_t p[ROOM] = {0};
	uint32_t n;

	for (unsigned int type = 0; type < 256; type++) {
		bool e4 = type == 3 || type == 4 || type == 5 || type == 11 || type == 12, e6 = type < 128;

		n = an_error(p, 4, (uint8_t)type, "10.2.255.1");
		assert_true(passes(p, n, 4));
		n = an_error(p, 4, (uint8_t)type, "10.3.0.1");
		assert_int_equal(passes(p, n, 4), !e4);
		n = an_error(p, 6, (uint8_t)type, "fd02::77");
		assert_true(passes(p, n, 6));
		n = an_error(p, 6, (uint8_t)type, "fd02:0:1::77");
		assert_int_equal(passes(p, n, 6), !e6);
	}
	n = an_error(p, 6, 1, "2001:db8::");
	memcpy(p + 48 + 24, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\2\0\1", 16); /* mapped: no way around the prefixes */
	assert_false(passes(p, n, 6));
}

/* Cut anywhere: without the whole of the quoted header nothing is proven; before the type there is nothing. */
static void test_quote_cut(void **state)
{
	uint8_t p[ROOM] = {0};
	uint32_t n = an_error(p, 4, 3, "10.2.0.1");

	for (uint32_t len = 20; len <= n; len++)
		assert_int_equal(passes(p, len, 4), len == 20 || len >= 48);
	n = an_error(p, 6, 2, "fd02::1");
	for (uint32_t len = 40; len <= n; len++)
		assert_int_equal(passes(p, len, 6), len == 40 || len >= 88);
	n = an_error(p, 4, 3, "10.2.0.1"); /* the other version's quote */
	p[28] = 0x65;
	assert_false(passes(p, n, 4));
}

/* IPv4 options, and fragments: the first is judged, a later one is not. */
static void test_quote_in_v4(void **state)
{
	uint8_t p[ROOM] = {0};
	uint32_t n = an_error(p, 4, 11, "10.3.0.1");

	p[6] = 0x20; /* more fragments */
	assert_false(passes(p, n, 4));
	p[7] = 1;
	assert_true(passes(p, n, 4));
	p[6] = p[7] = 0;
	memmove(p + 24, p + 20, n - 20);
	p[0] = 0x46;
	memset(p + 20, 1, 4);
	assert_false(passes(p, n + 4, 4));
	p[24 + 8 + 17] = 2;
	assert_true(passes(p, n + 4, 4));
	p[9] = IPPROTO_ICMPV6; /* in IPv4: nobody's */
	p[24 + 8 + 17] = 3;
	assert_true(passes(p, n + 4, 4));
}

/* Behind any chain of extension headers. */
static void test_quote_behind_extensions(void **state)
{
	static const uint8_t kinds[] = {IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_DSTOPTS, IPPROTO_AH, IPPROTO_FRAGMENT};

	for (int i = 0; i < 20000; i++) {
		uint8_t p[ROOM] = {0}, ext[64] = {0}, chain[3];
		uint32_t n = an_error(p, 6, 3, "fd03::1"), at = 0, k = 1 + pg_rand(3), last = 0;

		for (uint32_t c = 0; c < k; c++)
			chain[c] = kinds[pg_rand(ARRAY_SIZE(kinds))];
		for (uint32_t c = 0; c < k; c++) {
			uint32_t units = chain[c] == IPPROTO_FRAGMENT ? 0 : pg_rand(2);

			last = at;
			ext[at] = c + 1 < k ? chain[c + 1] : IPPROTO_ICMPV6;
			ext[at + 1] = (uint8_t)(chain[c] == IPPROTO_AH ? 2 * units : units); /* RFC 4302 2.2: in words, less two */
			at += 8 * (units + 1);
		}
		memmove(p + 40 + at, p + 40, n - 40);
		memcpy(p + 40, ext, at);
		p[6] = chain[0];
		assert_false(passes(p, n + at, 6));
		/* cut inside the chain it is nothing that a stack would take for an error */
		assert_true(passes(p, 40 + pg_rand(at + 1), 6));
		p[40 + at + 8 + 25] = 2;
		assert_true(passes(p, n + at, 6));
		p[40 + at + 8 + 25] = 3;
		if (chain[k - 1] == IPPROTO_FRAGMENT) {
			p[40 + last + 2] = 1; /* a later fragment */
			assert_true(passes(p, n + at, 6));
		}
	}
}

/* Outgoing field by inner and outer one, RFC 6040 4.2; LOST is its <drop>. */
enum { LOST = -1 };
static const int8_t table[4][4] = {
	/* outer:     NOT_ECT  ECT_1    ECT_0    CE */
	[NOT_ECT] = {NOT_ECT, NOT_ECT, NOT_ECT, LOST},
	[ECT_1] = {ECT_1, ECT_1, ECT_1, CE},
	[ECT_0] = {ECT_0, ECT_1, ECT_0, CE},
	[CE] = {CE, CE, CE, CE},
};

static void check_cell(struct pktgen s, uint8_t inner, uint8_t outer)
{
	uint8_t dscp = s.tos & 0xfc, p[256], want[256], family = (uint8_t)s.family;
	int8_t out = table[inner][outer & 3];

	s.tos = dscp | inner;
	pg_build(p, &s);
	if (out == LOST) {
		assert_int_equal(inner_ecn(p, family, outer), DROP_ECN_CE_NOT_ECT);
		return;
	}
	assert_int_equal(inner_ecn(p, family, outer), DROP_NONE);
	s.tos = dscp | (uint8_t)out;
	assert_memory_equal(p, want, pg_build(want, &s)); /* the IPv4 header checksum as well */
}

/* Every cell under many headers, so that the checksum meets all its carries. */
static void test_ecn_table(void **state)
{
	for (int n = 0; n < 20000; n++) {
		struct pktgen s = n & 1 ? pg_tcp4 : pg_tcp6;

		s.tos = (uint8_t)pg_rand(256);
		s.id = (uint16_t)pg_rand(65536);
		s.ttl = (uint8_t)pg_rand(256);
		s.payload = pg_rand(64);
		s.flow = pg_rand(1 << 20);
		check_cell(s, n >> 1 & 3, (uint8_t)((pg_rand(64) << 2) | (n >> 3 & 3)));
	}
}

/* RFC 6040 figure 4: what is marked there, and nothing else; the packet stays as it is. */
static void test_ecn_odd(void **state)
{
	for (int n = 0; n < 2000; n++) {
		struct pktgen s = n & 1 ? pg_tcp4 : pg_tcp6;
		uint8_t p[256], was[256], inner = n >> 1 & 3, outer = n >> 3 & 3;
		enum ecn_odd want = inner == NOT_ECT && outer == ECT_0 ? ECN_ECT0_ON_NOT_ECT
				    : inner == NOT_ECT && outer == ECT_1 ? ECN_ECT1_ON_NOT_ECT
				    : inner == ECT_1 && outer == ECT_0	 ? ECN_ECT0_ON_ECT1
				    : inner == CE && outer == ECT_1	 ? ECN_ECT1_ON_CE
									 : ECN_USUAL;
		uint32_t len;

		s.tos = (uint8_t)(pg_rand(64) << 2 | inner);
		s.payload = 9;
		s.flow = pg_rand(1 << 20);
		len = pg_build(p, &s);
		memcpy(was, p, len);
		assert_int_equal(inner_ecn_odd(p, (uint8_t)s.family, (uint8_t)(pg_rand(64) << 2 | outer)), want);
		assert_memory_equal(p, was, len);
	}
}

/* A header checksum that is wrong stays wrong: congestion marks no damage as whole. */
static void test_ecn_keeps_damage(void **state)
{
	struct pktgen s = pg_tcp4;
	uint8_t p[256];

	s.tos = ECT_0;
	s.payload = 9;
	pg_build(p, &s);
	p[8] ^= 0x10;
	assert_int_equal(inner_ecn(p, 4, CE), DROP_NONE);
	assert_int_equal(p[1] & 3, CE);
	assert_int_not_equal(slow_sum(p, 20, 0), 0xffff);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_source),
		cmocka_unit_test(test_mapped_source),
		cmocka_unit_test_setup(test_quote_by_type, set_peers),
		cmocka_unit_test_setup(test_quote_cut, set_peers),
		cmocka_unit_test_setup(test_quote_in_v4, set_peers),
		cmocka_unit_test_setup(test_quote_behind_extensions, set_peers),
		cmocka_unit_test(test_ecn_table),
		cmocka_unit_test(test_ecn_odd),
		cmocka_unit_test(test_ecn_keeps_damage),
	};

	pg_seed(6040);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
