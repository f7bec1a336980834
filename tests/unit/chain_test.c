/* SPDX-License-Identifier: GPL-2.0-or-later */
/* chain: against an array that is searched from end to end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "chain.h"

enum { THINGS = 300, KEYS = 40, ROUNDS = 20000 };

struct world {
	struct chain c;
	uint64_t key[THINGS];
	bool in[THINGS];
	uint64_t seed;
};

static uint32_t some(struct world *w, uint32_t below)
{
	w->seed = w->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(w->seed >> 33) % below;
}

/* Every bearer is met once, and nobody who is in no chain. */
static void agree(struct world *w, uint64_t key)
{
	uint8_t met[THINGS] = {0};

	chain_each(&w->c, key, i) {
		assert_true(i < THINGS);
		assert_true(w->in[i]);
		met[i]++;
	}
	for (unsigned int i = 0; i < THINGS; i++) {
		assert_true(met[i] <= 1);
		if (w->in[i] && w->key[i] == key)
			assert_int_equal(met[i], 1);
	}
}

static void test_as_the_array(void **state)
{
	struct world w = {.seed = 4711};

	assert_int_equal(chain_init(&w.c, THINGS), 0);
	for (unsigned int n = 0; n < ROUNDS; n++) {
		uint32_t i = some(&w, THINGS);
		uint64_t key = (uint64_t)some(&w, KEYS) << 32 | 7; /* high bits count, too */

		if (w.in[i]) {
			chain_del(&w.c, w.key[i] ^ 1, i); /* as a rule another chain */
			chain_del(&w.c, w.key[i], i);
			w.in[i] = false;
			chain_del(&w.c, w.key[i], i); /* not there any more */
		} else {
			w.key[i] = key;
			w.in[i] = true;
			chain_add(&w.c, key, i);
		}
		agree(&w, key);
	}
	chain_free(&w.c);
}

static void test_leaving_on_the_way(void **state)
{
	struct chain c;
	unsigned int met = 0;

	assert_int_equal(chain_init(&c, 5), 0);
	for (uint32_t i = 0; i < 5; i++)
		chain_add(&c, 9, i);
	chain_each(&c, 9, i) {
		chain_del(&c, 9, i);
		met++;
	}
	assert_int_equal(met, 5);
	assert_int_equal(chain_first(&c, 9), CHAIN_END);
	chain_free(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_the_array),
		cmocka_unit_test(test_leaving_on_the_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
