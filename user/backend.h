/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * backend - who does the cryptography of a link: our workers (afxdp) or the kernel (xfrm).
 *
 * One small interface under sad.c, which owns the list of SAs, their slots, ledgers and lifetimes and does not
 * know who carries them. What an SA has counted stands in its sa_ctr whoever counts: a worker packet by packet,
 * or the control thread by asking the kernel (look). Control thread only.
 */
#ifndef BACKEND_H
#define BACKEND_H

#include <stdio.h>
#include "links.h"
#include "sad.h"

/** struct backend - what sad.c and links.c want of it; sa: has a record, a slot and what is durable */
struct backend {
	enum link_backend id;
	/* receive on it, or be able to send; c is secret and the caller's. sa->installed as soon as there is something
	 * to take back. Return: 0; -EOPNOTSUPP suite; -errno */
	int (*install)(struct daemon *d, struct sa *sa, const struct sa_spec *s, const struct sa_conf *c);
	int (*use)(struct daemon *d, struct sa *sa);     /* packets of its link leave on it from now on */
	void (*ask)(struct daemon *d, struct sa *sa);    /* has the peer got it? Probes, beside the one in use */
	void (*look)(struct daemon *d, struct sa *sa);   /* sa->ctr as of now */
	void (*limits)(struct daemon *d, struct sa *sa); /* more numbers were reserved */
	/* last numbers used, outbound */
	void (*used)(const struct sa *sa, uint64_t *seq, uint64_t *iv);
	enum life_cause (*over)(const struct sa *sa, uint64_t now); /* has a hard limit been reached? */
	uint64_t (*end_ns)(const struct sa *sa); /* when its time is over, CLOCK_BOOTTIME; 0 = not known */
	void (*end)(struct daemon *d, struct sa *sa);       /* it has: no packet more, no key stays */
	void (*uninstall)(struct daemon *d, struct sa *sa); /* out of service, wiped */
	/* the daemon ends, workers are stopped: wipe, and leave to the successor what outlives us */
	void (*close)(struct daemon *d, struct sa *sa);
	/* what is configured or its paths have changed; also the first time, before its SAs. Return: 0 or -errno, told */
	int (*link)(struct daemon *d, struct link *l);
	void (*unlink)(struct daemon *d, struct link *l); /* no SAs any more, the device goes or another backend comes */
};

/** backend_xfrm_tick() - what the kernel tells by itself: lives that are over, packets it refuses */
void backend_xfrm_tick(struct daemon *d, uint64_t now);
void backend_xfrm_fini(struct daemon *d);
/**
 * backend_xfrm_sweep() - the kernel keeps nothing of ours that no SA and no link stands for: a predecessor's
 * Once the configuration is applied, and before sad_sweep(): what such states have carried comes into the books of their links.
 */
void backend_xfrm_sweep(struct daemon *d);

extern const struct backend backend_afxdp, backend_xfrm;

const struct backend *backend_by_id(enum link_backend b);
/** backend_of() - of a link */
const struct backend *backend_of(const struct link *l);
/** backend_name() - "afxdp", "xfrm", "auto" */
const char *backend_name(enum link_backend b);
/**
 * backend_choose() - decide what `backend =` of c comes to on this kernel, which is tried at the first link that asks
 * @b: AFXDP or XFRM. @why: with AFXDP for auto, or with an error: what the kernel cannot, else ""
 * Return: 0; -EOPNOTSUPP with the reason and the way out in errs: xfrm was asked for and cannot be had
 */
int backend_choose(struct daemon *d, const struct link_conf *c, enum link_backend *b, char *why, size_t len, FILE *errs);

#endif
