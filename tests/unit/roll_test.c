/* SPDX-License-Identifier: GPL-2.0-or-later */
/* roll: says what the kernel said when it was called, of the two namespaces that it was called in, and no more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include "ns.h"
#include "roll.h"

enum { MANY = 100 };

static int fd[3]; /* underlay, backend, another */
static struct nl *nl[3];

static int new_ns(void)
{
	int saved = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), made;

	if (unshare(CLONE_NEWNET)) {
		close(saved);
		return -errno;
	}
	made = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	ns_restore(saved);
	return made;
}

static int setup(void **state)
{
	for (int i = 0; i < 3; i++) {
		fd[i] = new_ns();
		if (fd[i] >= 0 && nl_open(&nl[i], fd[i]))
			return -1;
	}
	return 0;
}

static int teardown(void **state)
{
	for (int i = 0; i < 3; i++) {
		nl_close(nl[i]);
		close(fd[i]);
	}
	return 0;
}

#define NEED_ROOT()                                                                 \
	do {                                                                        \
		if (!nl[0] || !nl[1] || !nl[2]) {                                   \
			print_message("SKIPPED: needs root (network namespaces)\n"); \
			skip();                                                     \
		}                                                                   \
	} while (0)

static struct in6_addr ip(const char *text)
{
	struct in6_addr a;

	assert_int_equal(addr_parse(text, &a), 0);
	return a;
}

static int pair(unsigned int i)
{
	char name[IFNAMSIZ], peer[IFNAMSIZ];
	struct veth_spec v = {.name = name, .peer = peer, .peer_netns_fd = fd[1], .noarp = true};

	snprintf(name, sizeof name, "ipsec%u", i);
	snprintf(peer, sizeof peer, "b%u", i);
	return nl_veth_add(nl[0], &v);
}

static void same_as_asked(const struct roll *r, unsigned int i)
{
	struct nl_link said, asked;
	char name[IFNAMSIZ];

	for (int k = 0; k < 2; k++) {
		snprintf(name, sizeof name, k ? "b%u" : "ipsec%u", i);
		assert_int_equal(nl_link_get(nl[k], name, &asked), 0);
		assert_int_equal(roll_link(r, nl[k], name, &said), 0);
		assert_int_equal(said.ifindex, asked.ifindex);
		assert_int_equal(said.peer_ifindex, asked.peer_ifindex);
		assert_int_equal(said.mtu, asked.mtu);
		assert_int_equal(said.flags, asked.flags);
		assert_int_equal(said.on, asked.on);
		assert_string_equal(said.kind, "veth");
		assert_string_equal(said.alias, asked.alias);
		assert_string_equal(said.altname, asked.altname);
	}
}

static void test_devices(void **state)
{
	struct nl_sysctl on[] = {{.family = "ipv4", .name = "ignore_routes_with_linkdown", .value = "1"},
				 {.family = "ipv4", .name = "disable_xfrm", .value = "1"},
				 {.family = "ipv6", .name = "ignore_routes_with_linkdown", .value = "1"},
				 {.family = "ipv6", .name = "keep_addr_on_down", .value = "1"}};
	static const unsigned int bits[] = {NL_ON_LINKDOWN4, NL_ON_NO_XFRM, NL_ON_LINKDOWN6, NL_ON_KEEP_ADDR6};
	unsigned int so_far = 0;
	struct nl_link l;
	struct roll *r;

	NEED_ROOT();
	for (unsigned int i = 0; i < MANY; i++)
		assert_int_equal(pair(i), 0);
	assert_int_equal(nl_link_get(nl[0], "ipsec7", &l), 0);
	assert_int_equal(l.on, 0);
	assert_string_equal(l.altname, "");
	for (unsigned int i = 0; i < ARRAY_SIZE(on); i++) { /* each setting is one bit, and its own */
		assert_int_equal(nl_sysctls(nl[0], "ipsec7", &on[i], 1), 0);
		so_far |= bits[i];
		assert_int_equal(nl_link_get_index(nl[0], l.ifindex, &l), 0);
		assert_int_equal(l.on, so_far);
	}
	assert_int_equal(nl_link_altname_add(nl[0], l.ifindex, "ipsec:7"), 0);
	assert_int_equal(nl_link_altname_add(nl[0], l.ifindex, "x"), 0);
	assert_int_equal(nl_link_set_alias(nl[0], l.ifindex, "seven"), 0);
	assert_int_equal(nl_link_set_up(nl[0], l.ifindex, true), 0);
	r = roll_call(nl[0], nl[1]);
	assert_non_null(r);
	for (unsigned int i = 0; i < MANY; i++)
		same_as_asked(r, i);
	assert_int_equal(roll_link(r, nl[0], "ipsec7", &l), 0);
	assert_string_equal(l.altname, "ipsec:7");
	assert_int_equal(l.on, so_far);
	assert_int_equal(roll_link(r, nl[0], "b7", &l), -ENODEV);
	/* made since, deleted since: it does not say so; without a roll, or elsewhere, the kernel is asked */
	assert_int_equal(pair(MANY), 0);
	assert_int_equal(roll_link(r, nl[0], "ipsec100", &l), -ENODEV);
	assert_int_equal(roll_link(NULL, nl[0], "ipsec100", &l), 0);
	assert_int_equal(nl_link_del(nl[0], l.ifindex), 0);
	assert_int_equal(roll_link(NULL, nl[0], "ipsec100", &l), -ENODEV);
	assert_int_equal(roll_link(r, nl[2], "lo", &l), 0);
	assert_int_equal(roll_link(r, nl[2], "ipsec7", &l), -ENODEV);
	roll_free(r);
	roll_free(NULL);
}

static void test_addresses_and_routes(void **state)
{
	struct nl_addr a4 = {.local = ip("10.9.0.1"), .peer = ip("10.9.0.2"), .prefix_len = 32};
	struct nl_addr a6 = {.local = ip("fd09::1"), .peer = ip("fd09::2"), .prefix_len = 128}, other;
	struct nl_route r4 = {.type = NL_RT_UNICAST, .metric = 100}, r6 = {.type = NL_RT_UNICAST}, way;
	struct nl_link l;
	struct roll *r;

	NEED_ROOT();
	assert_int_equal(nl_link_get(nl[0], "ipsec3", &l), 0);
	assert_int_equal(nl_link_set_up(nl[0], l.ifindex, true), 0);
	a4.ifindex = a6.ifindex = r4.oif = r6.oif = l.ifindex;
	assert_int_equal(prefix_parse("10.2.0.0/16", &r4.dst), 0);
	assert_int_equal(prefix_parse("fd02::/48", &r6.dst), 0);
	assert_int_equal(nl_addr_add(nl[0], &a4), 0);
	assert_int_equal(nl_addr_add(nl[0], &a6), 0);
	assert_int_equal(nl_route_add(nl[0], &r4), 0);
	assert_int_equal(nl_route_add(nl[0], &r6), 0);
	r = roll_call(nl[0], nl[1]);
	assert_non_null(r);
	assert_true(roll_addr(r, nl[0], &a4));
	assert_true(roll_addr(r, nl[0], &a6));
	assert_true(roll_route(r, nl[0], &r4));
	assert_true(roll_route(r, nl[0], &r6));
	assert_false(roll_addr(r, nl[1], &a4));
	assert_false(roll_route(r, nl[1], &r4));
	assert_false(roll_addr(NULL, nl[0], &a4));
	assert_false(roll_route(NULL, nl[0], &r4));
	for (unsigned int i = 0; i < 4; i++) {
		other = i % 2 ? a6 : a4;
		other.ifindex += i == 0;
		other.prefix_len -= i == 1;
		other.peer.s6_addr[15] += i == 2;
		other.local.s6_addr[15] += i == 3;
		assert_false(roll_addr(r, nl[0], &other));
	}
	for (unsigned int i = 0; i < 5; i++) {
		way = i % 2 ? r6 : r4;
		way.oif += i == 0;
		way.metric += i == 1;
		way.type = i == 2 ? NL_RT_UNREACHABLE : way.type;
		way.mtu = i == 3 ? 1300 : 0;
		way.dst.len -= i == 4;
		assert_false(roll_route(r, nl[0], &way));
	}
	roll_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_addresses_and_routes),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
