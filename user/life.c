/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stddef.h>
#include "life.h"

enum { NS_PER_MS = 1000000 };

static const char *const names[LIFE_CAUSES] = {[LIFE_TIME] = "time",
					       [LIFE_BYTES] = "bytes",
					       [LIFE_PACKETS] = "packets",
					       [LIFE_SEQUENCE] = "sequence"};

const char *life_name(enum life_cause c)
{
	return c < LIFE_CAUSES ? names[c] : NULL;
}

enum drop life_drop(enum life_cause c)
{
	switch (c) {
	case LIFE_TIME:
		return DROP_SA_EXPIRED;
	case LIFE_BYTES:
	case LIFE_PACKETS:
		return DROP_SA_HARD_BYTES;
	case LIFE_SEQUENCE:
		return DROP_SEQ_EXHAUSTED;
	default:
		return DROP_NONE;
	}
}

uint64_t life_at(uint64_t time_s, uint64_t age_ms, uint64_t now)
{
	uint64_t left_ms;

	if (!time_s || time_s > UINT64_MAX / 1000)
		return UINT64_MAX;
	left_ms = time_s * 1000;
	left_ms = left_ms > age_ms ? left_ms - age_ms : 0;
	return left_ms > (UINT64_MAX - now) / NS_PER_MS ? UINT64_MAX : now + left_ms * NS_PER_MS;
}

void life_init(struct life *l, const struct life_conf *c, uint64_t now)
{
	*l = (struct life){
		.end_ns = life_at(c->hard.time_s, c->age_ms, now),
		.max_bytes = c->hard.bytes ? c->hard.bytes : UINT64_MAX,
		.max_pkts = c->hard.pkts ? c->hard.pkts : UINT64_MAX,
		.bytes = c->used_bytes,
		.pkts = c->used_pkts,
	};
}

enum life_cause life_over(const struct life *l, uint64_t now)
{
	uint8_t over = atomic_load_explicit(&l->over, memory_order_relaxed);

	if (over)
		return (enum life_cause)over;
	if (now >= l->end_ns)
		return LIFE_TIME;
	if (__atomic_load_n(&l->pkts, __ATOMIC_RELAXED) >= l->max_pkts)
		return LIFE_PACKETS;
	return __atomic_load_n(&l->bytes, __ATOMIC_RELAXED) >= l->max_bytes ? LIFE_BYTES : LIFE_NONE;
}

static enum drop end(struct life *l, enum life_cause c)
{
	atomic_store_explicit(&l->over, (uint8_t)c, memory_order_relaxed);
	return life_drop(c);
}

enum drop life_check(struct life *l, uint64_t now)
{
	return end(l, life_over(l, now));
}

enum drop life_take(struct life *l, uint64_t now, uint64_t bytes)
{
	enum drop d = life_check(l, now);

	if (d)
		return d;
	if (bytes > l->max_bytes - l->bytes)
		return end(l, LIFE_BYTES);
	l->bytes += bytes;
	l->pkts++;
	return DROP_NONE;
}

enum life_cause life_soft(const struct life_limit *soft, uint64_t at_ns, uint64_t now,
			  uint64_t bytes, uint64_t pkts)
{
	if (now >= at_ns)
		return LIFE_TIME;
	if (soft->bytes && bytes >= soft->bytes)
		return LIFE_BYTES;
	return soft->pkts && pkts >= soft->pkts ? LIFE_PACKETS : LIFE_NONE;
}
