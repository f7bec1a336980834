/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * audit - what RFC 4303 and RFC 4301 9 want an audit entry to name, of one dropped packet per reason,
 * direction and second: time, SPI, sequence number, addresses, flow label. On by `audit = yes`. Told as well,
 * and no drop: ECN fields that nobody sends (RFC 6040 4.2), and fragments of envelopes (RFC 4303 3.4.1).
 *
 * The worker never writes a log: it fills a slot if that is empty and its second is over, and goes on.
 * The control thread empties it at its next tick. Packets that are counted and not told are in the
 * next entry's number, so nothing that somebody else sends can write more than a line per second and
 * reason.
 */
#ifndef AUDIT_H
#define AUDIT_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "inner.h"
#include "ipsec_drops.h"

enum { AUDIT_NO_LINK = 0xffff };
/* enum drop, and behind its last what is told of packets that go on */
enum {
	AUDIT_ECN = DROP_MAX - 1,
	AUDIT_FRAGMENT = AUDIT_ECN + ECN_ECT1_ON_CE + 1, /* told by wire_in alone */
	AUDIT_MAX
};
#define AUDIT_GAP_NS UINT64_C(1000000000)

/** struct audit_rec - one entry */
struct audit_rec {
	uint64_t packets; /* of this reason since the entry before, this one included */
	uint64_t seq;     /* as far as it is known: the low half when nothing else is */
	struct in6_addr src, dst;
	uint32_t spi, flow;
	uint16_t link; /* id, or AUDIT_NO_LINK */
	uint8_t what;  /* enum drop, AUDIT_ECN + enum ecn_odd, AUDIT_FRAGMENT */
	bool out;
};

struct audit_slot {
	_Atomic bool full; /* worker sets (release), control clears (release) */
	uint64_t next_ns;  /* writer: worker */
	uint64_t seen;     /* writer: worker */
	struct audit_rec rec; /* whose full is */
};

struct audit {
	bool on; /* before the worker starts */
	struct audit_slot slot[2][AUDIT_MAX];
};

/** audit_note() - worker thread; r->packets is filled in here. No lock, no syscall */
void audit_note(struct audit *a, uint64_t now, const struct audit_rec *r);
/** audit_take() - control thread. Return: was there an entry? */
bool audit_take(struct audit *a, bool out, unsigned int what, struct audit_rec *r);

struct daemon;
/** audit_tick() - control thread: what the workers and wire_in noted goes to the log and the monitors */
void audit_tick(struct daemon *d);

#endif
