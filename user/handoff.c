/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdatomic.h>
#include <stdlib.h>
#include "handoff.h"
#include "util.h"

enum { ALIGN = 64 };

/* Counters only grow; what lies between them belongs to whom, in the order taken <= done <= given. */
struct handoff {
	_Alignas(64) _Atomic uint64_t given; /* writer: the giver */
	uint64_t taken;                      /* the giver's own */
	uint64_t head, tail;                 /* of the bytes, the giver's own */
	_Alignas(64) _Atomic uint64_t done;  /* writer: the taker */
	_Alignas(64) struct job jobs[HANDOFF_JOBS];
	uint8_t *bytes;
};

struct handoff *handoff_new(void)
{
	struct handoff *h = aligned_alloc(_Alignof(struct handoff), sizeof *h);

	if (!h)
		return NULL;
	*h = (struct handoff){.bytes = hugemem(HANDOFF_BYTES)};
	if (h->bytes)
		return h;
	free(h);
	return NULL;
}

void handoff_free(struct handoff *h)
{
	if (!h)
		return;
	free(h->bytes);
	free(h);
}

static struct job *at(struct handoff *h, uint64_t i)
{
	return &h->jobs[i % HANDOFF_JOBS];
}

static uint64_t given(const struct handoff *h, memory_order o)
{
	return atomic_load_explicit(&h->given, o);
}

static uint64_t done(const struct handoff *h, memory_order o)
{
	return atomic_load_explicit(&h->done, o);
}

/* In one piece: what is left before the end of the memory is skipped when it does not fit there. */
static bool place(struct handoff *h, uint32_t len, uint64_t *from)
{
	uint64_t left = HANDOFF_BYTES - h->head % HANDOFF_BYTES;

	len = (len + ALIGN - 1) & ~(uint32_t)(ALIGN - 1);
	*from = h->head + (len > left ? left : 0);
	return *from + len - h->tail <= HANDOFF_BYTES;
}

struct job *handoff_room(struct handoff *h, uint32_t len)
{
	uint64_t n = given(h, memory_order_relaxed), from;
	struct job *j = at(h, n);

	if (n - h->taken == HANDOFF_JOBS || !place(h, len, &from))
		return NULL;
	*j = (struct job){.len = len, .data = h->bytes + from % HANDOFF_BYTES,
			  .end = from + ((len + ALIGN - 1) & ~(uint64_t)(ALIGN - 1))};
	return j;
}

void handoff_give(struct handoff *h)
{
	uint64_t n = given(h, memory_order_relaxed);

	h->head = at(h, n)->end;
	atomic_store_explicit(&h->given, n + 1, memory_order_release);
}

const struct job *handoff_result(struct handoff *h)
{
	return h->taken == done(h, memory_order_acquire) ? NULL : at(h, h->taken);
}

void handoff_taken(struct handoff *h)
{
	h->tail = at(h, h->taken)->end;
	h->taken++;
}

const struct job *handoff_oldest(const struct handoff *h)
{
	return h->taken == given(h, memory_order_relaxed) ? NULL : &h->jobs[h->taken % HANDOFF_JOBS];
}

struct job *handoff_next(struct handoff *h, unsigned int i)
{
	uint64_t n = done(h, memory_order_relaxed) + i;

	return n < given(h, memory_order_acquire) ? at(h, n) : NULL;
}

void handoff_done(struct handoff *h, unsigned int n)
{
	atomic_store_explicit(&h->done, done(h, memory_order_relaxed) + n, memory_order_release);
}
