/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fuzz harness of esp_open(), run without a fuzzer on every `make check`: the corpus, and
 * random inputs (SEED, FUZZ_N). What it holds up it holds up by abort().
 */
#define FUZZ_NO_MAIN
#include "../fuzz/esp_open_fuzz.c"
#include "crypto_rig.h"

static void test_corpus(void **state)
{
	struct stat st;

	if (stat("tests/fuzz/esp_open.corpus", &st))
		skip(); /* not started from the top of the tree */
	run_path("tests/fuzz/esp_open.corpus");
	assert_true(n_run > 10);
}

static void test_random(void **state)
{
	for (size_t b = 0; b < RIG_N; b += RIG_N - 1)
		if (rig_backend(b))
			run_random(rig_rand(), (unsigned int)rig_env("FUZZ_N", 20000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_corpus),
		cmocka_unit_test(test_random),
	};

	rig_seed("esp_fuzz_test");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
