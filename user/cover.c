/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cover - dummy packets at a steady rate (RFC 4303 2.6), so that an ear on the wire does not learn from an
 * envelope that there was something to send. Beside real traffic, never in place of it. Without `tfc` they
 * are as long as probes, with it as long as everything else. The peer counts them as dummies; they use up
 * lifetimes and sequence numbers like any envelope, and ask for no answer. Worker thread only.
 */
#include "worker_priv.h"

/* Behind by more than this the worker was busy or the link could not send: what was missed is not made up for. */
enum { LATE_MAX = 8 };

static uint64_t relaxed_covers(const struct wlink *l)
{
	return atomic_load_explicit(&l->live.covers, memory_order_relaxed);
}

/* On several paths in turn, as the flows. */
static void send_dummy(struct worker *w, struct wlink *l)
{
	static const uint8_t nothing[sizeof(struct probe)]; /* no PROBE_MAGIC: nobody takes it for a question */
	unsigned int path = l->shares ? l->slot[relaxed_covers(l) % SPREAD_SLOTS] : l->cur_path;

	memcpy(out_room(w, l, l->out, sizeof nothing), nothing, sizeof nothing);
	if (!out_push(w, l, l->out, path, sizeof nothing, NEXT_NONE))
		bump(&l->live.covers, 1);
}

static void cover_link(struct worker *w, struct wlink *l)
{
	if (!wlink_can_send(l))
		return;
	if (w->now > l->next_cover_ns + LATE_MAX * l->cover_ns)
		l->next_cover_ns = w->now;
	for (; w->now >= l->next_cover_ns; l->next_cover_ns += l->cover_ns)
		send_dummy(w, l);
	w->next_cover = w->next_cover ? MIN(w->next_cover, l->next_cover_ns) : l->next_cover_ns;
}

void cover_tick(struct worker *w)
{
	w->next_cover = 0;
	for (unsigned int i = 0; i < w->n_active; i++)
		if (w->active[i]->cover_ns)
			cover_link(w, w->active[i]);
}
