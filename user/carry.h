/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * carry - one link on several cores (`cores`): its worker hands envelopes that are sealed, and inner packets that are
 * open, to other workers, which do the system call. Most of what a packet costs is the kernel's stack, and that
 * runs in the time of whoever calls; what is left to the link's own worker is reading, numbers, cipher, window and books, and
 * of those it stays the only writer. Worker thread only, save where it says otherwise.
 *
 * Order: packets of one inner flow go by one worker, and directly only while that one has nothing of ours. Distance: no number
 * is given out that is more than a quarter of the peer's window ahead of the oldest that is still on its way
 * to a socket (I2), so a worker that was put aside for a while loses nothing at the peer.
 */
#ifndef CARRY_H
#define CARRY_H

#include <stdatomic.h>
#include <stdbool.h>
#include "emit.h"
#include "handoff.h"

struct gro_out;
struct worker;

enum { CARRY_SELF = 0xff, /* no other worker */
       CARRY_MIN = 16,    /* packets of a round from which on it is worth a wake-up */
       CARRY_REACH_MIN = 1024 /* numbers: two rounds (OUT_PKTS) */ };

enum carry_state { CARRY_AWAKE, CARRY_ASLEEP, CARRY_WAITS /* for results */ };

/** struct carry - of one worker */
struct carry {
	struct handoff *to[WORKER_MAX], *from[WORKER_MAX]; /* by the other's index; NULL = none */
	struct worker *other[WORKER_MAX];
	uint8_t others[WORKER_MAX]; /* indexes of those there are */
	unsigned int n;
	int evfd;              /* something has come: work, or a result while we wait */
	_Atomic uint8_t state; /* enum carry_state; the others read it to know whether to wake us */
	bool alone;            /* nothing is given any more */
	bool burst_in, burst_out; /* the round at hand is worth it */
	uint64_t sealed;       /* envelopes ever */
};

/** carry_connect() - let both give work to each other; control thread. Return: 0, -ENOMEM */
int carry_connect(struct worker *a, struct worker *b);
/** carry_alone() - from now on w gives nothing, and all that it gave is done and booked; control thread */
void carry_alone(struct worker *w);

/** carry_reach() - how far numbers may be apart for a peer with that window. Return: 0 = not enough for others to send */
uint32_t carry_reach(uint32_t window);
/** carry_who() - which worker does the system calls of this inner packet's flow. Return: its index or CARRY_SELF */
unsigned int carry_who(const struct worker *w, const struct wlink *l, const uint8_t *ip, uint32_t len);
/** carry_send() - a sealed run, to worker who. Return: false = send it yourself */
bool carry_send(struct worker *w, const struct run *r, unsigned int who);
/** carry_deliver() - a frame of n packets of l, virtio header first. Return: false = write it yourself */
bool carry_deliver(struct worker *w, const struct wlink *l, unsigned int who, const struct iovec *iov, int n_iov, uint32_t n);
/** carry_pace() - wait until n envelopes more may get numbers, reach at most ahead of the oldest that is out */
void carry_pace(struct worker *w, unsigned int n, uint32_t reach);
/** carry_kick() - wake those who got work and sleep; at the end of a round */
void carry_kick(struct worker *w);
/** carry_serve() - do what others gave us, some of it. Return: packets */
unsigned int carry_serve(struct worker *w);
/** carry_book() - results of what we gave, into the books of its links */
void carry_book(struct worker *w);
/** carry_settle() - wait until nothing is out, and all is booked */
void carry_settle(struct worker *w);
/** carry_rest() - about to sleep. Return: false = do not, there is work */
bool carry_rest(struct worker *w);
void carry_wake(struct worker *w);
/** carry_lost(), carry_too_big() - what our error queue says may be about an envelope of another worker's link: tell it */
void carry_lost(struct worker *w, const struct sent *s, unsigned int n);
void carry_too_big(struct worker *w, const struct in6_addr *dst, const uint8_t *esp, uint32_t mtu);
void carry_free(struct worker *w);

#endif
