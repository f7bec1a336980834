/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include "chain.h"
#include "roll.h"

/* struct list - things of one kind, found by a number of theirs */
struct list {
	char *v;
	size_t size;
	unsigned int n, cap;
	uint64_t (*key)(const void *thing);
	struct chain by_key;
	bool failed;
};

struct roll {
	const struct nl *underlay, *backend; /* whose it is */
	struct list devices, backend_devices, addrs, routes;
};

/* FNV-1a */
static uint64_t hash(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint64_t h = 0xcbf29ce484222325ull;

	while (n--)
		h = (h ^ *b++) * 0x100000001b3ull;
	return h;
}

static uint64_t link_key(const void *l)
{
	const char *name = ((const struct nl_link *)l)->name;

	return hash(name, strlen(name));
}

static uint64_t addr_key(const void *a)
{
	return ((const struct nl_addr *)a)->ifindex;
}

static uint64_t route_key(const void *r)
{
	return hash(&((const struct nl_route *)r)->dst.addr, sizeof(struct in6_addr));
}

static void add(struct list *list, const void *thing)
{
	if (list->n == list->cap) {
		unsigned int cap = list->cap ? list->cap * 2 : 64;
		char *v = reallocarray(list->v, cap, list->size);

		if (!v) {
			list->failed = true;
			return;
		}
		list->v = v;
		list->cap = cap;
	}
	memcpy(list->v + list->n++ * list->size, thing, list->size);
}

static const void *at(const struct list *list, unsigned int i)
{
	return list->v + i * list->size;
}

static int settle(struct list *list)
{
	if (list->failed || chain_init(&list->by_key, list->n))
		return -ENOMEM;
	for (unsigned int i = 0; i < list->n; i++)
		chain_add(&list->by_key, list->key(at(list, i)), i);
	return 0;
}

static void free_list(struct list *list)
{
	chain_free(&list->by_key);
	free(list->v);
}

static void add_link(void *arg, const struct nl_link *l)
{
	add(arg, l);
}

static void add_addr(void *arg, const struct nl_addr *a)
{
	add(arg, a);
}

static void add_route(void *arg, const struct nl_route *r)
{
	add(arg, r);
}

static int fill(struct roll *r, struct nl *underlay, struct nl *backend)
{
	int err = nl_link_each(underlay, add_link, &r->devices);

	if (!err)
		err = nl_link_each(backend, add_link, &r->backend_devices);
	if (!err)
		err = nl_addr_each(underlay, add_addr, &r->addrs);
	if (!err)
		err = nl_route_each_proto(underlay, 0, NL_PROTO_ESPWIRE, add_route, &r->routes);
	if (!err)
		err = settle(&r->devices) ?: settle(&r->backend_devices) ?: settle(&r->addrs) ?: settle(&r->routes);
	return err;
}

struct roll *roll_call(struct nl *underlay, struct nl *backend)
{
	struct roll *r = calloc(1, sizeof *r);

	if (!r)
		return NULL;
	r->underlay = underlay;
	r->backend = backend;
	r->devices = r->backend_devices = (struct list){.size = sizeof(struct nl_link), .key = link_key};
	r->addrs = (struct list){.size = sizeof(struct nl_addr), .key = addr_key};
	r->routes = (struct list){.size = sizeof(struct nl_route), .key = route_key};
	if (!fill(r, underlay, backend))
		return r;
	roll_free(r);
	return NULL;
}

void roll_free(struct roll *r)
{
	if (!r)
		return;
	free_list(&r->devices);
	free_list(&r->backend_devices);
	free_list(&r->addrs);
	free_list(&r->routes);
	free(r);
}

int roll_link(const struct roll *r, struct nl *nl, const char *name, struct nl_link *out)
{
	const struct list *list;

	if (!r || (nl != r->underlay && nl != r->backend))
		return nl_link_get(nl, name, out);
	list = nl == r->underlay ? &r->devices : &r->backend_devices;
	chain_each(&list->by_key, hash(name, strlen(name)), i) {
		const struct nl_link *l = at(list, i);

		if (strcmp(l->name, name))
			continue;
		*out = *l;
		return 0;
	}
	return -ENODEV;
}

bool roll_addr(const struct roll *r, const struct nl *nl, const struct nl_addr *a)
{
	if (!r || nl != r->underlay)
		return false;
	chain_each(&r->addrs.by_key, addr_key(a), i) {
		const struct nl_addr *b = at(&r->addrs, i);

		if (a->ifindex == b->ifindex && a->prefix_len == b->prefix_len &&
		    !memcmp(&a->local, &b->local, sizeof a->local) && !memcmp(&a->peer, &b->peer, sizeof a->peer))
			return true;
	}
	return false;
}

bool roll_route(const struct roll *r, const struct nl *nl, const struct nl_route *rt)
{
	if (!r || nl != r->underlay)
		return false;
	chain_each(&r->routes.by_key, route_key(rt), i)
		if (nl_route_same(at(&r->routes, i), rt))
			return true;
	return false;
}
