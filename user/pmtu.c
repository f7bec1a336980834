/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pmtu - what routers say of envelopes that were too big (RFC 4301 8.2, RFC 1191, RFC 8201). Worker thread.
 *
 * Anybody can send an ICMP error. It is believed when it quotes an envelope that we did send, to where
 * we sent it, not long ago: SPI and sequence number, so somebody on the path or somebody who guesses
 * right. Even then the link keeps 1280 bytes (path_mtu()): longer envelopes are cut. A quotation that
 * ends before the sequence number (8 bytes of UDP) cannot be judged and moves nothing.
 *
 * Of the kernel's SAs the last number is known as of a tenth of a second ago. Its ESP also goes by what else the kernel
 * believes, of whomever: path.c asks for that.
 */
#include "pkt.h"
#include "worker_priv.h"

enum { PMTU_RECENT = 1 << 18 /* envelopes: a quarter of a second at a million a second */,
       PMTU_MIN4 = 68 /* RFC 791 3.2 */, PMTU_MIN6 = 1280 /* RFC 8200 5 */ };

static bool sent_lately(const struct wsa_out *o, const uint8_t *esp)
{
	uint32_t ago = (uint32_t)o->sa.seq - be32(esp + 4);

	return be32(esp) == ntohl(o->sa.spi_be) && ago < MIN(o->sa.seq, (uint64_t)PMTU_RECENT);
}

/* Its number is read ten times a second: what it has used since is a little ahead. */
static bool kernel_sent_lately(const struct sa_ctr *c, const uint8_t *esp)
{
	uint64_t top = __atomic_load_n(&c->top, __ATOMIC_RELAXED);
	int32_t ago = (int32_t)((uint32_t)top - be32(esp + 4));

	return be32(esp) == ntohl(c->spi_be) && ago > -PMTU_RECENT && ago < (int32_t)MIN(top, (uint64_t)PMTU_RECENT);
}

static struct wlink *link_of(const struct worker *w, const uint8_t *esp)
{
	for (unsigned int i = 0; i < w->n_active; i++) {
		struct wlink *l = w->active[i];

		for (const struct wset *s = l->sets; s; s = s->after)
			if (s->out && sent_lately(s->out, esp))
				return l;
		if (l->kernel_out && kernel_sent_lately(l->kernel_out, esp))
			return l;
	}
	return NULL;
}

/* Not less than any path carries; who does not say how much means the least. */
static uint32_t sane(uint32_t mtu, bool v4)
{
	return MAX(mtu, v4 ? (uint32_t)PMTU_MIN4 : (uint32_t)PMTU_MIN6);
}

void pmtu_told(void *arg, const struct in6_addr *dst, const uint8_t *esp, uint32_t mtu)
{
	struct worker *w = arg;
	struct wlink *l = link_of(w, esp);

	mtu = sane(mtu, addr_is4(dst));
	for (unsigned int i = 0; l && i < l->n_paths; i++) {
		uint32_t known = atomic_load_explicit(&l->paths[i].mtu, memory_order_relaxed);

		if (memcmp(&l->paths[i].remote, dst, sizeof *dst) || (known && mtu >= known))
			continue;
		atomic_store_explicit(&l->paths[i].mtu, mtu, memory_order_relaxed);
		atomic_store_explicit(&l->live.told_mtu[i], mtu, memory_order_relaxed);
	}
}
