/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "intake.h"
#include "util.h"

#define MS UINT64_C(1000000)

enum {
	LOOK_MS = 50, /* at least between two looks */
	SINGLES_PER_S = 20000,
	QUIET_PER_S = 500,
	QUIET_MS = 5000,
	BULK_PER_S = 10000,
	BULK_BYTES = 1000,
	MANY_PER_S = 50000,
	BUSY_MS = 500,
	HELD_MS = 5000, /* a try that the sockets outlast so long was none in vain */
	TRY_MIN_MS = 2000,
	TRY_MAX_MS = 64000,
};

/* What came since the last look. */
static struct intake_seen since(const struct intake_seen *a, const struct intake_seen *b)
{
	return (struct intake_seen){.sock_pkts = b->sock_pkts - a->sock_pkts, .sock_msgs = b->sock_msgs - a->sock_msgs,
				    .xdp_pkts = b->xdp_pkts - a->xdp_pkts, .xdp_bytes = b->xdp_bytes - a->xdp_bytes,
				    .xdp_udp = b->xdp_udp - a->xdp_udp};
}

static bool at_least(uint64_t n, uint64_t per_s, uint64_t ns)
{
	return n * 1000 * MS >= per_s * ns;
}

static bool comes_singly(const struct intake_seen *d, uint64_t ns)
{
	return at_least(d->sock_pkts, SINGLES_PER_S, ns) && d->sock_pkts < 2 * d->sock_msgs;
}

static bool may_go_back(struct intake *i, const struct intake_seen *d, uint64_t ns, uint64_t now)
{
	bool quiet = !at_least(d->xdp_pkts + d->sock_pkts, QUIET_PER_S, ns);
	bool bulk = at_least(d->xdp_udp, BULK_PER_S, ns) && d->xdp_bytes >= BULK_BYTES * d->xdp_pkts;
	bool busy = bulk || at_least(d->xdp_udp, MANY_PER_S, ns);

	i->quiet_ns = quiet ? i->quiet_ns + ns : 0;
	i->busy_ns = busy ? i->busy_ns + ns : 0;
	return i->quiet_ns >= QUIET_MS * MS || (i->busy_ns >= BUSY_MS * MS && now - i->switched_ns >= i->try_ns);
}

/* Tried in vain, the sockets are tried again ever later. */
static uint64_t next_try(const struct intake *i, uint64_t now)
{
	bool in_vain = i->switched_ns && now - i->switched_ns < HELD_MS * MS;

	return in_vain ? MIN(2 * i->try_ns, TRY_MAX_MS * MS) : TRY_MIN_MS * MS;
}

bool intake_tick(struct intake *i, const struct intake_seen *seen, uint64_t now_ns)
{
	struct intake_seen d = since(&i->was, seen);
	uint64_t ns = now_ns - i->was_ns;

	if (i->was_ns && ns < LOOK_MS * MS)
		return false;
	i->was = *seen;
	if (!i->was_ns) { /* the first look has nothing to compare with */
		i->was_ns = now_ns;
		return false;
	}
	i->was_ns = now_ns;
	if (i->xdp ? !may_go_back(i, &d, ns, now_ns) : !comes_singly(&d, ns))
		return false;
	if (!i->xdp)
		i->try_ns = next_try(i, now_ns);
	i->xdp = !i->xdp;
	i->switched_ns = now_ns;
	i->quiet_ns = i->busy_ns = 0;
	return true;
}
