/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>
#include "device.h"
#include "log.h"
#include "vip.h"

static bool has(const struct vips *v, const struct in6_addr *a)
{
	for (unsigned int i = 0; i < v->n; i++)
		if (!memcmp(&v->a[i], a, sizeof *a))
			return true;
	return false;
}

static void add(struct vips *v, const struct in6_addr *a)
{
	if (!has(v, a) && v->n < VIPS_MAX)
		v->a[v->n++] = *a;
}

static void del(struct vips *v, unsigned int i)
{
	v->a[i] = v->a[--v->n];
}

static bool is_one(const struct in6_addr range[2])
{
	return !memcmp(&range[0], &range[1], sizeof range[0]);
}

static bool in_pool(const struct link *l, const struct in6_addr *a)
{
	for (unsigned int i = 0; i < l->conf.ike_pool.n; i++)
		if (prefix_match(&l->conf.ike_pool.p[i], a))
			return true;
	return false;
}

/* A peer that gives no address leaves "dynamic" at the one that envelopes come from. */
static bool is_outer(const struct link *l, const struct in6_addr *a)
{
	for (unsigned int i = 0; i < l->n_paths; i++)
		if (!memcmp(&l->paths[i].src, a, sizeof *a))
			return true;
	return false;
}

static void look(const struct link *l, struct vips *own, struct vips *far)
{
	for (const struct sa_set *s = l->sets; s; s = s->next) {
		if (!s->out || !s->out->live || !s->out->owner)
			continue;
		for (unsigned int i = 0; i < s->n_sel; i++) {
			const struct sel *sel = &s->out_sel[i];

			if (l->conf.ike_vips.n && is_one(sel->src) && !is_outer(l, &sel->src[0]))
				add(own, &sel->src[0]);
			if (is_one(sel->dst) && in_pool(l, &sel->dst[0]))
				add(far, &sel->dst[0]);
		}
	}
}

static int put_own(struct link *l, const struct in6_addr *a, bool there)
{
	struct nl_addr na = {.ifindex = l->ifindex, .local = *a, .peer = *a, .prefix_len = addr_is4(a) ? 32 : 128,
			     .proto = NL_PROTO_ESPWIRE};

	return there ? nl_addr_add(l->nl, &na) : nl_addr_del(l->nl, &na);
}

static int put_far(struct link *l, const struct in6_addr *a, bool there)
{
	bool is4 = addr_is4(a);
	const struct p2p *own = is4 ? &l->conf.address : &l->conf.address6;
	struct nl_route r = {.dst = {.addr = *a, .len = is4 ? 32 : 128, .is4 = is4}, .type = NL_RT_UNICAST, .oif = l->ifindex,
			     .metric = l->conf.metric, .proto = NL_PROTO_ESPWIRE, .has_src = own->set, .src = own->own};

	return there ? nl_route_add(l->nl, &r) : nl_route_del(l->nl, &r);
}

typedef int (*put_fn)(struct link *l, const struct in6_addr *a, bool there);

static void tell(struct daemon *d, const struct link *l, const struct in6_addr *a, bool own, bool there)
{
	char text[INET6_ADDRSTRLEN];
	json_t *ev;

	log_info("%s (%s): virtual address %s of %s %s", l->conf.name, l->conf.peer, addr_str(a, text), own ? "ours" : "the peer's",
		 there ? "is there" : "is gone");
	if (!d->on_event)
		return;
	ev = json_pack("{s:i s:s s:s s:s s:s s:b s:b}", "schema", 1, "event", "virtual-address", "link", l->conf.name, "peer",
		       l->conf.peer, "address", text, "own", own, "present", there);
	if (!ev)
		return;
	d->on_event(d, ev);
	json_decref(ev);
}

static void settle(struct daemon *d, struct link *l, struct vips *have, const struct vips *want, bool own)
{
	put_fn put = own ? put_own : put_far;
	char text[INET6_ADDRSTRLEN];
	int err;

	for (unsigned int i = 0; i < want->n; i++) {
		if (has(have, &want->a[i]))
			continue;
		err = put(l, &want->a[i], true);
		if (err) { /* and again at the next tick */
			log_rl("%s: virtual address %s: %s %s", l->conf.name, addr_str(&want->a[i], text), strerror(-err), nl_err(l->nl));
			continue;
		}
		add(have, &want->a[i]);
		tell(d, l, &want->a[i], own, true);
	}
	for (unsigned int i = have->n; i-- > 0;) {
		struct in6_addr a = have->a[i];

		if (has(want, &a))
			continue;
		put(l, &a, false); /* whoever took it before us did what we want */
		if (own)
			device_routes(d, l);
		del(have, i);
		tell(d, l, &a, own, false);
	}
}

void vip_follow(struct daemon *d, struct link *l)
{
	struct vips own = {0}, far = {0};

	if (!l->ifindex || (!l->conf.ike_vips.n && !l->conf.ike_pool.n && !l->own_vips.n && !l->far_vips.n))
		return;
	look(l, &own, &far);
	settle(d, l, &l->own_vips, &own, true);
	settle(d, l, &l->far_vips, &far, false);
}

void vip_restore(struct daemon *d, struct link *l)
{
	l->own_vips.n = l->far_vips.n = 0;
	vip_follow(d, l);
}

void vip_clear(struct daemon *d, struct link *l)
{
	static const struct vips none;

	if (!l->ifindex)
		return;
	settle(d, l, &l->own_vips, &none, true);
	settle(d, l, &l->far_vips, &none, false);
}

/* struct broom - one namespace being swept */
struct broom {
	struct daemon *d;
	struct nl *nl;
};

static struct link *ours(const struct broom *b, int ifindex)
{
	chain_each(&b->d->by_ifindex, ifindex, i)
		if (b->d->links[i]->ifindex == ifindex && b->d->links[i]->nl == b->nl)
			return b->d->links[i];
	return NULL;
}

static void sweep_addr(void *arg, const struct nl_addr *a)
{
	const struct broom *b = arg;
	struct link *l = a->proto == NL_PROTO_ESPWIRE ? ours(b, a->ifindex) : NULL;

	if (!l || nl_addr_del(b->nl, a))
		return;
	device_routes(b->d, l);
}

static bool is_configured(const struct link *l, const struct nl_route *r)
{
	for (unsigned int i = 0; i < l->conf.routes.n; i++)
		if (prefix_same(&l->conf.routes.p[i], &r->dst))
			return true;
	return false;
}

static void sweep_route(void *arg, const struct nl_route *r)
{
	const struct broom *b = arg;
	const struct link *l = r->oif ? ours(b, r->oif) : NULL;

	if (l && r->type == NL_RT_UNICAST && r->dst.len == (r->dst.is4 ? 32 : 128) && !is_configured(l, r))
		nl_route_del(b->nl, r);
}

static void sweep(struct daemon *d, struct nl *nl)
{
	struct broom b = {d, nl};

	nl_addr_each(nl, sweep_addr, &b);
	nl_route_each_proto(nl, 0, NL_PROTO_ESPWIRE, sweep_route, &b);
}

void vip_sweep(struct daemon *d)
{
	sweep(d, d->nl_u);
	for (unsigned int i = 0; i < d->max_links; i++)
		if (d->links[i] && d->links[i]->own_nl)
			sweep(d, d->links[i]->nl);
}
