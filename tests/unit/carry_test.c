/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * carry: one link on several workers, without a kernel: what is given, in which order, how far ahead, and whose books say so.
 * Two or three workers; only the one that waits for another has a thread beside it.
 * wraps: emit_send tap_writev
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "pkt.h"
#include "worker_priv.h"

enum { LINK = 3, GEN = 9, LINKS = 8, WINDOW = 4096, SEG = 100 };

static struct worker *w[3];
static struct wlink l, *links[LINKS];
static struct wlink_ctr ctr;
static struct sa_ctr sctr;
static struct wsa_out sa;
static uint8_t data[64 * SEG];
static unsigned int refuse; /* of the envelopes to come: how many the stack does not take */
static int tap_err;
static struct emit_msg seen[64];
static unsigned int n_seen, n_tap;
static uint8_t tap_bytes[256];

void __wrap_emit_send(struct emit *e, struct emit_msg *const *m, unsigned int n);
void __wrap_emit_send(struct emit *e, struct emit_msg *const *m, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		m[i]->sent = (uint16_t)(m[i]->n - MIN(refuse, (unsigned int)m[i]->n));
		m[i]->err = m[i]->sent == m[i]->n ? 0 : ENOBUFS;
		seen[n_seen++ % 64] = *m[i];
	}
}

int __wrap_tap_writev(struct tap *t, const struct iovec *iov, int n);
int __wrap_tap_writev(struct tap *t, const struct iovec *iov, int n)
{
	n_tap++;
	memcpy(tap_bytes, iov->iov_base, MIN(iov->iov_len, sizeof tap_bytes));
	return tap_err;
}

static int begin(void **state)
{
	memset(&ctr, 0, sizeof ctr);
	memset(&l, 0, sizeof l);
	refuse = n_seen = n_tap = 0;
	tap_err = 0;
	for (unsigned int i = 0; i < 3; i++) {
		w[i] = calloc(1, sizeof *w[i]);
		w[i]->conf.index = i;
		w[i]->emit.worker = (uint16_t)i;
		w[i]->carry.evfd = eventfd(0, EFD_NONBLOCK);
		w[i]->max_links = LINKS;
		w[i]->links = links;
	}
	/* only the first knows the link */
	links[LINK] = &l;
	w[1]->links = w[2]->links = calloc(LINKS, sizeof(struct wlink *));
	l.id = LINK;
	l.gen = GEN;
	l.ctr = &ctr;
	l.n_paths = 1;
	l.paths[0].remote = addr_from4((struct in_addr){htonl(0xc6336402)});
	l.paths[0].encap = ENCAP_UDP;
	l.paths[0].port = 4500;
	l.paths[0].fwmark = 7;
	l.carriers[0] = 1;
	l.carriers[1] = 2;
	l.n_carriers = 2;
	l.reach = carry_reach(WINDOW);
	sa.ctr = &sctr;
	assert_int_equal(carry_connect(w[0], w[1]), 0);
	assert_int_equal(carry_connect(w[2], w[0]), 0);
	assert_int_equal(carry_connect(w[0], w[2]), 0); /* they know each other already */
	assert_int_equal(w[0]->carry.n, 2);
	assert_int_equal(w[2]->carry.n, 1);
	return 0;
}

static int end(void **state)
{
	free(w[1]->links);
	for (unsigned int i = 0; i < 3; i++) {
		carry_free(w[i]);
		free(w[i]);
	}
	return 0;
}

static struct run run_of(unsigned int n)
{
	memset(data, 0, sizeof data);
	return (struct run){.data = data, .len = n * SEG, .seg = SEG, .n = (uint16_t)n, .tos = 0xb8, .link = &l, .sa = &sa,
			    .inner_bytes = n * 60};
}

static bool give(unsigned int n, unsigned int who, bool burst)
{
	struct run r = run_of(n);
	bool given;

	w[0]->carry.burst_out = burst;
	given = carry_send(w[0], &r, who);
	w[0]->carry.sealed += n;
	return given;
}

static void test_envelopes(void **state)
{
	assert_true(give(40, 1, true));
	assert_int_equal(ctr.out_pkts, 0);
	assert_int_equal(carry_serve(w[1]), 40);
	assert_int_equal(n_seen, 1);
	assert_int_equal(seen[0].n, 40);
	assert_int_equal(seen[0].mark, 7);
	assert_int_equal(seen[0].port, 4500);
	assert_int_equal(seen[0].tos, 0xb8);
	assert_int_equal(seen[0].giver, 0);
	assert_true(seen[0].whole);
	assert_ptr_not_equal(seen[0].data, data); /* the giver's memory is free again */
	assert_int_equal(ctr.out_pkts, 0);          /* and the books are the giver's alone */
	carry_book(w[0]);
	assert_int_equal(ctr.out_pkts, 40);
	assert_int_equal(ctr.out_bytes, 40 * 60);
	assert_int_equal(atomic_load(&l.paths[0].live.envelopes), 40);
}

static void test_refused_ones_are_counted(void **state)
{
	refuse = 15;
	assert_true(give(40, 2, true));
	assert_int_equal(carry_serve(w[2]), 40);
	carry_book(w[0]);
	assert_int_equal(ctr.out_pkts, 25);
	assert_int_equal(ctr.drops_out[DROP_TX_REFUSED], 15);
	assert_int_equal(atomic_load(&l.live.tx_errno), ENOBUFS);
}

/* Directly only when that is in order, and worth it only in a burst. */
static void test_who_sends(void **state)
{
	assert_false(give(1, 1, false));
	assert_false(give(1, CARRY_SELF, true));
	assert_true(give(20, 1, true));
	assert_true(give(1, 1, false)); /* what is small follows what is not */
	assert_false(give(1, 2, false)); /* another flow, another worker: nothing of it is out */
	carry_serve(w[1]);
	assert_true(give(1, 1, false)); /* done, but who knows? */
	carry_serve(w[1]);
	carry_book(w[0]);
	assert_false(give(1, 1, false));
	l.paths[0].remote = in6addr_any;
	assert_false(give(20, 1, true)); /* nowhere to go: refused where all are */
}

static void test_a_flow_has_one_carrier(void **state)
{
	uint8_t ip[28] = {0x45, 0, 0, 28, [8] = 64, 17, [12] = 10, 1, 0, 2, 10, 2, 0, 2};
	unsigned int hits[3] = {0};

	for (unsigned int port = 0; port < 600; port++) {
		unsigned int who;

		ip[20] = (uint8_t)(port >> 8);
		ip[21] = (uint8_t)port;
		who = carry_who(w[0], &l, ip, sizeof ip);
		assert_true(who == 1 || who == 2);
		hits[who]++;
		assert_int_equal(carry_who(w[0], &l, ip, sizeof ip), who);
	}
	assert_in_range(hits[1], 200, 400);
	carry_alone(w[0]);
	assert_int_equal(carry_who(w[0], &l, ip, sizeof ip), CARRY_SELF);
	w[0]->carry.alone = false;
	l.n_carriers = 0;
	assert_int_equal(carry_who(w[0], &l, ip, sizeof ip), CARRY_SELF);
}

static void test_frames(void **state)
{
	uint8_t head[12] = {1}, body[30] = {2};
	const struct iovec v[] = {{head, sizeof head}, {body, sizeof body}};

	w[0]->carry.burst_in = true;
	assert_true(carry_deliver(w[0], &l, 1, v, 2, 5));
	memset(body, 9, sizeof body);
	assert_int_equal(carry_serve(w[1]), 5);
	assert_int_equal(n_tap, 1);
	assert_true(tap_bytes[0] == 1 && tap_bytes[12] == 2);
	carry_book(w[0]);
	assert_int_equal(ctr.in_pkts, 5);
	tap_err = -EAGAIN;
	assert_true(carry_deliver(w[0], &l, 1, v, 2, 3));
	carry_serve(w[1]);
	carry_book(w[0]);
	assert_int_equal(ctr.in_pkts, 5);
	assert_int_equal(ctr.drops_in[DROP_QUEUE_FULL], 3);
	w[0]->carry.burst_in = false;
	assert_false(carry_deliver(w[0], &l, 1, v, 2, 1));
	/* a link that is gone, or another by its number, has no books */
	w[0]->carry.burst_in = true;
	assert_true(carry_deliver(w[0], &l, 1, v, 2, 4));
	carry_serve(w[1]);
	l.gen++;
	carry_book(w[0]);
	assert_int_equal(ctr.drops_in[DROP_QUEUE_FULL], 3);
}

static _Atomic bool served;

static void *serve_late(void *arg)
{
	usleep(30000);
	atomic_store(&served, true);
	carry_serve(arg);
	return NULL;
}

static void late(pthread_t *t, struct worker *who)
{
	atomic_store(&served, false);
	assert_int_equal(pthread_create(t, NULL, serve_late, who), 0);
}

/* I2: no number more than a quarter of the peer's window ahead of the oldest that is on its way. */
static void test_distance(void **state)
{
	pthread_t t;

	assert_int_equal(carry_reach(WINDOW), 1024);
	assert_int_equal(carry_reach(WINDOW - 64), 0);
	assert_int_equal(carry_reach(32), 0);
	assert_true(give(40, 1, true));
	for (unsigned int i = 0; i < 20; i++) { /* others overtake it */
		assert_true(give(30, 2, true));
		carry_serve(w[2]);
	}
	assert_int_equal(w[0]->carry.sealed, 640);
	late(&t, w[1]);
	carry_pace(w[0], 1024 - 640, 1024);
	assert_false(atomic_load(&served)); /* that many may go */
	carry_pace(w[0], 1024 - 640 + 1, 1024);
	assert_true(atomic_load(&served));
	pthread_join(t, NULL);
	carry_settle(w[0]);
	assert_int_equal(ctr.out_pkts, 640);
}

static void test_full_ring_waits(void **state)
{
	unsigned int n = 0;
	pthread_t t;

	for (; n < HANDOFF_JOBS; n++)
		assert_true(give(1, 1, true));
	late(&t, w[1]);
	assert_true(give(1, 1, true));
	assert_true(atomic_load(&served));
	pthread_join(t, NULL);
	while (carry_serve(w[1]))
		;
	carry_settle(w[0]);
	assert_int_equal(ctr.out_pkts, n + 1);
}

/* Two that wait for each other do each other's work; one that is through goes on with its loop. */
static _Atomic bool over;

static void *settle(void *arg)
{
	carry_settle(arg);
	while (!atomic_load(&over))
		carry_serve(arg);
	return NULL;
}

static void test_waiting_for_each_other(void **state)
{
	const struct iovec v = {data, 64};
	pthread_t t;

	w[1]->carry.burst_in = true;
	for (unsigned int i = 0; i < 100; i++) {
		assert_true(give(20, 1, true));
		assert_true(carry_deliver(w[1], &l, 0, &v, 1, 1));
	}
	atomic_store(&over, false);
	assert_int_equal(pthread_create(&t, NULL, settle, w[1]), 0);
	carry_settle(w[0]);
	for (unsigned int i = 0; i < 1000 && n_tap < 100; i++) {
		carry_serve(w[0]);
		usleep(1000);
	}
	atomic_store(&over, true);
	pthread_join(t, NULL);
	assert_int_equal(ctr.out_pkts, 2000);
	assert_int_equal(n_tap, 100);
}

static void test_sleep_and_wake(void **state)
{
	eventfd_t v;

	assert_true(carry_rest(w[1]));
	assert_true(give(20, 1, true));
	carry_kick(w[0]);
	assert_int_equal(eventfd_read(w[1]->carry.evfd, &v), 0);
	assert_int_equal(eventfd_read(w[2]->carry.evfd, &v), -1);
	assert_false(carry_rest(w[1])); /* there is work: no sleep */
	carry_wake(w[1]);
	carry_kick(w[0]);
	assert_int_equal(eventfd_read(w[1]->carry.evfd, &v), -1);
}

static void test_what_comes_back_later(void **state)
{
	struct sent s = {.link = LINK, .gen = GEN, .n = 20, .inner_bytes = 20 * 60, .giver = 0};
	uint8_t esp[ESP_HDR_LEN] = {0x11, 0x22, 0x33, 0x44, 0, 0, 0, 90};
	struct wset set = {.out = &sa};

	assert_true(give(20, 1, true));
	carry_serve(w[1]);
	carry_book(w[0]);
	carry_lost(w[1], &s, 20);
	assert_int_equal(carry_serve(w[0]), 20);
	assert_int_equal(ctr.out_pkts, 0);
	assert_int_equal(ctr.out_bytes, 0);
	assert_int_equal(ctr.drops_out[DROP_NO_NEIGH], 20);

	sa.sa.spi_be = htonl(0x11223344);
	sa.sa.seq = 100;
	l.sets = &set;
	w[0]->active = (struct wlink *[]){&l};
	w[0]->n_active = 1;
	carry_too_big(w[1], &l.paths[0].remote, esp, 1300);
	carry_serve(w[0]);
	assert_int_equal(atomic_load(&l.paths[0].mtu), 1300);
	assert_int_equal(atomic_load(&l.live.told_mtu[0]), 1300);
	carry_book(w[1]); /* reports have no results that anybody wants */
	carry_settle(w[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
		T(test_envelopes),
		T(test_refused_ones_are_counted),
		T(test_who_sends),
		T(test_a_flow_has_one_carrier),
		T(test_frames),
		T(test_distance),
		T(test_full_ring_waits),
		T(test_waiting_for_each_other),
		T(test_sleep_and_wake),
		T(test_what_comes_back_later),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
