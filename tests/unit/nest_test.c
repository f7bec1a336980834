/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nest: which ways go round, against a model that simply walks. The routing tables are an array here.
 * wraps: nl_open nl_close nl_route_oif
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include "conf.h"
#include "ipsec_shared.h"
#include "nest.h"
#include "nl.h"

enum { LINKS = 12, IFINDEX = 100, WIRE = 2 };

static int oif_of[LINKS][PATHS_MAX]; /* what the tables say for the envelopes of a link on a path; 0 = no route */
static unsigned int questions;

int __wrap_nl_open(struct nl **nlp, int netns_fd);
int __wrap_nl_open(struct nl **nlp, int netns_fd)
{
	*nlp = NULL;
	return 0;
}

void __wrap_nl_close(struct nl *nl);
void __wrap_nl_close(struct nl *nl)
{
}

int __wrap_nl_route_oif(struct nl *nl, const struct in6_addr *dst, const struct in6_addr *src, uint32_t fwmark, uint8_t ipproto,
			uint16_t dport, int *oif);
int __wrap_nl_route_oif(struct nl *nl, const struct in6_addr *dst, const struct in6_addr *src, uint32_t fwmark, uint8_t ipproto,
			uint16_t dport, int *oif)
{
	questions++;
	*oif = oif_of[dst->s6_addr[14]][dst->s6_addr[15]];
	return *oif ? 0 : -ENETUNREACH;
}

static struct nest *nest;
static bool used[LINKS][PATHS_MAX]; /* the path is in use */

static int begin(void **state)
{
	memset(oif_of, 0, sizeof oif_of);
	memset(used, 0, sizeof used);
	assert_int_equal(nest_open(&nest, -1, LINKS), 0);
	for (unsigned int i = 0; i < LINKS; i++)
		nest_place(nest, (uint16_t)i, IFINDEX + (int)i);
	return 0;
}

static int end(void **state)
{
	nest_close(nest);
	return 0;
}

/* The envelopes of link i on path k leave by a device: a link's, or the wire. */
static void lead(unsigned int i, unsigned int k, int oif)
{
	struct nest_way w[PATHS_MAX] = {0};

	oif_of[i][k] = oif;
	used[i][k] = oif != 0;
	for (unsigned int j = 0; j < PATHS_MAX; j++) {
		w[j].in_use = used[i][j];
		w[j].remote.s6_addr[0] = 0x20;
		w[j].remote.s6_addr[14] = (uint8_t)i;
		w[j].remote.s6_addr[15] = (uint8_t)j;
	}
	nest_ways(nest, (uint16_t)i, w, PATHS_MAX);
}

static void test_circles(void **state)
{
	for (unsigned int n = 1; n <= NEST_MAX; n++) {
		for (unsigned int i = 0; i < n; i++)
			lead(i, 0, IFINDEX + (int)((i + 1) % n));
		for (unsigned int i = 0; i < n; i++)
			assert_true(nest_returns(nest, (uint16_t)i, 0));
		lead(n - 1, 0, WIRE); /* one in the other is none */
		for (unsigned int i = 0; i < n; i++)
			assert_int_equal(nest_returns(nest, (uint16_t)i, 0), false);
		lead(n - 1, 0, 0); /* nor is no route */
		assert_false(nest_returns(nest, 0, 0));
	}
}

/* Into a circle that it is no part of: its envelopes would be there for ever. */
static void test_leads_into_a_circle(void **state)
{
	lead(0, 0, IFINDEX + 1);
	lead(1, 0, IFINDEX + 2);
	lead(2, 0, IFINDEX + 1);
	assert_true(nest_returns(nest, 0, 0));
}

static void test_too_deep(void **state)
{
	for (unsigned int i = 0; i + 1 < LINKS; i++)
		lead(i, 0, IFINDEX + (int)i + 1);
	lead(LINKS - 1, 0, WIRE);
	assert_true(nest_returns(nest, 0, 0));
	assert_false(nest_returns(nest, LINKS - NEST_MAX, 0));
}

/* Only the path at hand counts, and behind it those in use. */
static void test_paths(void **state)
{
	lead(0, 0, WIRE);
	lead(0, 1, IFINDEX + 1);
	lead(1, 0, WIRE);
	lead(1, 1, IFINDEX);
	assert_false(nest_returns(nest, 0, 0));
	assert_true(nest_returns(nest, 0, 1));
	used[1][1] = false;
	lead(1, 0, WIRE);
	assert_false(nest_returns(nest, 0, 1));
	assert_false(nest_returns(nest, 0, PATHS_MAX)); /* no such path */
}

/* A device that is gone, or lies elsewhere, ends the way. */
static void test_places(void **state)
{
	lead(0, 0, IFINDEX + 1);
	lead(1, 0, IFINDEX);
	nest_place(nest, 1, 0);
	assert_false(nest_returns(nest, 0, 0));
	nest_place(nest, 1, IFINDEX + 1);
	assert_true(nest_returns(nest, 0, 0));
	assert_false(nest_returns(NULL, 0, 0));
}

static bool walk(unsigned int from, unsigned int at, unsigned int path, unsigned int seen)
{
	unsigned int next = (unsigned int)(oif_of[at][path] - IFINDEX);

	if (oif_of[at][path] < IFINDEX)
		return false;
	if (seen & 1u << next)
		return true;
	for (unsigned int k = 0; k < PATHS_MAX; k++)
		if (used[next][k] && walk(from, next, k, seen | 1u << next))
			return true;
	return false;
}

/* Six links, so that no way is too deep, and up to three paths each; every link is asked once. */
static void test_against_a_walk(void **state)
{
	unsigned int round = 0;

	srand(4303);
	for (unsigned int n = 0; n < 20000; n++) {
		lead((unsigned int)rand() % 6, (unsigned int)rand() % 3, rand() % 4 ? WIRE : IFINDEX + rand() % 6);
		for (unsigned int i = 0; i < 6; i++) {
			bool model = walk(i, i, 0, 1u << i);

			questions = 0;
			assert_int_equal(nest_returns(nest, (uint16_t)i, 0), model);
			assert_true(questions <= 1 + 5 * 3);
			round += model;
		}
	}
	assert_true(round > 1000 && round < 100000);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest tests[] = {
		CASE(test_circles),	   CASE(test_leads_into_a_circle), CASE(test_too_deep), CASE(test_paths),
		CASE(test_places),	   CASE(test_against_a_walk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
