/* SPDX-License-Identifier: GPL-2.0-or-later */
/* handoff: order, results and room of the ring between two workers, with both threads at work. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include "handoff.h"

enum { JOBS = 200000, LONGEST = 66000, STOP = 0xffff };

/* What a job of this number is: anything but regular. */
static uint32_t rnd(uint32_t n)
{
	n = (n ^ 61) ^ (n >> 16);
	n *= 9;
	n ^= n >> 4;
	n *= 0x27d4eb2d;
	return n ^ n >> 15;
}

static uint32_t len_of(uint32_t n)
{
	return rnd(n) % 8 ? rnd(n) % 200 : rnd(n) % LONGEST;
}

static bool give(struct handoff *h, uint32_t n)
{
	struct job *j = handoff_room(h, len_of(n));

	if (!j)
		return false;
	j->n = (uint16_t)(rnd(n) % STOP);
	j->sealed = n;
	memset(j->data, (int)(n & 0xff), j->len);
	handoff_give(h);
	return true;
}

static void *taker(void *arg)
{
	struct handoff *h = arg;
	uint32_t n = 0, wrong = 0;
	struct job *j;

	while (n < JOBS) {
		unsigned int k = 0, some = 1 + rnd(n) % 5;

		for (; k < some && (j = handoff_next(h, k)); k++) {
			uint32_t i = n + k;

			wrong += j->sealed != i || j->len != len_of(i) || j->n != rnd(i) % STOP || ((uintptr_t)j->data & 63);
			for (uint32_t b = 0; b < j->len; b += 1 + j->len / 7)
				wrong += j->data[b] != (i & 0xff);
			j->msg.sent = (uint16_t)~j->n;
		}
		handoff_done(h, k);
		n += k;
		if (!k)
			sched_yield();
	}
	return (void *)(uintptr_t)wrong;
}

static void test_two_threads(void **state)
{
	struct handoff *h = handoff_new();
	uint32_t given = 0, taken = 0, full = 0;
	const struct job *j;
	pthread_t t;
	void *wrong;

	assert_non_null(h);
	assert_int_equal(pthread_create(&t, NULL, taker, h), 0);
	while (taken < JOBS) {
		while (given < JOBS && give(h, given))
			given++;
		full += given < JOBS;
		for (; (j = handoff_result(h)); handoff_taken(h), taken++) {
			assert_int_equal(j->sealed, taken);
			assert_int_equal(j->msg.sent, (uint16_t)~j->n);
		}
		if (taken < given)
			assert_int_equal(handoff_oldest(h)->sealed, taken);
		sched_yield();
	}
	pthread_join(t, &wrong);
	assert_int_equal((uintptr_t)wrong, 0);
	assert_true(full); /* it did come to its end, many times */
	assert_null(handoff_oldest(h));
	assert_null(handoff_next(h, 0));
	handoff_free(h);
}

/* Nothing of a job is given again before its result was taken back. */
static void test_room(void **state)
{
	struct handoff *h = handoff_new();
	uint32_t n, fit = HANDOFF_BYTES / (HANDOFF_BYTES / 2);

	for (n = 0; handoff_room(h, 64); n++)
		handoff_give(h);
	assert_int_equal(n, HANDOFF_JOBS);
	handoff_done(h, n);
	assert_null(handoff_room(h, 0));
	assert_non_null(handoff_result(h));
	handoff_taken(h);
	assert_non_null(handoff_room(h, 0));
	handoff_give(h);
	assert_null(handoff_room(h, 0));
	handoff_free(h);

	h = handoff_new();
	for (n = 0; handoff_room(h, HANDOFF_BYTES / 2); n++)
		handoff_give(h);
	assert_int_equal(n, fit);
	assert_null(handoff_room(h, 1));
	assert_non_null(handoff_room(h, 0)); /* takes no bytes */
	handoff_free(h);
}

/* What does not fit before the end of the memory begins at its start: never in two pieces, never over what is out. */
static void test_end_of_memory(void **state)
{
	struct handoff *h = handoff_new();
	struct job *a = handoff_room(h, HANDOFF_BYTES / 2), *b, *c;

	handoff_give(h);
	b = handoff_room(h, HANDOFF_BYTES / 4);
	handoff_give(h);
	assert_ptr_equal(b->data, a->data + HANDOFF_BYTES / 2);
	assert_null(handoff_room(h, HANDOFF_BYTES / 2)); /* a quarter is left at the end, nothing at the start */
	handoff_done(h, 1);
	assert_ptr_equal(handoff_result(h), a);
	handoff_taken(h);
	c = handoff_room(h, HANDOFF_BYTES / 2);
	assert_non_null(c);
	assert_ptr_equal(c->data, a->data);
	handoff_give(h);
	assert_null(handoff_room(h, 1)); /* the quarter that was skipped comes back with the rest */
	handoff_done(h, 2);
	handoff_taken(h);
	handoff_taken(h);
	assert_null(handoff_result(h));
	assert_non_null(handoff_room(h, HANDOFF_BYTES / 2));
	handoff_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_threads),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_end_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
