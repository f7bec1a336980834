/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include "log.h"
#include "muster.h"

enum { PATIENCE_S = 60, NAMES = 5 };

static bool takes_part(const struct link *l)
{
	return l->out && l->n_paths && l->admin_up && l->conf.liveness != LIVE_OFF &&
	       !IN6_IS_ADDR_UNSPECIFIED(&l->paths[l->cur_path].remote);
}

void muster_begin(struct daemon *d)
{
	struct muster *m = calloc(1, sizeof *m);

	if (m)
		m->done = calloc(d->max_links, sizeof *m->done);
	if (!m || !m->done) {
		free(m);
		return;
	}
	for (unsigned int i = 0; i < d->max_links; i++) {
		m->done[i] = !d->links[i] || !takes_part(d->links[i]);
		m->known += !m->done[i];
	}
	d->muster = m;
}

static bool was_asked(const struct link *l)
{
	for (unsigned int i = 0; i < l->n_paths; i++)
		if (atomic_load_explicit(&l->w->paths[i].live.asked_ns, memory_order_relaxed))
			return true;
	return false;
}

static double since(const struct daemon *d, uint64_t ns)
{
	return (ns - d->start_ns) / 1e9;
}

static void tell_missing(const struct daemon *d, struct muster *m)
{
	char names[NAMES * (PEER_NAME_MAX + 2) + 8] = "";
	unsigned int n = 0, len = 0;

	for (unsigned int i = 0; i < d->max_links && n <= NAMES; i++) {
		if (m->done[i] || !d->links[i])
			continue;
		len += snprintf(names + len, sizeof names - len, "%s%s", n ? ", " : "", n == NAMES ? "..." : d->links[i]->conf.peer);
		n++;
	}
	log_info("%u of %u known peers heard %d s after the start; not yet: %s", m->heard, m->known, PATIENCE_S, names);
	m->told = true;
}

void muster_tick(struct daemon *d, uint64_t now)
{
	struct muster *m = d->muster;
	unsigned int asked = 0;

	if (!m || m->heard_ns || !m->known)
		return;
	for (unsigned int i = 0; i < d->max_links; i++) {
		struct link *l = d->links[i];

		if (m->done[i])
			continue;
		asked += !l || was_asked(l);
		if (l && !atomic_load_explicit(&l->w->live.heard_ns, memory_order_relaxed))
			continue;
		m->done[i] = true; /* or taken away meanwhile */
		m->heard++;
		snprintf(m->last, sizeof m->last, "%s", l ? l->conf.peer : "");
		asked -= !l || was_asked(l);
	}
	m->asked = MAX(m->asked, m->heard + asked);
	if (m->asked == m->known && !m->asked_ns)
		m->asked_ns = now;
	if (m->heard == m->known) {
		m->heard_ns = now;
		log_info("all %u known peers asked %.1f s and heard %.1f s after the start, %s last", m->known, since(d, m->asked_ns),
			 since(d, now), m->last);
	} else if (!m->told && now > d->start_ns + PATIENCE_S * 1000000000ull) {
		tell_missing(d, m);
	}
}

void muster_free(struct daemon *d)
{
	if (d->muster)
		free(d->muster->done);
	free(d->muster);
	d->muster = NULL;
}
