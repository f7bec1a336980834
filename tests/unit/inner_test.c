/* SPDX-License-Identifier: GPL-2.0-or-later */
/* inner: who may send what, and RFC 6040's table, cell by cell, for both families. */
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
		cmocka_unit_test(test_ecn_table),
		cmocka_unit_test(test_ecn_keeps_damage),
	};

	pg_seed(6040);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
