/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "pkt.h"
#include "spread.h"
#include "worker_priv.h"

_Static_assert((int)CARRY_REACH_MIN > (int)OUT_PKTS, "or carry_pace() waits for ever");

enum { WAIT_MS = 2 /* whatever becomes of a wake-up */, TURN_JOBS = 64 /* of one giver, then the next */ };

/* ---- waking ---- */

/* What was published before, or the state that was set before, is seen by the other side: one of both looks again. */
static void fence(void)
{
	atomic_thread_fence(memory_order_seq_cst);
}

static enum carry_state state_of(const struct worker *w)
{
	return atomic_load_explicit(&w->carry.state, memory_order_relaxed);
}

static void set_state(struct worker *w, enum carry_state s)
{
	atomic_store_explicit(&w->carry.state, s, memory_order_relaxed);
}

static bool has_work(const struct worker *w)
{
	for (unsigned int i = 0; i < w->carry.n; i++)
		if (handoff_next(w->carry.from[w->carry.others[i]], 0))
			return true;
	return false;
}

static bool has_results(const struct worker *w)
{
	for (unsigned int i = 0; i < w->carry.n; i++)
		if (handoff_result(w->carry.to[w->carry.others[i]]))
			return true;
	return false;
}

bool carry_rest(struct worker *w)
{
	set_state(w, CARRY_ASLEEP);
	fence();
	return !has_work(w);
}

void carry_wake(struct worker *w)
{
	set_state(w, CARRY_AWAKE);
}

void carry_kick(struct worker *w)
{
	struct carry *c = &w->carry;

	if (!c->n)
		return;
	fence();
	for (unsigned int i = 0; i < c->n; i++) {
		unsigned int k = c->others[i];

		if (state_of(c->other[k]) != CARRY_AWAKE && handoff_oldest(c->to[k])) {
			eventfd_write(c->other[k]->carry.evfd, 1);
			bump(&w->stats.kicks, 1);
		}
	}
}

/* Somebody must do something first. Meanwhile we do what others want of us: they may be waiting, too. */
static void wait(struct worker *w)
{
	struct pollfd p = {.fd = w->carry.evfd, .events = POLLIN};
	eventfd_t v;

	carry_kick(w);
	set_state(w, CARRY_WAITS);
	fence();
	if (!has_results(w) && !has_work(w) && poll(&p, 1, WAIT_MS) > 0)
		eventfd_read(w->carry.evfd, &v);
	set_state(w, CARRY_AWAKE);
	bump(&w->stats.waits, 1);
	carry_book(w);
	carry_serve(w);
}

/* ---- giving ---- */

/* I2: at most a quarter of it; the rest forgives what the network does. */
uint32_t carry_reach(uint32_t window)
{
	return window / 4 < CARRY_REACH_MIN ? 0 : window / 4;
}

unsigned int carry_who(const struct worker *w, const struct wlink *l, const uint8_t *ip, uint32_t len)
{
	if (!l->n_carriers || w->carry.alone)
		return CARRY_SELF;
	return l->carriers[l->n_carriers > 1 ? (spread_hash(ip, len) >> 8) % l->n_carriers : 0];
}

/* The ring to who, if it is for this round; NULL = go directly, which is in order as long as the ring is empty. */
static struct handoff *ring_to(struct worker *w, unsigned int who, bool burst)
{
	struct handoff *h = who == CARRY_SELF ? NULL : w->carry.to[who];

	return h && (burst || handoff_oldest(h)) ? h : NULL;
}

static struct job *room(struct worker *w, struct handoff *h, uint32_t len)
{
	struct job *j;

	while (!(j = handoff_room(h, len)))
		wait(w);
	return j;
}

bool carry_send(struct worker *w, const struct run *r, unsigned int who)
{
	struct handoff *h = ring_to(w, who, w->carry.burst_out);
	struct emit_msg m;
	struct job *j;

	if (!h || emit_address(&m, r, (uint16_t)w->conf.index)) /* refused where all are refused */
		return false;
	j = room(w, h, r->len);
	j->kind = JOB_SEND;
	j->path = r->path;
	j->link = r->link->id;
	j->gen = r->link->gen;
	j->n = r->n;
	j->sealed = w->carry.sealed;
	j->msg = m;
	j->msg.data = j->data;
	memcpy(j->data, r->data, r->len);
	handoff_give(h);
	bump(&w->stats.given, r->n);
	return true;
}

bool carry_deliver(struct worker *w, const struct wlink *l, unsigned int who, const struct iovec *iov, int n_iov, uint32_t n)
{
	struct handoff *h = ring_to(w, who, w->carry.burst_in);
	uint32_t len = 0;
	struct job *j;

	if (!h)
		return false;
	for (int i = 0; i < n_iov; i++)
		len += iov[i].iov_len;
	j = room(w, h, len);
	j->kind = JOB_DELIVER;
	j->link = l->id;
	j->gen = l->gen;
	j->n = (uint16_t)n;
	j->sealed = w->carry.sealed;
	for (int i = 0, at = 0; i < n_iov; at += (int)iov[i].iov_len, i++)
		memcpy(j->data + at, iov[i].iov_base, iov[i].iov_len);
	handoff_give(h);
	bump(&w->stats.given, n);
	return true;
}

static uint64_t oldest_out(const struct worker *w)
{
	const struct carry *c = &w->carry;
	uint64_t least = c->sealed;
	const struct job *j;

	for (unsigned int i = 0; i < c->n; i++)
		if ((j = handoff_oldest(c->to[c->others[i]])))
			least = MIN(least, j->sealed);
	return least;
}

void carry_pace(struct worker *w, unsigned int n, uint32_t reach)
{
	while (w->carry.sealed + n - oldest_out(w) > reach)
		wait(w);
}

/* ---- results ---- */

static void book(struct worker *w, const struct job *j)
{
	struct wlink *l = worker_link(w, j->link);

	if (!l || l->gen != j->gen)
		return;
	if (j->kind == JOB_SEND)
		emit_book(l, j->path, &j->msg);
	else if (j->kind == JOB_DELIVER && j->msg.err)
		l->ctr->drops_in[DROP_QUEUE_FULL] += j->n;
	else if (j->kind == JOB_DELIVER)
		l->ctr->in_pkts += j->n;
}

void carry_book(struct worker *w)
{
	const struct job *j;

	for (unsigned int i = 0; i < w->carry.n; i++) {
		struct handoff *h = w->carry.to[w->carry.others[i]];

		for (; (j = handoff_result(h)); handoff_taken(h))
			book(w, j);
	}
}

static bool is_out(const struct worker *w)
{
	for (unsigned int i = 0; i < w->carry.n; i++)
		if (handoff_oldest(w->carry.to[w->carry.others[i]]))
			return true;
	return false;
}

void carry_settle(struct worker *w)
{
	while (is_out(w))
		wait(w);
}

/* ---- taking ---- */

static void one_of(struct worker *w, struct job *j)
{
	struct iovec v = {j->data, j->len};

	if (j->kind == JOB_DELIVER) {
		j->msg.err = -tap_writev(&w->tap, &v, 1);
		bump(&w->stats.tap_writes, 1);
	} else if (j->kind == JOB_LOST) {
		worker_lost(w, &(struct sent){.link = j->msg.link, .gen = j->msg.gen, .n = j->msg.n, .probe = j->msg.probe,
					      .inner_bytes = j->msg.inner_bytes, .giver = j->msg.giver}, j->n);
	} else {
		pmtu_told(w, &j->msg.dst, j->data, j->msg.len);
	}
}

/* Envelopes that follow each other go together, as they would at home. */
static unsigned int some_of(struct worker *w, struct handoff *h)
{
	struct emit_msg *msgs[TURN_JOBS];
	unsigned int jobs = 0, run, packets = 0;
	struct job *j;

	while (jobs < TURN_JOBS) {
		for (run = 0; jobs + run < TURN_JOBS && (j = handoff_next(h, run)) && j->kind == JOB_SEND; run++) {
			msgs[run] = &j->msg;
			packets += j->n;
		}
		emit_send(&w->emit, msgs, run);
		handoff_done(h, run);
		jobs += run;
		j = jobs < TURN_JOBS ? handoff_next(h, 0) : NULL;
		if (!j)
			break;
		if (j->kind == JOB_SEND) /* that came meanwhile */
			continue;
		one_of(w, j);
		packets += j->n;
		handoff_done(h, 1);
		jobs++;
	}
	return packets;
}

unsigned int carry_serve(struct worker *w)
{
	struct carry *c = &w->carry;
	unsigned int total = 0, n;

	for (unsigned int i = 0; i < c->n; i++) {
		unsigned int k = c->others[i];

		n = some_of(w, c->from[k]);
		if (!n)
			continue;
		total += n;
		fence();
		if (state_of(c->other[k]) == CARRY_WAITS)
			eventfd_write(c->other[k]->carry.evfd, 1);
	}
	if (total) {
		stage_end(w, STAGE_CARRY, total);
		bump(&w->stats.carried, total);
	}
	return total;
}

/* ---- what comes back later ---- */

void carry_lost(struct worker *w, const struct sent *s, unsigned int n)
{
	struct handoff *h = s->giver < WORKER_MAX ? w->carry.to[s->giver] : NULL;
	struct job *j = h && !w->carry.alone ? handoff_room(h, 0) : NULL;

	if (!j)
		return;
	j->kind = JOB_LOST;
	j->n = (uint16_t)n;
	j->sealed = w->carry.sealed;
	j->msg = (struct emit_msg){.link = s->link, .gen = s->gen, .n = s->n, .probe = s->probe, .giver = s->giver,
				   .inner_bytes = s->inner_bytes};
	handoff_give(h);
}

void carry_too_big(struct worker *w, const struct in6_addr *dst, const uint8_t *esp, uint32_t mtu)
{
	for (unsigned int i = 0; i < w->carry.n; i++) {
		struct handoff *h = w->carry.to[w->carry.others[i]];
		struct job *j = w->carry.alone ? NULL : handoff_room(h, ESP_HDR_LEN);

		if (!j)
			continue;
		j->kind = JOB_TOO_BIG;
		j->n = 1;
		j->sealed = w->carry.sealed;
		j->msg = (struct emit_msg){.dst = *dst, .len = mtu};
		memcpy(j->data, esp, ESP_HDR_LEN);
		handoff_give(h);
	}
}

/* ---- who knows whom; control thread ---- */

struct introduction {
	struct worker *other;
	struct handoff *to, *from;
};

static int meet(struct worker *w, void *arg)
{
	const struct introduction *in = arg;
	struct carry *c = &w->carry;
	unsigned int k = in->other->conf.index;

	c->to[k] = in->to;
	c->from[k] = in->from;
	c->other[k] = in->other;
	c->others[c->n++] = (uint8_t)k;
	return 0;
}

int carry_connect(struct worker *a, struct worker *b)
{
	struct introduction to_a = {.other = b}, to_b = {.other = a};

	if (a == b || a->carry.other[b->conf.index])
		return 0;
	to_a.to = to_b.from = handoff_new();
	to_a.from = to_b.to = handoff_new();
	if (!to_a.to || !to_a.from) {
		handoff_free(to_a.to);
		handoff_free(to_a.from);
		return -ENOMEM;
	}
	worker_call(b, meet, &to_b); /* the first to give must find the other one knowing it */
	worker_call(a, meet, &to_a);
	return 0;
}

static int be_alone(struct worker *w, void *arg)
{
	(void)arg;
	w->carry.alone = true;
	carry_settle(w);
	return 0;
}

void carry_alone(struct worker *w)
{
	worker_call(w, be_alone, NULL);
}

void carry_free(struct worker *w)
{
	for (unsigned int i = 0; i < w->carry.n; i++) /* the other frees the other way's */
		handoff_free(w->carry.to[w->carry.others[i]]);
	if (w->carry.evfd >= 0)
		close(w->carry.evfd);
}
