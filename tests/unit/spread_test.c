/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spread: shares are exact, what fails takes no other flow with it, and a flow is one flow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <string.h>
#include "spread.h"
#include "util.h"

enum { PATHS = 4 };

static void counts(const uint8_t *slot, unsigned int *n)
{
	memset(n, 0, PATHS * sizeof *n);
	for (unsigned int i = 0; i < SPREAD_SLOTS; i++)
		n[slot[i]]++;
}

static void test_proportion(void **state)
{
	static const struct {
		uint32_t weight[PATHS];
		bool usable[PATHS];
		unsigned int carry, want[PATHS];
	} row[] = {
		{{1, 1}, {1, 1}, 2, {128, 128}},
		{{3, 1}, {1, 1}, 2, {192, 64}},
		{{3, 1}, {0, 1}, 1, {0, 256}},
		{{65535, 65535, 65535, 65535}, {1, 1, 1, 1}, 4, {64, 64, 64, 64}},
		{{0, 1, 0, 1}, {1, 1, 1, 1}, 2, {0, 128, 0, 128}},
		{{1, 2, 1, 0}, {1, 0, 1, 1}, 2, {128, 0, 128, 0}},
		{{255, 1}, {1, 1}, 2, {255, 1}},
	};
	unsigned int n[PATHS];
	uint8_t slot[SPREAD_SLOTS];

	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		assert_int_equal(spread_fill(slot, row[i].weight, row[i].usable, PATHS), row[i].carry);
		counts(slot, n);
		assert_memory_equal(n, row[i].want, sizeof n);
	}
	memset(slot, 9, sizeof slot);
	assert_int_equal(spread_fill(slot, (uint32_t[]){1, 0}, (bool[]){false, true}, 2), 0);
	assert_int_equal(slot[0], 9);
}

/* Nobody moves but the flows of the path that fails; they go by weight, and find their way home. */
static void test_only_what_must_moves(void **state)
{
	static const uint32_t weight[PATHS] = {4, 3, 2, 1};
	uint8_t all[SPREAD_SLOTS], some[SPREAD_SLOTS], again[SPREAD_SLOTS];
	bool usable[PATHS] = {true, true, true, true};
	unsigned int moved[PATHS] = {0};

	spread_fill(all, weight, usable, PATHS);
	usable[1] = false;
	spread_fill(some, weight, usable, PATHS);
	for (unsigned int i = 0; i < SPREAD_SLOTS; i++) {
		if (all[i] != 1)
			assert_int_equal(some[i], all[i]);
		else
			moved[some[i]]++;
	}
	assert_int_equal(moved[1], 0);
	assert_in_range(moved[0], 43, 45); /* of 77, by 4 : 2 : 1 */
	assert_in_range(moved[2], 21, 23);
	assert_in_range(moved[3], 10, 12);
	usable[1] = true;
	spread_fill(again, weight, usable, PATHS);
	assert_memory_equal(again, all, sizeof all);
}

static void packet4(uint8_t *ip, uint8_t proto, uint16_t frag, uint16_t sport, uint16_t dport)
{
	memset(ip, 0, 64);
	ip[0] = 0x45;
	ip[6] = frag >> 8;
	ip[7] = frag & 0xff;
	ip[9] = proto;
	memcpy(ip + 12, (uint8_t[]){10, 1, 0, 2, 10, 2, 0, 2}, 8);
	memcpy(ip + 20, (uint8_t[]){sport >> 8, sport & 0xff, dport >> 8, dport & 0xff}, 4);
}

static void test_a_flow(void **state)
{
	uint8_t a[64], b[64];

	packet4(a, IPPROTO_TCP, 0, 1000, 80);
	packet4(b, IPPROTO_TCP, 0, 1000, 80);
	b[4] = 7;       /* identification, TTL, sequence number, length: no part of it */
	b[8] = 3;
	b[25] = 9;
	assert_int_equal(spread_hash(a, 64), spread_hash(b, 40));
	packet4(b, IPPROTO_TCP, 0, 1001, 80);
	assert_int_not_equal(spread_hash(a, 64), spread_hash(b, 64));
	packet4(b, IPPROTO_UDP, 0, 1000, 80);
	assert_int_not_equal(spread_hash(a, 64), spread_hash(b, 64));
	packet4(a, IPPROTO_UDP, 0x2000, 1000, 80); /* the first fragment has ports, the next has none */
	packet4(b, IPPROTO_UDP, 0x00b9, 4711, 4712);
	assert_int_equal(spread_hash(a, 64), spread_hash(b, 64));
	packet4(a, IPPROTO_ICMP, 0, 0x0800, 1);
	packet4(b, IPPROTO_ICMP, 0, 0x0800, 2);
	assert_int_equal(spread_hash(a, 64), spread_hash(b, 64));
	memset(a, 0, sizeof a);
	a[0] = 0x60;
	a[6] = IPPROTO_UDP;
	a[8] = 0xfd;
	memcpy(b, a, sizeof a);
	b[41] = 1;
	assert_int_not_equal(spread_hash(a, 64), spread_hash(b, 64));
	b[6] = a[6] = IPPROTO_HOPOPTS; /* its ports are further back: the label then */
	assert_int_equal(spread_hash(a, 64), spread_hash(b, 64));
	b[3] = 5;
	assert_int_not_equal(spread_hash(a, 64), spread_hash(b, 64));
	for (uint32_t len = 0; len < 64; len++) { /* cut short, in memory of that size (ASan looks) */
		uint8_t cut[64];

		memcpy(cut, a, len);
		spread_hash(cut, len);
	}
}

/* Flows that differ by one port spread as the weights say: 4096 of them, within four standard deviations. */
static void test_spread(void **state)
{
	unsigned int n[PATHS] = {0};
	uint8_t slot[SPREAD_SLOTS], ip[64];

	spread_fill(slot, (uint32_t[]){3, 1}, (bool[]){true, true}, 2);
	for (unsigned int i = 0; i < 4096; i++) {
		packet4(ip, IPPROTO_TCP, 0, 32768 + i, 5201);
		n[slot[spread_hash(ip, 64) % SPREAD_SLOTS]]++;
	}
	assert_in_range(n[0], 3072 - 112, 3072 + 112);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_proportion),
		cmocka_unit_test(test_only_what_must_moves),
		cmocka_unit_test(test_a_flow),
		cmocka_unit_test(test_spread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
