/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ahead: what the hands began is what ledger_begin() begins, once per key, and nobody's stays open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "ahead.h"
#include "safile.h"

enum { LINKS = 24, TWIN = 5, OF = 3, LOST = 7 };

static struct daemon d;
static struct link *links[LINKS];
static char dir[] = "/tmp/espwire-ahead-XXXXXX";
static FILE *errs;

static int setup(void **state)
{
	char a[4096], b[4096], name[32];
	struct sa_conf out, in;

	errs = fopen("/dev/null", "w");
	if (!errs || !mkdtemp(dir))
		return -1;
	d.max_links = LINKS + 8;
	snprintf(d.state_dir, sizeof d.state_dir, "%s/state", dir);
	for (unsigned int i = 0; i < LINKS; i++) {
		links[i] = calloc(1, sizeof *links[i]);
		links[i]->id = LINKS + 3 - i; /* not in their order */
		snprintf(name, sizeof name, "peer%u", i);
		if (safile_pair(dir, "own", name, AEAD_AES_GCM_256, SA_TUNNEL, a, b, errs) ||
		    safile_load(a, &out, &in, errs) || ledger_create(d.state_dir, &out, errs) ||
		    ledger_create(d.state_dir, &in, errs))
			return -1;
		memcpy(links[i]->conf.sa_file, a, sizeof links[i]->conf.sa_file);
	}
	/* one key in two links' configuration, and one file that is gone */
	strcpy(links[TWIN]->conf.sa_file, links[OF]->conf.sa_file);
	unlink(links[LOST]->conf.sa_file);
	return 0;
}

static int drop_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	for (unsigned int i = 0; i < LINKS; i++)
		free(links[i]);
	fclose(errs);
	return nftw(dir, drop_one, 8, FTW_DEPTH | FTW_PHYS);
}

static unsigned int n_ahead;

/* One direction of a link's file, as sad.c does it. Return: can it be had? */
static bool take(unsigned int i, bool out, struct ledger **l)
{
	uint64_t seq = 0, iv = 0;
	struct sa_conf c[2] = {0};
	bool ahead;

	*l = NULL;
	if (safile_load(links[i]->conf.sa_file, &c[1], &c[0], errs))
		return ahead_take(&d, links[i], &c[out], l, &seq, &iv);
	ahead = ahead_take(&d, links[i], &c[out], l, &seq, &iv);
	n_ahead += ahead;
	if (!ahead && ledger_begin(l, d.state_dir, &c[out], &seq, &iv, errs))
		return false;
	if (out) {
		assert_true(c[1].seq_start >= 1 && c[1].seq_start <= seq);
		assert_true(c[1].iv_start && c[1].iv_start <= iv);
		assert_int_equal(ledger_mark(*l), seq); /* and that is durable */
	} else {
		assert_int_equal(seq, 0);
		assert_int_equal(c[0].seq_start, 0); /* the window is empty, the mark ahead of it, as sad_tick() has it */
		assert_int_equal(ledger_mark(*l), ahead ? LEDGER_MARK_STEP : 0);
	}
	return true;
}

static void test_all_taken(void **state)
{
	struct ledger *l[LINKS][2];

	ahead_begin(&d, links, LINKS);
	assert_non_null(d.ahead);
	usleep(100000); /* let some hands be first; who overtakes them does it himself */
	for (unsigned int i = 0; i < LINKS; i++)
		for (int out = 0; out < 2; out++) /* the first of two links with one key has it, whoever read it first */
			assert_int_equal(take(i, out, &l[i][out]), i != TWIN && i != LOST);
	assert_true(n_ahead > 0);
	ahead_end(&d);
	assert_null(d.ahead);
	for (unsigned int i = 0; i < LINKS; i++)
		for (int out = 0; out < 2; out++)
			ledger_close(l[i][out]);
}

/* Numbers that were reserved and not used are lost, not given out again. */
static void test_numbers_go_on(void **state)
{
	uint64_t before, after;
	struct ledger *l;

	ahead_begin(&d, links, LINKS);
	assert_true(take(0, true, &l));
	before = ledger_mark(l);
	ledger_close(l);
	ahead_end(&d);
	ahead_begin(&d, links, LINKS);
	assert_true(take(0, true, &l));
	after = ledger_mark(l);
	ledger_close(l);
	ahead_end(&d);
	assert_true(after > before);
}

/* In any order, and as fast as we can: begun ahead or not, each ledger can be had exactly once. */
static void test_overtaking(void **state)
{
	uint64_t seq, iv;
	struct ledger *l, *again;
	struct sa_conf out, in;

	ahead_begin(&d, links, LINKS);
	for (unsigned int i = LINKS; i-- > 0;) {
		if (i == LOST || i == TWIN)
			continue;
		assert_int_equal(safile_load(links[i]->conf.sa_file, &out, &in, errs), 0);
		if (!ahead_take(&d, links[i], &out, &l, &seq, &iv))
			assert_int_equal(ledger_begin(&l, d.state_dir, &out, &seq, &iv, errs), 0);
		assert_int_equal(ledger_open(&again, d.state_dir, &out, errs), -EBUSY);
		ledger_close(l);
	}
	ahead_end(&d);
	for (unsigned int i = 0; i < LINKS; i++) {
		if (i == LOST)
			continue;
		assert_int_equal(safile_load(links[i]->conf.sa_file, &out, &in, errs), 0);
		assert_int_equal(ledger_open(&l, d.state_dir, &in, errs), 0); /* nobody took it, so it was closed */
		ledger_close(l);
	}
}

static void test_few(void **state)
{
	struct ledger *l;

	n_ahead = 0;
	ahead_begin(&d, links, 2);
	assert_null(d.ahead);
	assert_true(take(0, true, &l));
	assert_int_equal(n_ahead, 0);
	ledger_close(l);
	ahead_end(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_taken),
		cmocka_unit_test(test_numbers_go_on),
		cmocka_unit_test(test_overtaking),
		cmocka_unit_test(test_few),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
