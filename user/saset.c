/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include "carry.h"
#include "saset.h"

struct sa_set *saset_find(const struct link *l, const struct sels *out)
{
	struct sels tidy = *out;

	sels_tidy(&tidy);
	for (struct sa_set *s = l->sets; s; s = s->next)
		if (sels_equal(&tidy, s->out_sel, s->n_sel))
			return s;
	return NULL;
}

bool saset_covered(const struct sa *sa)
{
	for (const struct sa_set *s = sa->set->next; s; s = s->next)
		if (s->out && s->out->live && sels_cover(s->out_sel, s->n_sel, sa->set->out_sel, sa->set->n_sel))
			return true;
	return false;
}

static void put(struct link *l, struct sa_set *s)
{
	unsigned int width = sels_width(s->out_sel, s->n_sel);
	struct sa_set **at = &l->sets;

	while (*at && sels_width((*at)->out_sel, (*at)->n_sel) <= width)
		at = &(*at)->next;
	s->next = *at;
	*at = s;
}

static struct sa_set *make(struct link *l, const struct sels *out, const struct sels *in)
{
	struct sa_set *s = calloc(1, sizeof *s);
	struct sel *sel = s ? calloc(2 * out->n + 1, sizeof *sel) : NULL;

	if (!sel) {
		free(s);
		return NULL;
	}
	s->n_sel = out->n;
	s->out_sel = sel;
	s->in_sel = sel + out->n;
	memcpy(s->out_sel, out->sel, out->n * sizeof *sel);
	memcpy(s->in_sel, in->sel, in->n * sizeof *sel);
	s->w.out_sel = s->out_sel;
	s->w.in_sel = s->in_sel;
	s->w.n_sel = s->n_sel;
	put(l, s);
	return s;
}

int saset_join(struct sa *sa, const struct sels *sels)
{
	struct sels own = *sels, mirror;
	const struct sels *out = sa->dir == SA_OUT ? &own : &mirror, *in = sa->dir == SA_OUT ? &mirror : &own;

	sels_tidy(&own);
	sels_mirror(&mirror, &own);
	sa->set = saset_find(sa->link, out);
	if (!sa->set)
		sa->set = make(sa->link, out, in);
	if (!sa->set)
		return -ENOMEM;
	sa->set->n_sas++;
	return 0;
}

void saset_retire(struct daemon *d, struct sa *sa)
{
	struct sa_set *s = sa->set;

	if (s->out != sa && s->asked != sa)
		return;
	s->out = s->out == sa ? NULL : s->out;
	s->asked = s->asked == sa ? NULL : s->asked;
	saset_choose(sa->link);
	saset_push(d, sa->link);
}

void saset_leave(struct sa *sa)
{
	struct sa_set **at = &sa->link->sets, *s = sa->set;

	sa->set = NULL;
	if (--s->n_sas)
		return;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	free(s->out_sel);
	free(s);
}

const struct sel *saset_sels(const struct sa *sa, unsigned int *n)
{
	*n = sa->set->n_sel;
	return sa->dir == SA_OUT ? sa->set->out_sel : sa->set->in_sel;
}

static int to_worker(struct worker *w, void *arg)
{
	struct link *l = arg;
	struct wset **at = &l->w->sets;
	uint32_t window = UINT32_MAX;

	for (struct sa_set *s = l->sets; s; s = s->next) {
		s->w.out = s->out ? s->out->wout : NULL;
		s->w.next = s->asked ? s->asked->wout : NULL;
		if (!s->out && !s->asked)
			continue;
		if (s->w.next)
			l->w->next_probe_ns = 0;
		if (s->out)
			window = MIN(window, s->out->window);
		*at = &s->w;
		at = &s->w.after;
	}
	*at = NULL;
	if (window < WINDOW_NARROW)
		worker_stay(w);
	if (l->w->reach != carry_reach(window)) { /* who sends may change: what is out goes first */
		carry_settle(w);
		l->w->reach = carry_reach(window);
	}
	l->w->out = l->out ? l->out->wout : NULL;
	return 0;
}

void saset_choose(struct link *l)
{
	l->out = NULL; /* the last one that lives; if none does, the last */
	for (const struct sa_set *s = l->sets; s; s = s->next)
		if (s->out && (s->out->live || !l->out || !l->out->live))
			l->out = s->out;
}

void saset_push(struct daemon *d, struct link *l)
{
	worker_call(d->workers[l->worker], to_worker, l);
}

struct sa *saset_out(const struct link *l, const struct sel_flow *f)
{
	for (const struct sa_set *s = l->sets; s; s = s->next)
		if (s->out && (!s->n_sel || sels_match(s->out_sel, s->n_sel, f)))
			return s->out;
	return NULL;
}
