/* SPDX-License-Identifier: GPL-2.0-or-later */
/* audit_test - one entry per reason, direction and second, none lost in the count, and nothing when it is off. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "audit.h"

static struct audit a;

static struct audit_rec rec(unsigned int what, bool out, uint64_t seq)
{
	return (struct audit_rec){.what = (uint8_t)what, .out = out, .seq = seq, .spi = 7};
}

static int setup(void **state)
{
	a = (struct audit){.on = true};
	return 0;
}

static void test_off(void **state)
{
	struct audit_rec r = rec(DROP_ICV_FAIL, false, 1);

	a.on = false;
	audit_note(&a, 1, &r);
	assert_false(audit_take(&a, false, DROP_ICV_FAIL, &r));
}

/* A thousand in one second: the first, then nothing; the next second's entry has the number of all. */
static void test_one_per_second(void **state)
{
	struct audit_rec r;

	for (uint64_t i = 0; i < 1000; i++) {
		r = rec(DROP_ICV_FAIL, false, i);
		audit_note(&a, 5 * AUDIT_GAP_NS + i, &r);
	}
	assert_true(audit_take(&a, false, DROP_ICV_FAIL, &r));
	assert_int_equal(r.seq, 0);
	assert_int_equal(r.packets, 1);
	assert_false(audit_take(&a, false, DROP_ICV_FAIL, &r));
	r = rec(DROP_ICV_FAIL, false, 1000);
	audit_note(&a, 6 * AUDIT_GAP_NS - 1, &r);
	assert_false(audit_take(&a, false, DROP_ICV_FAIL, &r));
	r = rec(DROP_ICV_FAIL, false, 1001);
	audit_note(&a, 6 * AUDIT_GAP_NS, &r);
	assert_true(audit_take(&a, false, DROP_ICV_FAIL, &r));
	assert_int_equal(r.seq, 1001);
	assert_int_equal(r.packets, 1001);
}

/* Reasons and directions do not hide each other; an entry that nobody took is not overwritten. */
static void test_apart(void **state)
{
	struct audit_rec r;

	for (unsigned int d = DROP_NONE + 1; d < AUDIT_MAX; d++)
		for (int out = 0; out < 2; out++)
			r = rec(d, out, 2 * d + out), audit_note(&a, 1, &r);
	r = rec(DROP_REPLAY_DUP, false, 99);
	audit_note(&a, 9 * AUDIT_GAP_NS, &r);
	for (unsigned int d = DROP_NONE + 1; d < AUDIT_MAX; d++) {
		for (int out = 0; out < 2; out++) {
			assert_true(audit_take(&a, out, d, &r));
			assert_int_equal(r.seq, 2 * d + out);
			assert_int_equal(r.what, d);
			assert_int_equal(r.out, out);
		}
	}
	r = rec(AUDIT_MAX, false, 1); /* no such reason */
	audit_note(&a, 1, &r);
}

enum { ROUNDS = 200000 };
static _Atomic bool done;

static void *writer(void *arg)
{
	for (uint64_t i = 1; i <= ROUNDS; i++) {
		struct audit_rec r = rec(DROP_SHORT, false, i);

		r.spi = (uint32_t)i;
		audit_note(&a, i * AUDIT_GAP_NS, &r);
		if (i % 16 == 0)
			sched_yield();
	}
	done = true;
	return NULL;
}

/* Two threads: no entry is torn, and the numbers add up. */
static void test_two_threads(void **state)
{
	uint64_t sum = 0;
	struct audit_rec r;
	bool last = false;
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, writer, NULL), 0);
	while (!last) {
		last = done;
		if (!audit_take(&a, false, DROP_SHORT, &r))
			continue;
		assert_true(r.spi == (uint32_t)r.seq);
		sum += r.packets;
		assert_true(r.seq == sum);
	}
	pthread_join(t, NULL);
	assert_true(sum + a.slot[0][DROP_SHORT].seen == ROUNDS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_off, setup),
		cmocka_unit_test_setup(test_one_per_second, setup),
		cmocka_unit_test_setup(test_apart, setup),
		cmocka_unit_test_setup(test_two_threads, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
