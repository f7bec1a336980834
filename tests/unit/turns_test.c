/* SPDX-License-Identifier: GPL-2.0-or-later */
/* turns: one path at a time. What is dead is left, what is better is tried again, and nobody waits for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include "turns.h"
#include "util.h"

enum { N = 3 };

#define MS(n) ((uint64_t)(n) * 1000000u)
static const uint64_t WINDOW = MS(400), TRIAL = MS(200), STEP = MS(100);

/* struct world - which paths really work, and what time it is; echoes are answered at every step */
struct world {
	struct turns t;
	bool works[N];
	uint64_t now;
	unsigned int changes, at[N]; /* changes of turn; steps on each path */
};

static void begin(struct world *w)
{
	*w = (struct world){.works = {true, true, true}, .now = MS(1000)};
	turns_begin(&w->t, 0, w->now);
	for (unsigned int i = 0; i < N; i++)
		turns_usable(&w->t, i, true);
}

static bool step(struct world *w)
{
	bool changed;

	w->now += STEP;
	if (w->works[w->t.cur] && w->now > w->t.since_ns + STEP)
		w->t.turn[w->t.cur].answered_ns = w->now;
	changed = turns_next(&w->t, N, WINDOW, TRIAL, w->now);
	w->changes += changed;
	w->at[w->t.cur]++;
	return changed;
}

static void pass(struct world *w, uint64_t time)
{
	for (uint64_t end = w->now + time; w->now < end;)
		step(w);
}

static uint64_t until_on(struct world *w, unsigned int path, uint64_t most)
{
	uint64_t start = w->now;

	while (w->t.cur != path && w->now < start + most)
		step(w);
	assert_int_equal(w->t.cur, path);
	return w->now - start;
}

static void test_stays_where_it_is_well(void **st)
{
	struct world w;

	begin(&w);
	pass(&w, MS(100000));
	assert_int_equal(w.changes, 0);
}

static void test_leaves_and_comes_back(void **st)
{
	struct world w;
	uint64_t took;

	begin(&w);
	pass(&w, MS(2000));
	w.works[0] = false;
	took = until_on(&w, 1, MS(1000));
	assert_in_range(took, WINDOW, WINDOW + STEP);
	/* tried, for a moment, after 10 s; then after 20 more */
	pass(&w, MS(9000));
	assert_int_equal(w.changes, 1);
	memset(w.at, 0, sizeof w.at);
	pass(&w, MS(2000));
	assert_int_equal(w.changes, 3);
	assert_int_equal(w.t.cur, 1);
	assert_in_range(w.at[0], 1, TRIAL / STEP + 1);
	pass(&w, MS(18000));
	assert_int_equal(w.changes, 3);
	w.works[0] = true;
	until_on(&w, 0, MS(4000));
	pass(&w, MS(300000));
	assert_int_equal(w.t.cur, 0);
	assert_int_equal(w.changes, 4);
	assert_int_equal(w.t.turn[0].fails, 0);
}

/* However long it is dead, it is not tried for more than a small part of the time. */
static void test_trials_are_rare(void **st)
{
	struct world w;

	begin(&w);
	w.works[0] = false;
	pass(&w, MS(24 * 3600 * 1000ull));
	assert_int_equal(w.t.cur, 1);
	assert_in_range(w.changes, 40, 120);
	assert_in_range(w.at[0], 1, 500);
	w.works[0] = true;
	until_on(&w, 0, MS(44 * 60000));
}

/* With a new route there is news: at once. */
static void test_routes(void **st)
{
	struct world w;

	begin(&w);
	pass(&w, MS(1000));
	turns_usable(&w.t, 0, false);
	assert_true(step(&w));
	assert_int_equal(w.t.cur, 1);
	turns_usable(&w.t, 1, false);
	assert_true(step(&w));
	assert_int_equal(w.t.cur, 2);
	turns_usable(&w.t, 2, false);
	pass(&w, MS(5000));
	assert_int_equal(w.t.cur, 2);
	turns_usable(&w.t, 1, true);
	assert_true(step(&w));
	assert_int_equal(w.t.cur, 1);
	pass(&w, MS(1000));
	w.t.turn[0].fails = 5;
	w.t.turn[0].hold_ns = w.now + MS(1000000);
	turns_usable(&w.t, 0, true);
	until_on(&w, 0, MS(300));
}

/* Nobody answers: every path gets its turn, each time for longer, at most a minute. Who is back is found. */
static void test_all_dead(void **st)
{
	struct world w;

	begin(&w);
	memset(w.works, 0, sizeof w.works);
	pass(&w, MS(3600 * 1000));
	assert_in_range(w.changes, 60, 75);
	for (unsigned int i = 0; i < N; i++)
		assert_in_range(w.at[i], 10000, 14000);
	for (unsigned int i = 0; i < N; i++) {
		memset(w.works, 0, sizeof w.works);
		pass(&w, MS(600000));
		w.works[i] = true;
		until_on(&w, i, MS(121000));
		pass(&w, MS(300));
		assert_int_equal(w.t.vain, 0);
	}
}

static void test_weight_and_order(void **st)
{
	struct world w;

	begin(&w);
	w.t.turn[2].weight = 1;
	pass(&w, MS(1000));
	assert_int_equal(w.t.cur, 2);
	w.works[2] = false;
	until_on(&w, 0, MS(1000));
	w.works[0] = false;
	until_on(&w, 1, MS(1000));
	/* the best one of those that may be tried: the third is on hold as long as the first */
	w.works[0] = w.works[2] = true;
	until_on(&w, 2, MS(12000));
}

/* Nobody asks: the best one that has a route. */
static void test_without_liveness(void **st)
{
	struct world w;

	begin(&w);
	turns_usable(&w.t, 0, false);
	assert_true(turns_next(&w.t, N, 0, 0, w.now));
	assert_int_equal(w.t.cur, 1);
	assert_false(turns_next(&w.t, N, 0, 0, w.now));
	turns_usable(&w.t, 0, true);
	assert_true(turns_next(&w.t, N, 0, 0, w.now));
	assert_int_equal(w.t.cur, 0);
	for (unsigned int i = 0; i < N; i++)
		turns_usable(&w.t, i, false);
	assert_false(turns_next(&w.t, N, 0, 0, w.now));
	assert_int_equal(w.t.cur, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stays_where_it_is_well), cmocka_unit_test(test_leaves_and_comes_back),
		cmocka_unit_test(test_trials_are_rare),	       cmocka_unit_test(test_routes),
		cmocka_unit_test(test_all_dead),	       cmocka_unit_test(test_weight_and_order),
		cmocka_unit_test(test_without_liveness),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
