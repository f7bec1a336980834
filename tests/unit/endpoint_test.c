/* SPDX-License-Identifier: GPL-2.0-or-later */
/* endpoint: what was noted is found again, whatever became of the last lines; what is damaged is not believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "endpoint.h"

static char dir[] = "/tmp/endpoint_test.XXXXXX", file[64];

static int make_dir(void **state)
{
	strcpy(dir + sizeof dir - 7, "XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(file, sizeof file, "%s/endpoints", dir);
	return 0;
}

static int drop_dir(void **state)
{
	unlink(file);
	return rmdir(dir);
}

static struct in6_addr addr(const char *s)
{
	struct in6_addr a;

	assert_int_equal(addr_parse(s, &a), 0);
	return a;
}

static void note(struct endpoints *s, const char *peer, unsigned int path, const char *a, uint16_t port)
{
	struct in6_addr r = addr(a);

	endpoints_note(s, peer, path, &r, port);
}

static bool is_at(const struct endpoints *s, const char *peer, unsigned int path, const char *a, uint16_t port)
{
	const struct endpoint *e = endpoints_find(s, peer, path);
	struct in6_addr want = addr(a);

	return e && !memcmp(&e->remote, &want, sizeof want) && e->port == port;
}

static off_t size(void)
{
	struct stat st;

	return stat(file, &st) ? 0 : st.st_size;
}

static void test_found_again(void **state)
{
	struct endpoints *s = endpoints_open(dir);

	assert_null(endpoints_find(s, "east", 0));
	note(s, "east", 0, "198.51.100.7", 4500);
	note(s, "east", 1, "2001:db8::7", 0);
	note(s, "west@x", 0, "198.51.100.8", 1);
	note(s, "east", 0, "198.51.100.9", 4501); /* moved before it was written: one line */
	assert_int_equal(endpoints_sync(s, false), 0);
	note(s, "west@x", 0, "198.51.100.10", 2);
	assert_int_equal(endpoints_sync(s, false), 0); /* not so soon */
	endpoints_close(s);                            /* but now */
	s = endpoints_open(dir);
	assert_true(is_at(s, "east", 0, "198.51.100.9", 4501));
	assert_true(is_at(s, "east", 1, "2001:db8::7", 0));
	assert_true(is_at(s, "west@x", 0, "198.51.100.10", 2));
	assert_null(endpoints_find(s, "west@x", 1));
	endpoints_close(s);
}

/* Cut anywhere, as by a power failure: all but the last line stand, and the next write mends the file. */
static void test_torn(void **state)
{
	struct endpoints *s;
	off_t first, all;

	s = endpoints_open(dir);
	note(s, "east", 0, "198.51.100.7", 4500);
	endpoints_sync(s, true);
	first = size();
	note(s, "west", 0, "198.51.100.8", 4500);
	endpoints_close(s);
	all = size();
	for (off_t at = all - 1; at >= first; at--) {
		assert_int_equal(truncate(file, at), 0);
		s = endpoints_open(dir);
		assert_true(is_at(s, "east", 0, "198.51.100.7", 4500));
		assert_null(endpoints_find(s, "west", 0));
		endpoints_close(s);
	}
	assert_int_equal(truncate(file, first + 5), 0);
	s = endpoints_open(dir);
	note(s, "west", 0, "198.51.100.9", 4500);
	endpoints_close(s);
	s = endpoints_open(dir);
	assert_true(is_at(s, "east", 0, "198.51.100.7", 4500));
	assert_true(is_at(s, "west", 0, "198.51.100.9", 4500));
	endpoints_close(s);
}

/* Every bit of a line counts. */
static void test_damage(void **state)
{
	struct endpoint e = {.peer = "east", .path = 3, .remote = addr("198.51.100.7"), .port = 4500, .clock_ms = 1790000000000}, got;
	char line[ENDPOINT_LINE_MAX];
	int n = endpoint_print(&e, line) - 1;

	assert_true(endpoint_parse(line, n, &got));
	assert_memory_equal(&got, &e, sizeof e);
	for (int i = 0; i < n * 8; i++) {
		line[i / 8] ^= 1 << i % 8;
		assert_false(endpoint_parse(line, n, &got));
		line[i / 8] ^= 1 << i % 8;
	}
	for (int i = 0; i < n; i++)
		assert_false(endpoint_parse(line, i, &got));
}

/* A peer that moves without end does not fill the disk. */
static void test_written_anew(void **state)
{
	struct endpoints *s = endpoints_open(dir);
	char a[24];

	for (unsigned int i = 0; i < 5000; i++) {
		snprintf(a, sizeof a, "10.0.%u.%u", i >> 8, i & 255);
		note(s, "east", 0, a, 4500);
		assert_int_equal(endpoints_sync(s, true), 0);
	}
	assert_true(size() < 100000);
	endpoints_close(s);
	s = endpoints_open(dir);
	assert_true(is_at(s, "east", 0, "10.0.19.135", 4500));
	endpoints_close(s);
}

static void test_no_disk(void **state)
{
	struct endpoints *s = endpoints_open("/nowhere/at/all");

	note(s, "east", 0, "198.51.100.7", 4500);
	assert_true(endpoints_sync(s, true) < 0);
	assert_true(is_at(s, "east", 0, "198.51.100.7", 4500));
	endpoints_close(s);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, make_dir, drop_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {CASE(test_found_again), CASE(test_torn), CASE(test_damage), CASE(test_written_anew),
					   CASE(test_no_disk)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
