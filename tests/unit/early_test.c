/* SPDX-License-Identifier: GPL-2.0-or-later */
/* early: whoever asks while ipsecd starts is answered, one after the other, also behind a silent one. */
#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>
#include "control.h"
#include "early.h"

static struct early *early;
static struct sockaddr_un at = {.sun_family = AF_UNIX};
static int listening;

static int begin(void **state)
{
	socklen_t len = sizeof(sa_family_t); /* a name of the kernel's choice */

	listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	memset(at.sun_path, 0, sizeof at.sun_path);
	assert_int_equal(bind(listening, (struct sockaddr *)&at, len), 0);
	len = sizeof at;
	assert_int_equal(getsockname(listening, (struct sockaddr *)&at, &len), 0);
	assert_int_equal(listen(listening, 8), 0);
	assert_int_equal(early_begin(&early, listening), 0);
	return 0;
}

static int end(void **state)
{
	early_end(early);
	close(listening);
	return 0;
}

static int dial(void)
{
	socklen_t len = sizeof(sa_family_t) + 6; /* NUL and five digits: unix(7) */
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&at, len), 0);
	return fd;
}

/* The whole answer; the connection must end behind it. */
static json_t *ask(int fd, const char *request)
{
	char buf[4096];
	size_t n = 0;
	ssize_t got;
	json_t *j;

	assert_int_equal(send(fd, request, strlen(request), 0), (ssize_t)strlen(request));
	while ((got = recv(fd, buf + n, sizeof buf - n, 0)) > 0)
		n += got;
	close(fd);
	assert_true(n > 0 && buf[n - 1] == '\n');
	j = json_loadb(buf, n, 0, NULL);
	assert_non_null(j);
	return j;
}

static const char *string(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s ? s : "";
}

static void test_says_how_far(void **state)
{
	json_t *j = ask(dial(), "{\"schema\":1,\"verb\":\"show\"}\n");

	assert_true(json_is_false(json_object_get(j, "ok")));
	assert_string_equal(string(j, "code"), "starting");
	assert_int_equal(json_integer_value(json_object_get(j, "exit")), EXIT_NO_DAEMON);
	json_decref(j);
	early_says(early, "links", 812, 5000);
	j = ask(dial(), "anything\n");
	assert_string_equal(string(j, "error"), "ipsecd is starting: links, 812 of 5000");
	assert_string_equal(string(j, "doing"), "links");
	assert_int_equal(json_integer_value(json_object_get(j, "done")), 812);
	assert_int_equal(json_integer_value(json_object_get(j, "of")), 5000);
	json_decref(j);
	early_says(NULL, "nobody", 1, 2);
}

/* They connect and say nothing, or half a line: the next one waits for them a moment, and no longer. */
static void test_behind_the_silent(void **state)
{
	int mute = dial(), half = dial();

	assert_int_equal(send(half, "{", 1, 0), 1);
	json_decref(ask(dial(), "\n"));
	close(mute);
	close(half);
}

/* A request in pieces, and one that is longer than anybody's. */
static void test_any_request(void **state)
{
	char *big = malloc(300001);
	int fd = dial();

	assert_int_equal(send(fd, "{\"schema\"", 9, 0), 9);
	usleep(20000);
	json_decref(ask(fd, ":1}\n"));
	memset(big, ' ', 300000);
	big[299999] = '\n';
	big[300000] = 0;
	json_decref(ask(dial(), big));
	free(big);
}

/* Who comes too late for us is still there for the control thread. */
static void test_hands_over(void **state)
{
	int fd, served;

	early_end(early);
	early = NULL;
	fd = dial();
	served = accept(listening, NULL, NULL);
	assert_true(served >= 0);
	close(served);
	close(fd);
	early_end(NULL);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest tests[] = {
		CASE(test_says_how_far),
		CASE(test_behind_the_silent),
		CASE(test_any_request),
		CASE(test_hands_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
