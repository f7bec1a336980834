/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * handoff - work that one worker has made ready and another carries out: a ring between two threads, single
 * producer (the giver), single consumer (the taker). What is to be sent or written is copied in, so the giver's buffers
 * are free at once; the taker works in order and leaves a result in each job, which the giver takes back, in order too.
 *
 * Pure memory: whom to wake, and what a job means, is carry.c's.
 */
#ifndef HANDOFF_H
#define HANDOFF_H

#include <stdbool.h>
#include <stdint.h>
#include "emit.h"

enum { HANDOFF_JOBS = 512, HANDOFF_BYTES = 2 << 20 /* powers of two */ };

enum job_kind {
	JOB_SEND,    /* envelopes: msg */
	JOB_DELIVER, /* a frame for the TAP: data, virtio header first */
	JOB_LOST,    /* the other way: envelopes that msg says found no neighbour */
	JOB_TOO_BIG, /* the other way: somebody says so of an envelope to msg.dst; data: its first bytes; msg.len: the MTU */
};

/** struct job - one of them. Writer: the giver before handoff_give(), then the taker: msg.sent, msg.err */
struct job {
	uint8_t kind;        /* enum job_kind */
	uint8_t path;        /* of the link */
	uint16_t link, gen;
	uint16_t n;          /* packets */
	uint32_t len;        /* of data */
	uint8_t *data;
	uint64_t sealed;     /* how many envelopes the giver had sealed before; never less than in the job before */
	uint64_t end;        /* of data in the ring; handoff.c's */
	struct emit_msg msg; /* msg.data is data */
};

struct handoff;

/** handoff_new() - NULL when out of memory */
struct handoff *handoff_new(void);
void handoff_free(struct handoff *h); /* NULL is fine */

/* The giver's: */

/**
 * handoff_room() - where the next job goes, with len bytes at its data
 * Return: NULL while the ring has no room: results must be taken first. len is at most HANDOFF_BYTES / 2
 */
struct job *handoff_room(struct handoff *h, uint32_t len);
/** handoff_give() - the job of handoff_room() is the taker's now */
void handoff_give(struct handoff *h);
/** handoff_result() - the oldest one that was carried out and not taken back; NULL = none */
const struct job *handoff_result(struct handoff *h);
/** handoff_taken() - the one of handoff_result() is dealt with */
void handoff_taken(struct handoff *h);
/** handoff_oldest() - the oldest one given and not taken back, for its kind and sealed; NULL = none is out */
const struct job *handoff_oldest(const struct handoff *h);

/* The taker's: */

/** handoff_next() - the i-th of those that wait; NULL = there are not so many */
struct job *handoff_next(struct handoff *h, unsigned int i);
/** handoff_done() - the first n of those that wait have their results */
void handoff_done(struct handoff *h, unsigned int n);

#endif
