/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "turns.h"
#include "util.h"

static const uint64_t DWELL_MAX_NS = 60000000000u, HOLD_NS = 10000000000u;

enum { HOLD_DOUBLES = 8 /* 43 min */, VAIN_DOUBLES = 16, NONE = TURNS_MAX };

void turns_begin(struct turns *t, unsigned int cur, uint64_t now)
{
	*t = (struct turns){.cur = cur, .since_ns = now};
}

void turns_usable(struct turns *t, unsigned int i, bool usable)
{
	struct turn *p = &t->turn[i];

	if (usable && !p->usable)
		p->fails = p->hold_ns = 0;
	p->usable = usable;
}

static bool better(const struct turns *t, unsigned int a, unsigned int b)
{
	uint32_t wa = t->turn[a].weight, wb = t->turn[b].weight;

	return wa > wb || (wa == wb && a < b);
}

/* The best one that can be used, but for this one; or of those only which are not held. Return: NONE = there is none */
static unsigned int best(const struct turns *t, unsigned int n, unsigned int but, uint64_t now)
{
	unsigned int found = NONE;

	for (unsigned int i = 0; i < n; i++)
		if (i != but && t->turn[i].usable && t->turn[i].hold_ns <= now && (found == NONE || better(t, i, found)))
			found = i;
	return found;
}

/* All have failed lately: that of which it is the longest ago. */
static unsigned int oldest(const struct turns *t, unsigned int n, unsigned int but)
{
	unsigned int found = NONE;

	for (unsigned int i = 0; i < n; i++)
		if (i != but && t->turn[i].usable && (found == NONE || t->turn[i].hold_ns < t->turn[found].hold_ns))
			found = i;
	return found;
}

static uint64_t hold(unsigned int fails)
{
	return HOLD_NS << MIN(fails - 1, (unsigned int)HOLD_DOUBLES);
}

static void fail(struct turn *p, uint64_t now)
{
	p->fails++;
	p->hold_ns = now + hold(p->fails);
}

static bool go(struct turns *t, unsigned int to, uint64_t now)
{
	if (to == NONE)
		return false;
	t->cur = to;
	t->since_ns = now;
	t->trial_ns = 0;
	return true;
}

static bool leave(struct turns *t, unsigned int n, uint64_t now)
{
	unsigned int to = best(t, n, t->cur, now);

	return go(t, to == NONE ? oldest(t, n, t->cur) : to, now);
}

static bool try_better(struct turns *t, unsigned int n, uint64_t trial, uint64_t now)
{
	unsigned int from = t->cur, to = best(t, n, from, now);

	if (to == NONE || !better(t, to, from))
		return false;
	go(t, to, now);
	t->back = from;
	t->trial_ns = now + trial;
	return true;
}

static bool end_trial(struct turns *t, unsigned int n, uint64_t now)
{
	fail(&t->turn[t->cur], now);
	return t->turn[t->back].usable ? go(t, t->back, now) : leave(t, n, now);
}

/* Nobody answers: each gets twice the time of the one before it, but not for ever. */
static uint64_t dwell(const struct turns *t, uint64_t window)
{
	return MIN(window << MIN(t->vain, (unsigned int)VAIN_DOUBLES), MAX(window, DWELL_MAX_NS));
}

bool turns_next(struct turns *t, unsigned int n, uint64_t window, uint64_t trial, uint64_t now)
{
	struct turn *p = &t->turn[t->cur];
	bool answers = p->answered_ns > t->since_ns;
	unsigned int first;

	if (!window) {
		first = best(t, n, NONE, now);
		return first != t->cur && go(t, first, now);
	}
	if (t->trial_ns && !answers)
		return (now >= t->trial_ns || !p->usable) && end_trial(t, n, now);
	if (!p->usable)
		return leave(t, n, now);
	if (answers) {
		t->trial_ns = 0;
		t->vain = 0;
		if (p->fails && now > t->since_ns + hold(p->fails))
			p->fails = 0;
	}
	if (now < MAX(p->answered_ns, t->since_ns) + (answers ? window : dwell(t, window)))
		return answers && try_better(t, n, trial, now);
	if (!leave(t, n, now))
		return false;
	fail(p, now);
	t->vain += !answers;
	return true;
}
