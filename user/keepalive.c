/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * keepalive - one byte on a UDP path that has been silent, so that a NAT on the way remembers us
 * (RFC 3948 2.3, 4). It says nothing about the peer, who ignores it; liveness is probe.c. Where that
 * asks more often, nothing is ever silent for so long. Worker thread only.
 *
 * Nobody tells us whether there is a NAT (static keys: no IKE that would find it), and the end that
 * is behind it cannot see it: so both ends send.
 */
#include "worker_priv.h"

static bool wanted(const struct wlink *l, const struct wpath *p)
{
	bool can = wlink_can_send(l) || (l->kernel && l->admin_up);

	return l->keepalive_ns && can && p->in_use && p->encap == ENCAP_UDP && !IN6_IS_ADDR_UNSPECIFIED(&p->remote);
}

static void tick(struct worker *w, struct wlink *l, unsigned int path)
{
	struct wpath *p = &l->paths[path];
	struct wpath_live *v = &p->live;
	uint64_t n = atomic_load_explicit(&v->envelopes, memory_order_relaxed) +
		     __atomic_load_n(&l->ctr->out_kernel_pkts, __ATOMIC_RELAXED);

	if (n != v->n_left || !v->left_ns) {
		v->n_left = n;
		v->left_ns = w->now;
	}
	if (w->now < v->left_ns + l->keepalive_ns || !wanted(l, p))
		return;
	v->left_ns = w->now;
	if (!emit_keepalive(&w->emit, l, path))
		bump(&l->live.keepalives, 1);
}

void keepalive_tick(struct worker *w, struct wlink *l)
{
	for (unsigned int i = 0; i < l->n_paths; i++)
		tick(w, l, i);
}
