/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * replay_model - the anti-replay window as RFC 4303 3.4.3 words it, slow and obvious: the set of
 * all numbers ever taken, and the highest of them. Header-only; shares no code with user/replay.c.
 */
#ifndef REPLAY_MODEL_H
#define REPLAY_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include "ipsec_drops.h"

struct model {
	uint64_t top, window;
	bool esn;
	uint64_t forgiven; /* numbers <= this were raised over, or their loss is already told */
	uint64_t *slot;    /* open hash set of numbers taken; 0 = empty */
	uint64_t n_slots, n_taken;
};

static void model_init(struct model *m, uint64_t window, bool esn, uint64_t room)
{
	*m = (struct model){.window = window, .esn = esn, .n_slots = 1};
	while (m->n_slots < room * 2)
		m->n_slots *= 2;
	m->slot = calloc(m->n_slots, sizeof *m->slot);
	if (!m->slot)
		abort();
}

static void model_free(struct model *m)
{
	free(m->slot);
}

static uint64_t *model_find(const struct model *m, uint64_t seq)
{
	uint64_t i = (seq * 0x9e3779b97f4a7c15u) >> 20;

	for (;; i++)
		if (!m->slot[i & (m->n_slots - 1)] || m->slot[i & (m->n_slots - 1)] == seq)
			return &m->slot[i & (m->n_slots - 1)];
}

static bool model_has(const struct model *m, uint64_t seq)
{
	return *model_find(m, seq) == seq;
}

static void model_add(struct model *m, uint64_t seq)
{
	uint64_t *s = model_find(m, seq);

	m->n_taken += !*s;
	*s = seq;
	if (seq > m->top)
		m->top = seq;
}

/* First number of the window; as a signed 128-bit value, so that nothing wraps. */
static __int128 model_bottom(const struct model *m)
{
	return (__int128)m->top - m->window + 1;
}

/* The one number with these low bits within 2^32 from the window's left edge on; never below 0. */
static uint64_t model_seq(const struct model *m, uint32_t lo)
{
	__int128 n = lo, sub = (__int128)1 << 32;

	if (!m->esn)
		return lo;
	while (n < model_bottom(m))
		n += sub * ((model_bottom(m) - n + sub - 1) / sub);
	return (uint64_t)n;
}

static enum drop model_check(const struct model *m, uint64_t seq)
{
	if (!seq || (__int128)seq < model_bottom(m))
		return DROP_REPLAY_OLD;
	if (seq <= m->forgiven || model_has(m, seq))
		return DROP_REPLAY_DUP;
	return DROP_NONE;
}

static enum drop model_accept(struct model *m, uint64_t seq)
{
	enum drop drop = model_check(m, seq);

	if (!drop)
		model_add(m, seq);
	return drop;
}

/* Numbers above forgiven and left of the window that were never taken. */
static uint64_t model_lost(const struct model *m)
{
	__int128 left = model_bottom(m) - 1; /* last number left of the window */
	uint64_t taken = 0;

	if (left <= (__int128)m->forgiven)
		return 0;
	for (uint64_t i = 0; i < m->n_slots; i++)
		taken += m->slot[i] > m->forgiven && (__int128)m->slot[i] <= left;
	return (uint64_t)(left - m->forgiven) - taken;
}

/* Return: what was lost up to now; from here on model_lost() counts anew. */
static uint64_t model_raise(struct model *m, uint64_t seq)
{
	uint64_t lost = model_lost(m);
	__int128 left = model_bottom(m) - 1;

	/* numbers already left of the window are accounted for */
	if (left > (__int128)m->forgiven)
		m->forgiven = (uint64_t)left;
	if (seq > m->forgiven)
		m->forgiven = seq;
	if (seq > m->top)
		m->top = seq;
	return lost;
}

#endif
