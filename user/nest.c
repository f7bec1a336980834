/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "chain.h"
#include "conf.h"
#include "ipsec_shared.h"
#include "nest.h"
#include "nl.h"

/* struct place - of one link */
struct place {
	int ifindex;
	unsigned int n;
	struct nest_way way[PATHS_MAX];
	uint64_t asked; /* by which question it was reached last */
	bool under_way; /* and its own ways are being followed: who comes here now goes round */
};

struct nest {
	pthread_mutex_t lock; /* all of it; nl has one of its own as well */
	struct nl *nl;        /* not the control thread's, which may be in the middle of a dump */
	struct place *places; /* [n] */
	struct chain by_ifindex;
	uint64_t questions;
};

int nest_open(struct nest **np, int underlay_fd, unsigned int n)
{
	struct nest *nest = calloc(1, sizeof *nest);
	int err = -ENOMEM;

	if (!nest)
		return -ENOMEM;
	pthread_mutex_init(&nest->lock, NULL);
	nest->places = calloc(n, sizeof *nest->places);
	if (nest->places && !chain_init(&nest->by_ifindex, n))
		err = nl_open(&nest->nl, underlay_fd);
	if (err) {
		nest_close(nest);
		return err;
	}
	*np = nest;
	return 0;
}

void nest_close(struct nest *nest)
{
	if (!nest)
		return;
	nl_close(nest->nl);
	chain_free(&nest->by_ifindex);
	free(nest->places);
	pthread_mutex_destroy(&nest->lock);
	free(nest);
}

void nest_place(struct nest *nest, uint16_t link, int ifindex)
{
	struct place *p;

	if (!nest)
		return;
	pthread_mutex_lock(&nest->lock);
	p = &nest->places[link];
	if (p->ifindex)
		chain_del(&nest->by_ifindex, p->ifindex, link);
	p->ifindex = ifindex;
	if (ifindex)
		chain_add(&nest->by_ifindex, ifindex, link);
	pthread_mutex_unlock(&nest->lock);
}

void nest_ways(struct nest *nest, uint16_t link, const struct nest_way *ways, unsigned int n)
{
	struct place *p;

	if (!nest)
		return;
	pthread_mutex_lock(&nest->lock);
	p = &nest->places[link];
	memcpy(p->way, ways, n * sizeof *ways);
	p->n = n;
	pthread_mutex_unlock(&nest->lock);
}

/* The link whose device the FIB names for this path, NULL = it is none of ours, or there is no route. */
static struct place *led_into(struct nest *nest, const struct nest_way *w)
{
	const struct in6_addr *local = IN6_IS_ADDR_UNSPECIFIED(&w->local) ? NULL : &w->local;
	int oif;

	if (IN6_IS_ADDR_UNSPECIFIED(&w->remote) || nl_route_oif(nest->nl, &w->remote, local, w->fwmark, w->ipproto, w->port, &oif))
		return NULL;
	chain_each(&nest->by_ifindex, oif, i)
		if (nest->places[i].ifindex == oif)
			return &nest->places[i];
	return NULL;
}

/* Every link is asked once, however many ways lead to it. */
static bool goes_round(struct nest *nest, const struct nest_way *w, unsigned int depth)
{
	struct place *next = led_into(nest, w);
	bool round = false;

	if (!next)
		return false;
	if (next->asked == nest->questions)
		return next->under_way;
	if (depth == NEST_MAX)
		return true;
	next->asked = nest->questions;
	next->under_way = true;
	for (unsigned int i = 0; i < next->n && !round; i++)
		round = next->way[i].in_use && goes_round(nest, &next->way[i], depth + 1);
	next->under_way = false;
	return round;
}

bool nest_returns(struct nest *nest, uint16_t link, unsigned int path)
{
	struct place *p;
	bool round;

	if (!nest)
		return false;
	pthread_mutex_lock(&nest->lock);
	p = &nest->places[link];
	p->asked = ++nest->questions;
	p->under_way = true;
	round = path < p->n && goes_round(nest, &p->way[path], 0);
	p->under_way = false;
	pthread_mutex_unlock(&nest->lock);
	return round;
}
