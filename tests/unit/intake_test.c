/* SPDX-License-Identifier: GPL-2.0-or-later */
/* intake_test - who takes envelopes from a virtual wire: what arrives decides, and no more often than it may. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "intake.h"

static const uint64_t MS = 1000000;

static struct {
	struct intake i;
	struct intake_seen seen;
	uint64_t now;
} t;

static int setup(void **state)
{
	t = (typeof(t)){.now = 77 * MS};
	return intake_tick(&t.i, &t.seen, t.now);
}

/* For ms milliseconds, in looks of 100: so many a second. Return: how often the decision changed */
static unsigned int pass(unsigned int ms, uint64_t pkts, uint64_t msgs, uint64_t xdp, uint64_t bytes)
{
	unsigned int changed = 0;

	for (unsigned int k = 0; k < ms / 100; k++) {
		t.now += 100 * MS;
		t.seen.sock_pkts += pkts / 10;
		t.seen.sock_msgs += msgs / 10;
		t.seen.xdp_pkts += xdp / 10;
		t.seen.xdp_bytes += xdp / 10 * bytes;
		changed += intake_tick(&t.i, &t.seen, t.now);
	}
	return changed;
}

static void trains_stay(void **state)
{
	assert_int_equal(pass(10000, 1000000, 500000, 0, 0), 0); /* two in a message */
	assert_int_equal(pass(10000, 19990, 19990, 0, 0), 0);	 /* singly, but few */
	assert_false(t.i.xdp);
}

static void singles_move(void **state)
{
	assert_int_equal(pass(100, 20000, 20000, 0, 0), 1);
	assert_true(t.i.xdp);
	assert_int_equal(pass(120000, 0, 0, 20000, 100), 0); /* small ones, for minutes */
	assert_true(t.i.xdp);
}

static void quiet_moves_back(void **state)
{
	pass(100, 30000, 16000, 0, 0);
	assert_int_equal(pass(4900, 0, 0, 490, 100), 0);
	assert_int_equal(pass(100, 0, 0, 500, 100), 0); /* not quiet */
	assert_int_equal(pass(4900, 0, 0, 490, 100), 0);
	assert_int_equal(pass(100, 0, 0, 490, 100), 1);
	assert_false(t.i.xdp);
}

/* Bulk is tried by sockets once a minute; where it comes singly all the same it is back at once. */
static void bulk_is_tried(void **state)
{
	pass(100, 30000, 30000, 0, 0);
	assert_int_equal(pass(59900, 0, 0, 100000, 1400), 0);
	assert_int_equal(pass(200, 0, 0, 100000, 1400), 1);
	assert_false(t.i.xdp);
	assert_int_equal(pass(100, 100000, 100000, 0, 0), 1);
	assert_true(t.i.xdp);
	assert_int_equal(pass(59900, 0, 0, 100000, 1400), 0);
	assert_int_equal(pass(2000, 0, 0, 100000, 999), 0); /* not that long */
	assert_int_equal(pass(900, 0, 0, 100000, 1000), 0);
	assert_int_equal(pass(100, 0, 0, 100000, 1000), 1);
}

/* Looks that come too soon are no looks, and late ones count by the second. */
static void by_the_clock(void **state)
{
	t.seen.sock_pkts += 1990;
	t.seen.sock_msgs += 1990;
	t.now += 49 * MS;
	assert_false(intake_tick(&t.i, &t.seen, t.now));
	t.now += 51 * MS;
	assert_false(intake_tick(&t.i, &t.seen, t.now)); /* 19,900 a second */
	t.seen.sock_pkts += 20000;
	t.seen.sock_msgs += 20000;
	t.now += 1000 * MS;
	assert_true(intake_tick(&t.i, &t.seen, t.now));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(trains_stay, setup),   cmocka_unit_test_setup(singles_move, setup),
		cmocka_unit_test_setup(quiet_moves_back, setup), cmocka_unit_test_setup(bulk_is_tried, setup),
		cmocka_unit_test_setup(by_the_clock, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
