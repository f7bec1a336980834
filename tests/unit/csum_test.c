/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "csum.h"
#include "pktgen.h"

/* The same source once more, as a CPU without AVX2 runs it. */
#define csum_partial base_partial
#define csum_copy base_copy
#define csum_pseudo base_pseudo
#define __builtin_cpu_supports(feature) false
#include "../../user/csum.c"
#undef csum_partial
#undef csum_copy
#undef csum_pseudo

enum { ROOM = 70000 };

static uint8_t *buf;

typedef uint64_t (*sum_fn)(const void *data, size_t len, uint64_t sum);
typedef uint64_t (*copy_fn)(void *dst, const void *src, size_t len, uint64_t sum);

static const sum_fn sums[] = {csum_partial, base_partial};
static const copy_fn copies[] = {csum_copy, base_copy};

static int setup(void **state)
{
	pg_seed(1);
	buf = malloc(ROOM);
	for (uint32_t i = 0; i < ROOM; i++)
		buf[i] = pg_rand(256);
	return !buf;
}

static int teardown(void **state)
{
	free(buf);
	return 0;
}

/* memory order to host order; 0 and 0xffff are the same sum */
static uint32_t canon(uint64_t sum)
{
	uint16_t v = ntohs(csum_add16(sum));

	return v == 0xffff ? 0 : v;
}

static uint32_t slow(const uint8_t *p, uint32_t len, uint32_t sum)
{
	sum = slow_sum(p, len, sum);
	return sum == 0xffff ? 0 : sum;
}

static void known_answer(void **state)
{
	/* RFC 1071 3: the example's words sum to ddf2 */
	static const uint8_t words[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};

	assert_int_equal(ntohs(csum_add16(csum_partial(words, sizeof(words), 0))), 0xddf2);
	assert_int_equal(ntohs(csum_fold(csum_partial(words, sizeof(words), 0))), 0xffff ^ 0xddf2);
}

static void every_length_and_alignment(void **state)
{
	for (int v = 0; v < 2; v++)
		for (uint32_t off = 0; off < 9; off++)
			for (uint32_t len = 0; len < 600; len++)
				assert_int_equal(canon(sums[v](buf + off, len, 0)),
						 slow(buf + off, len, 0));
}

static void copy_one(copy_fn copy, uint32_t off, uint32_t len)
{
	uint8_t dst[700];

	memset(dst, 0xa5, sizeof(dst));
	assert_int_equal(canon(copy(dst + off, buf + off, len, 0)), slow(buf + off, len, 0));
	assert_memory_equal(dst + off, buf + off, len);
	assert_int_equal(dst[off + len], 0xa5);
	assert_true(!off || dst[off - 1] == 0xa5);
}

static void copy_equals_sum(void **state)
{
	for (int v = 0; v < 2; v++)
		for (uint32_t off = 0; off < 5; off++)
			for (uint32_t len = 0; len < 600; len++)
				copy_one(copies[v], off, len);
}

static void all_ones(void **state)
{
	uint8_t *ones = malloc(ROOM);

	memset(ones, 0xff, ROOM);
	for (int v = 0; v < 2; v++)
		for (uint32_t len = 0; len < ROOM; len += 997)
			assert_int_equal(canon(sums[v](ones, len, 0)), slow(ones, len, 0));
	free(ones);
}

static void chained(void **state)
{
	for (int i = 0; i < 2000; i++) {
		uint32_t a = pg_rand(2000) * 2, b = pg_rand(4001);
		uint64_t sum = csum_partial(buf + a, b, csum_partial(buf, a, 0));

		assert_int_equal(canon(sum), slow(buf, a + b, 0));
	}
	/* a carry out of 64 bits is not lost */
	assert_int_equal(canon(csum_partial(buf, 1000, UINT64_MAX)), slow(buf, 1000, 0xffff));
}

static void taken_out_again(void **state)
{
	uint16_t word;

	memcpy(&word, buf + 10, 2);
	for (uint32_t len = 12; len < 200; len++) {
		uint64_t sum = csum_partial(buf, len, 0) + csum_not(word);
		uint32_t rest = slow_sum(buf, 10, 0);

		assert_int_equal(canon(sum), slow(buf + 12, len - 12, rest));
	}
}

static void pseudo_header(void **state)
{
	static const struct pktgen *const all[] = {&pg_tcp4, &pg_udp4, &pg_tcp6, &pg_udp6};
	uint8_t pkt[2000];

	for (int i = 0; i < 4; i++) {
		uint32_t len = pg_build(pkt, all[i]);
		uint32_t l3 = pg_l3(all[i]);
		uint64_t sum = csum_pseudo(pkt, all[i]->family, all[i]->proto, len - l3);

		assert_int_equal(csum_fold(csum_partial(pkt + l3, len - l3, sum)), 0);
		pkt[len - 1] ^= 0x10;
		assert_int_not_equal(csum_fold(csum_partial(pkt + l3, len - l3, sum)), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_answer),	   cmocka_unit_test(every_length_and_alignment),
		cmocka_unit_test(copy_equals_sum), cmocka_unit_test(all_ones),
		cmocka_unit_test(chained),	   cmocka_unit_test(taken_out_again),
		cmocka_unit_test(pseudo_header),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
