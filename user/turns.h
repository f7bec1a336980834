/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * turns - which of several paths a link uses whose backend sends by one at a time and cannot ask on the others.
 *
 * Of a path that stands by nothing is known but that it has a route: only using it tells. The one in use is left
 * when it answers no more, the others are tried in turn; while nobody answers at all each gets twice the time of the one before
 * it. A better one is tried again, of free will, for a moment: the sooner the fewer times that was in vain.
 * Pure: memory in, memory out, computed from what is the case now (I7). Control thread only.
 */
#ifndef TURNS_H
#define TURNS_H

#include <stdbool.h>
#include <stdint.h>

enum { TURNS_MAX = 8 };

/** struct turn - one path. The first three are the caller's */
struct turn {
	uint32_t weight;      /* the heaviest comes first, of equals the first */
	bool usable;          /* has a remote and a route */
	uint64_t answered_ns; /* last round trip on it, 0 = none */
	unsigned int fails;   /* times in a row that it was tried in vain */
	uint64_t hold_ns;     /* not of free will before that */
};

/** struct turns - all of them */
struct turns {
	struct turn turn[TURNS_MAX];
	unsigned int cur;     /* in use */
	uint64_t since_ns;    /* since then */
	uint64_t trial_ns;    /* it is tried of free will until then, 0 = it is not */
	unsigned int back;    /* and then it is this one's turn again */
	unsigned int vain;    /* changes in a row of which nothing has come */
};

/** turns_begin() - path cur is in use from now on; nothing is known of any */
void turns_begin(struct turns *t, unsigned int cur, uint64_t now);
/** turns_usable() - it has a route, or none. With one that is new nothing is held against it */
void turns_usable(struct turns *t, unsigned int i, bool usable);
/**
 * turns_next() - whose turn is it now? Of n paths
 * @window: a path that has not answered for so long is left; 0 = nobody asks: the best one that has a route
 * @trial: so long a better one is tried
 * Return: is it another one's than before? t->cur is it
 */
bool turns_next(struct turns *t, unsigned int n, uint64_t window, uint64_t trial, uint64_t now);

#endif
