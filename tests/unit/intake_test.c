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
static unsigned int pass_some(unsigned int ms, uint64_t pkts, uint64_t msgs, uint64_t xdp, uint64_t bytes, bool udp)
{
	unsigned int changed = 0;

	for (unsigned int k = 0; k < ms / 100; k++) {
		t.now += 100 * MS;
		t.seen.sock_pkts += pkts / 10;
		t.seen.sock_msgs += msgs / 10;
		t.seen.xdp_pkts += xdp / 10;
		t.seen.xdp_udp += udp ? xdp / 10 : 0;
		t.seen.xdp_bytes += xdp / 10 * bytes;
		changed += intake_tick(&t.i, &t.seen, t.now);
	}
	return changed;
}

static unsigned int pass(unsigned int ms, uint64_t pkts, uint64_t msgs, uint64_t xdp, uint64_t bytes)
{
	return pass_some(ms, pkts, msgs, xdp, bytes, true);
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
	assert_int_equal(pass(120000, 0, 0, 40000, 100), 0); /* small ones, for minutes */
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

/* Bulk, and many small ones, are tried by sockets; where they come singly all the same, ever later. */
static void busy_is_tried(void **state)
{
	static const struct {
		uint64_t pkts, bytes;
	} load[] = {{10000, 1000}, {50000, 100}};

	for (unsigned int k = 0; k < 2; k++) {
		setup(NULL);
		pass(100, 30000, 30000, 0, 0);
		for (unsigned int wait = 2000; wait < 1000000; wait *= 2) {
			unsigned int capped = wait < 64000 ? wait : 64000;

			assert_int_equal(pass(capped - 100, 0, 0, load[k].pkts, load[k].bytes), 0);
			assert_int_equal(pass(100, 0, 0, load[k].pkts, load[k].bytes), 1);
			assert_int_equal(pass(100, 100000, 100000, 0, 0), 1);
			assert_true(t.i.xdp);
		}
		pass(63500, 0, 0, 1000, 1000);
		assert_int_equal(pass(2000, 0, 0, load[k].pkts - 10, load[k].bytes), 0); /* not that many */
		assert_int_equal(pass(2000, 0, 0, load[k].pkts, load[k].bytes - (k ? 0 : 1)), k ? 1 : 0);
	}
}

/* A try that finds trains, and is ended by singles later, was not in vain. */
static void a_good_try_is_forgotten(void **state)
{
	pass(100, 30000, 30000, 0, 0);
	pass(2000, 0, 0, 60000, 100);
	pass(100, 60000, 60000, 0, 0); /* in vain: 4 s from here */
	assert_int_equal(pass(3900, 0, 0, 60000, 100), 0);
	assert_int_equal(pass(100, 0, 0, 60000, 100), 1);
	assert_int_equal(pass(5000, 60000, 6000, 0, 0), 0);
	pass(100, 60000, 60000, 0, 0);
	assert_true(t.i.xdp);
	assert_int_equal(pass(1900, 0, 0, 60000, 100), 0);
	assert_int_equal(pass(100, 0, 0, 60000, 100), 1);
}

/* Bare ESP never comes in trains. */
static void esp_is_not_tried(void **state)
{
	pass(100, 30000, 30000, 0, 0);
	assert_int_equal(pass_some(200000, 0, 0, 1000000, 1400, false), 0);
	assert_true(t.i.xdp);
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
		cmocka_unit_test_setup(quiet_moves_back, setup), cmocka_unit_test_setup(busy_is_tried, setup),
		cmocka_unit_test_setup(a_good_try_is_forgotten, setup), cmocka_unit_test_setup(esp_is_not_tried, setup),
		cmocka_unit_test_setup(by_the_clock, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
