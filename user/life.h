/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * life - how long an SA lives, RFC 4301 4.4.2.1: time, bytes as the cipher sees them (payload,
 * padding, trailer), packets. A soft limit says that the successor is due, a hard one ends the SA.
 * Pure. The worker takes from a struct life packet by packet, so that none is over the limit; the
 * control thread looks at soft limits and at what has ended.
 */
#ifndef LIFE_H
#define LIFE_H

#include <stdatomic.h>
#include <stdint.h>
#include "ipsec_drops.h"

/** struct life_limit - 0 = none */
struct life_limit {
	uint64_t time_s, bytes, pkts;
};

/** struct life_conf - both limits of one SA, and what of them is gone already when it is loaded */
struct life_conf {
	struct life_limit soft, hard;
	uint64_t age_ms;                /* since the key's birth */
	uint64_t used_bytes, used_pkts;
};

/** enum life_cause - which limit; LIFE_SEQUENCE: the sequence or IV space, RFC 4303 3.3.3 */
enum life_cause { LIFE_NONE, LIFE_TIME, LIFE_BYTES, LIFE_PACKETS, LIFE_SEQUENCE, LIFE_CAUSES };

/** life_name() - "time", "bytes", "packets", "sequence"; NULL for LIFE_NONE */
const char *life_name(enum life_cause c);
/** life_drop() - why a packet of an SA that ended so is dropped. Return: DROP_NONE for LIFE_NONE */
enum drop life_drop(enum life_cause c);

/** struct life - the hard limits as the worker counts them down. Writer: the owning worker */
struct life {
	uint64_t end_ns;             /* CLOCK_BOOTTIME; UINT64_MAX = never */
	uint64_t max_bytes, max_pkts;
	uint64_t bytes, pkts;        /* taken */
	_Atomic uint8_t over;        /* enum life_cause; the control thread reads it (relaxed) */
};

/** life_init() - @now: CLOCK_BOOTTIME in ns, of which c->age_ms are gone */
void life_init(struct life *l, const struct life_conf *c, uint64_t now);
/**
 * life_check() - may the SA still be used at all? What does not fit ends it for good
 * Return: DROP_NONE, SA_EXPIRED (time), SA_HARD_BYTES (bytes or packets), SEQ_EXHAUSTED
 */
enum drop life_check(struct life *l, uint64_t now);
/** life_take() - one more packet of so many bytes of cipher text; as life_check() */
enum drop life_take(struct life *l, uint64_t now, uint64_t bytes);
/** life_over() - has it ended? For any thread; also true a moment before the worker notices */
enum life_cause life_over(const struct life *l, uint64_t now);

/** life_at() - when a limit of seconds is reached, CLOCK_BOOTTIME in ns; no limit: UINT64_MAX */
uint64_t life_at(uint64_t time_s, uint64_t age_ms, uint64_t now);
/** life_soft() - which soft limit is reached; at_ns = life_at() of its time */
enum life_cause life_soft(const struct life_limit *soft, uint64_t at_ns, uint64_t now,
			  uint64_t bytes, uint64_t pkts);

#endif
