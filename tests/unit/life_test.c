/* SPDX-License-Identifier: GPL-2.0-or-later */
/* life_test - no packet over a hard limit, whatever mix of limits, and each limit by its own name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "life.h"
#include "pktgen.h"
#include "util.h"

static const uint64_t SEC = 1000000000, NOW = UINT64_C(500) * 1000000000;

static void test_none(void **state)
{
	struct life_conf c = {0};
	struct life l;

	life_init(&l, &c, NOW);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(life_take(&l, UINT64_MAX - 1, UINT32_MAX), DROP_NONE);
	assert_int_equal(life_over(&l, UINT64_MAX - 1), LIFE_NONE);
}

static void test_packets(void **state)
{
	struct life_conf c = {.hard.pkts = 5, .used_pkts = 2};
	struct life l;

	life_init(&l, &c, NOW);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(life_over(&l, NOW), LIFE_NONE);
		assert_int_equal(life_take(&l, NOW, 1), DROP_NONE);
	}
	assert_int_equal(life_over(&l, NOW), LIFE_PACKETS);
	assert_int_equal(life_take(&l, NOW, 1), DROP_SA_HARD_BYTES);
	assert_int_equal(l.pkts, 5);
}

/* The packet that does not fit ends it, also for smaller ones behind it. */
static void test_bytes(void **state)
{
	struct life_conf c = {.hard.bytes = 1000};
	struct life l;

	life_init(&l, &c, NOW);
	assert_int_equal(life_take(&l, NOW, 999), DROP_NONE);
	assert_int_equal(life_check(&l, NOW), DROP_NONE);
	assert_int_equal(life_take(&l, NOW, 2), DROP_SA_HARD_BYTES);
	assert_int_equal(life_take(&l, NOW, 1), DROP_SA_HARD_BYTES);
	assert_int_equal(life_over(&l, NOW), LIFE_BYTES);
	life_init(&l, &c, NOW);
	assert_int_equal(life_take(&l, NOW, 1000), DROP_NONE);
	assert_int_equal(life_over(&l, NOW), LIFE_BYTES);
}

static void test_time(void **state)
{
	struct life_conf c = {.hard.time_s = 60, .age_ms = 45000};
	struct life l;

	life_init(&l, &c, NOW);
	assert_int_equal(life_take(&l, NOW + 15 * SEC - 1, 1), DROP_NONE);
	assert_int_equal(life_take(&l, NOW + 15 * SEC, 1), DROP_SA_EXPIRED);
	assert_int_equal(life_over(&l, NOW), LIFE_TIME); /* ended is ended */
	c.age_ms = 60000;
	life_init(&l, &c, NOW);
	assert_int_equal(life_check(&l, NOW), DROP_SA_EXPIRED);
	assert_true(life_at(0, 0, NOW) == UINT64_MAX);
	assert_true(life_at(UINT64_MAX, 0, NOW) == UINT64_MAX);
	assert_true(life_at(UINT64_MAX / 1001, 0, NOW) == UINT64_MAX);
	assert_true(life_at(3, 1, NOW) == NOW + 2999 * (SEC / 1000));
}

static void test_soft(void **state)
{
	struct life_limit none = {0}, some = {.bytes = 100, .pkts = 10};

	assert_int_equal(life_soft(&none, UINT64_MAX, NOW, UINT64_MAX - 1, UINT64_MAX - 1), LIFE_NONE);
	assert_int_equal(life_soft(&some, NOW, NOW - 1, 99, 9), LIFE_NONE);
	assert_int_equal(life_soft(&some, NOW, NOW, 99, 9), LIFE_TIME);
	assert_int_equal(life_soft(&some, UINT64_MAX, NOW, 100, 9), LIFE_BYTES);
	assert_int_equal(life_soft(&some, UINT64_MAX, NOW, 99, 10), LIFE_PACKETS);
}

/* Every cause has its name, and its reason among the drops. */
static void test_causes(void **state)
{
	assert_null(life_name(LIFE_NONE));
	assert_int_equal(life_drop(LIFE_NONE), DROP_NONE);
	for (enum life_cause c = LIFE_NONE + 1; c < LIFE_CAUSES; c++) {
		assert_non_null(life_name(c));
		assert_int_not_equal(life_drop(c), DROP_NONE);
	}
	assert_int_equal(life_drop(LIFE_SEQUENCE), DROP_SEQ_EXHAUSTED);
}

/* Random packets against sums kept apart. */
static void test_random(void **state)
{
	for (int round = 0; round < 2000; round++) {
		struct life_conf c = {.hard = {.time_s = pg_rand(3), .bytes = pg_rand(3) ? pg_rand(20000) + 1 : 0,
					       .pkts = pg_rand(3) ? pg_rand(30) + 1 : 0}};
		uint64_t bytes = 0, pkts = 0, now = NOW, size;
		bool ended = false;
		struct life l;

		life_init(&l, &c, NOW);
		for (int i = 0; i < 40; i++) {
			now += pg_rand(200) * (SEC / 1000);
			size = pg_rand(1500) + 1;
			if (life_take(&l, now, size)) {
				ended = true;
				continue;
			}
			assert_false(ended);
			bytes += size;
			pkts++;
			assert_true(!c.hard.time_s || now < NOW + c.hard.time_s * SEC);
			assert_true(!c.hard.bytes || bytes <= c.hard.bytes);
			assert_true(!c.hard.pkts || pkts <= c.hard.pkts);
		}
		assert_true(l.bytes == bytes && l.pkts == pkts);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),  cmocka_unit_test(test_packets), cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_time),  cmocka_unit_test(test_soft),    cmocka_unit_test(test_causes),
		cmocka_unit_test(test_random),
	};

	pg_seed(4301);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
