/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which links had SAs of an IKE daemon, over a restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <unistd.h>
#include "log.h"
#include "wish.h"

static void over_a_restart(void **state)
{
	static struct daemon d;
	static struct link l, next;
	char dir[] = "/tmp/wish-XXXXXX", sub[64], file[80];

	assert_non_null(mkdtemp(dir));
	strcpy(d.state_dir, dir);
	strcpy(l.conf.name, "ipsec7");
	strcpy(l.conf.ike, "east");
	snprintf(sub, sizeof sub, "%s/ike", dir);
	snprintf(file, sizeof file, "%s/ike/ipsec7", dir);
	wish_recall(&d, &l);
	assert_false(l.ike_want);
	wish_set(&d, &l, false);
	assert_int_not_equal(access(sub, F_OK), 0); /* nothing to say, nothing written */
	for (int i = 0; i < 2; i++) {
		wish_set(&d, &l, true);
		assert_int_equal(access(file, F_OK), 0);
		next = (struct link){.conf = l.conf};
		wish_recall(&d, &next);
		assert_true(next.ike_want);
		next.conf.ike[0] = 0; /* its keys are a file's now */
		wish_recall(&d, &next);
		assert_false(next.ike_want);
		wish_set(&d, &l, false);
		assert_int_not_equal(access(file, F_OK), 0);
	}
	assert_int_equal(rmdir(sub), 0);
	assert_int_equal(rmdir(dir), 0);
}

/* Nowhere to write: told, and remembered all the same. */
static void no_disk(void **state)
{
	static struct daemon d = {.state_dir = "/nonexistent"};
	static struct link l;

	log_max = LOGL_ERR;
	strcpy(l.conf.name, "ipsec7");
	wish_set(&d, &l, true);
	assert_true(l.ike_want);
	wish_set(&d, &l, false);
	assert_false(l.ike_want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(over_a_restart), cmocka_unit_test(no_disk)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
