/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include "replay.h"

enum { WORD_BITS = 64 };

uint32_t replay_words(uint32_t window)
{
	uint32_t need = window / WORD_BITS + 1, n = 2;

	while (n < need)
		n <<= 1;
	return n;
}

static uint64_t *word_of(const struct replay *r, uint64_t seq)
{
	return &r->words[(seq / WORD_BITS) & (r->n_words - 1)];
}

int replay_init(struct replay *r, uint64_t *top, uint64_t *words, uint32_t window, bool esn)
{
	if (window < REPLAY_WINDOW_MIN || window > REPLAY_WINDOW_MAX || window % WORD_BITS)
		return -EINVAL;
	*r = (struct replay){
		.top = top,
		.words = words,
		.window = window,
		.n_words = replay_words(window),
		.esn = esn,
	};
	return 0;
}

void replay_trim(struct replay *r)
{
	/* later words are cleared by slide() when it comes to them */
	*word_of(r, *r->top) &= ~UINT64_C(0) >> (WORD_BITS - 1 - *r->top % WORD_BITS);
}

uint64_t replay_seq(const struct replay *r, uint32_t seq_lo)
{
	uint32_t lo = (uint32_t)*r->top, hi = (uint32_t)(*r->top >> 32);
	uint32_t bottom = lo - r->window + 1;

	if (!r->esn)
		return seq_lo;
	if (lo >= r->window - 1) /* case A: the window lies in one subspace */
		hi += seq_lo < bottom;
	else if (hi) /* case B: it spans two. In the first subspace there is nothing below to span
		      */
		hi -= seq_lo >= bottom;
	return (uint64_t)hi << 32 | seq_lo;
}

static uint64_t bit_of(uint64_t seq)
{
	return UINT64_C(1) << (seq % WORD_BITS);
}

/* 0 is never sent (RFC 4303 3.3.3) and means "none yet" in top. */
static bool is_old(const struct replay *r, uint64_t seq)
{
	uint64_t top = *r->top;

	return !seq || (top >= r->window && seq <= top - r->window);
}

enum drop replay_check(const struct replay *r, uint64_t seq)
{
	if (seq > *r->top)
		return DROP_NONE;
	if (is_old(r, seq))
		return DROP_REPLAY_OLD;
	return *word_of(r, seq) & bit_of(seq) ? DROP_REPLAY_DUP : DROP_NONE;
}

/* Bits of seq's word that stand for numbers from..to, which that word's range must meet. */
static uint64_t span_bits(uint64_t block, uint64_t from, uint64_t to)
{
	uint64_t bits = ~UINT64_C(0);

	if (from / WORD_BITS == block)
		bits &= bits << (from % WORD_BITS);
	if (to / WORD_BITS == block)
		bits &= ~UINT64_C(0) >> (WORD_BITS - 1 - to % WORD_BITS);
	return bits;
}

/* Numbers from..to (all inside the window) that were seen. */
static uint64_t count_seen(const struct replay *r, uint64_t from, uint64_t to)
{
	uint64_t n = 0;

	for (uint64_t b = from / WORD_BITS; b <= to / WORD_BITS; b++)
		n += (uint64_t)__builtin_popcountll(r->words[b & (r->n_words - 1)] &
						    span_bits(b, from, to));
	return n;
}

/* Numbers that leave the window unseen when top moves to seq: its old left part, and whatever is
 * jumped over altogether. */
static uint64_t holes(const struct replay *r, uint64_t seq)
{
	uint64_t top = *r->top, from, to, seen_to;

	if (seq <= r->window)
		return 0;
	from = top < r->window ? 1 : top - r->window + 1;
	to = seq - r->window;
	seen_to = to < top ? to : top;
	return to - from + 1 - (seen_to >= from ? count_seen(r, from, seen_to) : 0);
}

/* The compiler must not move stores over this: the order is what a crash leaves behind. */
static void keep_order(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}

static void slide(struct replay *r, uint64_t seq)
{
	uint64_t block = *r->top / WORD_BITS, n = seq / WORD_BITS - block;

	*r->top = seq;
	keep_order();
	if (n > r->n_words)
		n = r->n_words;
	for (uint64_t i = 1; i <= n; i++)
		r->words[(block + i) & (r->n_words - 1)] = 0;
	keep_order();
}

enum drop replay_accept(struct replay *r, uint64_t seq, uint64_t *lost)
{
	enum drop drop = replay_check(r, seq);

	if (drop)
		return drop;
	if (seq > *r->top) {
		if (lost)
			*lost += holes(r, seq);
		slide(r, seq);
	}
	*word_of(r, seq) |= bit_of(seq);
	return DROP_NONE;
}

static void mark_seen(struct replay *r, uint64_t from, uint64_t to)
{
	for (uint64_t b = from / WORD_BITS; b <= to / WORD_BITS; b++)
		r->words[b & (r->n_words - 1)] |= span_bits(b, from, to);
}

/* Everything is refused before top moves; only then does the room above top open again. */
static void raise_top(struct replay *r, uint64_t seq)
{
	for (uint32_t i = 0; i < r->n_words; i++)
		r->words[i] = ~UINT64_C(0);
	keep_order();
	*r->top = seq;
	keep_order();
	*word_of(r, seq) = ~UINT64_C(0) >> (WORD_BITS - 1 - seq % WORD_BITS);
}

void replay_raise(struct replay *r, uint64_t seq)
{
	uint64_t top = *r->top;

	if (seq > top)
		raise_top(r, seq);
	else if (seq && !is_old(r, seq))
		mark_seen(r, top < r->window ? 1 : top - r->window + 1, seq);
}
