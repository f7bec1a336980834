/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * replay - anti-replay window and ESN reconstruction, RFC 4303 3.4.3 and appendix A2; ring of
 * words as in RFC 6479. Pure: the words are the caller's memory (a pinned map, so that the
 * window survives the daemon). A number is acceptable when top - W < seq <= top and its bit is
 * clear, or seq > top; top - W itself is too old (A2.1: bottom = top - W + 1), and so is 0, which
 * is never sent.
 *
 * Crash order: replay_accept() stores top first, then clears words, then sets the bit, so that
 * dying anywhere in between can only refuse good packets, never take one twice.
 */
#ifndef REPLAY_H
#define REPLAY_H

#include <stdbool.h>
#include <stdint.h>
#include "ipsec_drops.h"

enum { REPLAY_WINDOW_MIN = 64, REPLAY_WINDOW_MAX = 65536, REPLAY_WINDOW_DEFAULT = 4096 };

struct replay {
	uint64_t *top;   /* highest accepted; 0 = none yet. Writer: owning worker */
	uint64_t *words; /* replay_words(window) words */
	uint32_t window; /* multiple of 64, REPLAY_WINDOW_MIN..MAX */
	uint32_t n_words;
	bool esn;
};

/** replay_words() - words a window needs: one more than window/64, rounded up to a power of two */
uint32_t replay_words(uint32_t window);

/**
 * replay_init() - bind a window to its memory
 * @top, @words: as left by an earlier owner (adoption) or zeroed by the caller
 * Return: 0, -EINVAL for a window that is no multiple of 64 or out of range.
 */
int replay_init(struct replay *r, uint64_t *top, uint64_t *words, uint32_t window, bool esn);

/**
 * replay_trim() - before an adopted window is used: nothing above top is seen, whatever the words say
 * Of an SA that the kernel's ESP had, they say that of all.
 */
void replay_trim(struct replay *r);

/**
 * replay_seq() - full 64-bit number for the 32 bits on the wire (RFC 4303 A2.2)
 * Without ESN the high half is 0. In the first subspace a number the RFC would place below 0 is
 * taken as one ahead: nothing else can be meant.
 */
uint64_t replay_seq(const struct replay *r, uint32_t seq_lo);

/**
 * replay_check() - before decryption; changes nothing
 * Return: DROP_NONE, DROP_REPLAY_OLD or DROP_REPLAY_DUP
 */
enum drop replay_check(const struct replay *r, uint64_t seq);

/**
 * replay_accept() - after authentication: check again, then slide and mark (RFC 4303 3.4.3)
 * @lost: incremented by the numbers that leave the window unseen (true loss); may be NULL
 * Return: as replay_check().
 */
enum drop replay_accept(struct replay *r, uint64_t seq, uint64_t *lost);

/**
 * replay_raise() - forget everything at or below seq: nothing <= seq will be accepted any more,
 * nothing of it counts as lost. What was seen above seq stays seen.
 */
void replay_raise(struct replay *r, uint64_t seq);

#endif
