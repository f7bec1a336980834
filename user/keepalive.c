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

static bool wanted(const struct wlink *l)
{
	return l->keepalive_ns && wlink_can_send(l) && l->paths[l->cur_path].encap == ENCAP_UDP;
}

void keepalive_tick(struct worker *w, struct wlink *l)
{
	uint64_t n = l->ctr->out_pkts + l->ctr->out_probes;

	if (n != l->n_left || !l->left_ns) {
		l->n_left = n;
		l->left_ns = w->now;
	}
	if (w->now < l->left_ns + l->keepalive_ns || !wanted(l))
		return;
	l->left_ns = w->now;
	if (!emit_keepalive(&w->emit, l))
		bump(&l->live.keepalives, 1);
}
