/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * chain - which of n numbered things bear a key? Hash chains over the numbers; the things themselves
 * stay in the arrays of their owner, who compares (different keys may share a chain).
 */
#ifndef CHAIN_H
#define CHAIN_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#define CHAIN_END UINT32_MAX

/** struct chain - heads by hash, and for every thing the next of its chain */
struct chain {
	uint32_t *head, *next;
	uint32_t mask;
};

static inline uint32_t chain_hash(const struct chain *c, uint64_t key)
{
	return (uint32_t)(key * 0x9e3779b97f4a7c15ull >> 32) & c->mask;
}

/** chain_init() - for things 0 to n - 1, none of them in it yet. Return: 0 or -ENOMEM */
static inline int chain_init(struct chain *c, uint32_t n)
{
	uint32_t heads = 16;

	while (heads < n)
		heads *= 2;
	c->mask = heads - 1;
	c->head = malloc(heads * sizeof *c->head);
	c->next = malloc((n + 1) * sizeof *c->next);
	if (!c->head || !c->next)
		return -ENOMEM;
	for (uint32_t i = 0; i < heads; i++)
		c->head[i] = CHAIN_END;
	return 0;
}

static inline void chain_free(struct chain *c)
{
	free(c->head);
	free(c->next);
	c->head = c->next = NULL;
}

/** chain_add() - thing i, which is in no chain, bears this key */
static inline void chain_add(struct chain *c, uint64_t key, uint32_t i)
{
	uint32_t *head = &c->head[chain_hash(c, key)];

	c->next[i] = *head;
	*head = i;
}

/** chain_del() - no longer; one that is not in the chain of this key is left alone */
static inline void chain_del(struct chain *c, uint64_t key, uint32_t i)
{
	for (uint32_t *at = &c->head[chain_hash(c, key)]; *at != CHAIN_END; at = &c->next[*at]) {
		if (*at != i)
			continue;
		*at = c->next[i];
		return;
	}
}

static inline uint32_t chain_first(const struct chain *c, uint64_t key)
{
	return c->head[chain_hash(c, key)];
}

/** chain_each() - every thing that may bear the key; i itself may leave its chain in the body, others may not */
#define chain_each(c, key, i)                                                                       \
	for (uint32_t i = chain_first(c, key), i##_next; i != CHAIN_END && (i##_next = (c)->next[i], 1); \
	     i = i##_next)

#endif
