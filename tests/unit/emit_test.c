/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What becomes of envelopes that a socket takes or refuses: counted once, with the right reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "emit.h"
#include "util.h"

enum { TOO_LONG = 65600 /* more than IPv4 can carry, whatever the path */, SMALL = 100 };

static struct bed {
	struct socks socks;
	struct worker_stats stats;
	struct wlink_ctr ctr;
	struct wlink link;
	struct emit emit;
	uint8_t data[TOO_LONG];
	int sink;
} b;

static int setup(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof a;

	memset(&b, 0, sizeof b);
	b.sink = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	b.socks = (struct socks){-1, -1, socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), -1, false};
	if (b.sink < 0 || b.socks.udp4 < 0 || bind(b.sink, (struct sockaddr *)&a, sizeof a) ||
	    getsockname(b.sink, (struct sockaddr *)&a, &len))
		return -1;
	b.link.ctr = &b.ctr;
	b.link.n_paths = 1;
	b.link.paths[0] = (struct wpath){.remote = addr_from4(a.sin_addr), .port = ntohs(a.sin_port), .encap = ENCAP_UDP};
	b.emit.socks = &b.socks;
	b.emit.stats = &b.stats;
	return 0;
}

static int teardown(void **state)
{
	close(b.sink);
	close(b.socks.udp4);
	return 0;
}

static void run(uint32_t len, bool probe)
{
	struct run r = {.data = b.data, .len = len, .seg = len, .n = 1, .probe = probe, .inner_bytes = 60, .link = &b.link};

	emit_run(&b.emit, &r);
	emit_flush(&b.emit);
}

static uint64_t drops(void)
{
	uint64_t n = 0;

	for (int i = 0; i < DROP_MAX; i++)
		n += b.ctr.drops_out[i];
	return n;
}

static void taken(void **state)
{
	uint8_t buf[200];

	run(SMALL, false);
	run(SMALL, true);
	assert_int_equal(b.ctr.out_pkts, 1);
	assert_int_equal(b.ctr.out_bytes, 60);
	assert_int_equal(b.ctr.out_probes, 1);
	assert_int_equal(drops(), 0);
	assert_int_equal(recv(b.sink, buf, sizeof buf, 0), SMALL);
	assert_int_equal(recv(b.sink, buf, sizeof buf, 0), SMALL);
}

/* EMSGSIZE, and again when it is tried again. */
static void too_long(void **state)
{
	run(TOO_LONG, false);
	assert_int_equal(b.ctr.drops_out[DROP_DF_TOO_BIG], 1);
	assert_int_equal(drops(), 1);
	assert_int_equal(b.ctr.out_pkts, 0);
	run(TOO_LONG, true); /* a probe is no raw packet: its loss is not in the books */
	assert_int_equal(drops(), 1);
	assert_int_equal(b.ctr.out_probes, 0);
}

static void nowhere_to_go(void **state)
{
	b.link.paths[0].remote = (struct in6_addr)IN6ADDR_ANY_INIT; /* not learned yet */
	run(SMALL, false);
	b.link.n_paths = 0;
	run(SMALL, false);
	assert_int_equal(b.ctr.drops_out[DROP_NO_ROUTE], 2);
	assert_int_equal(drops(), 2);
}

static void reasons(void **state)
{
	static const struct {
		int err;
		enum drop drop;
	} rows[] = {{EAGAIN, DROP_QUEUE_FULL},    {EPERM, DROP_TX_REFUSED},  {EACCES, DROP_TX_REFUSED},
		    {ENOBUFS, DROP_TX_REFUSED},   {ENETUNREACH, DROP_NO_ROUTE}, {EHOSTUNREACH, DROP_NO_ROUTE},
		    {EMSGSIZE, DROP_DF_TOO_BIG},  {EINVAL, DROP_TX_ERROR},   {EIO, DROP_TX_ERROR}};

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(emit_drop_reason(rows[i].err), rows[i].drop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(taken, setup, teardown),
		cmocka_unit_test_setup_teardown(too_long, setup, teardown),
		cmocka_unit_test_setup_teardown(nowhere_to_go, setup, teardown),
		cmocka_unit_test(reasons),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
