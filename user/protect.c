/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <netinet/in.h> /* before linux/xfrm.h, or both define struct in6_addr */
#include <errno.h>
#include <fnmatch.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/xfrm.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "load.h"
#include "log.h"
#include "protect.h"

static bool same_prefix(const struct prefix *a, const struct prefix *b)
{
	return a->len == b->len && a->is4 == b->is4 && !memcmp(&a->addr, &b->addr, sizeof a->addr);
}

static struct guard_rule *rule_for(struct guard_set *s, const struct prefix *p)
{
	struct guard_rule *r;

	for (unsigned int i = 0; i < s->n_rules; i++)
		if (same_prefix(&s->rules[i].prefix, p))
			return &s->rules[i];
	r = realloc(s->rules, (s->n_rules + 1) * sizeof *r);
	if (!r)
		return NULL;
	s->rules = r;
	r = &s->rules[s->n_rules++];
	memset(r, 0, sizeof *r);
	r->prefix = *p;
	return r;
}

static int add_host(struct in6_addr **list, unsigned int *n, const struct in6_addr *a)
{
	struct in6_addr *p;

	for (unsigned int i = 0; i < *n; i++)
		if (!memcmp(&(*list)[i], a, sizeof *a))
			return 0;
	p = realloc(*list, (*n + 1) * sizeof *p);
	if (!p)
		return -ENOMEM;
	*list = p;
	p[(*n)++] = *a;
	return 0;
}

/*
 * Is the peer's own address what the link carries? In transport mode, unless the link has addresses of its own;
 * as long as the path is not known yet, it may be.
 */
static bool carries_remote(const struct link *l)
{
	const struct p2p *a = &l->conf.address, *a6 = &l->conf.address6;

	if (!l->transport || (!a->set && !a6->set))
		return l->transport;
	for (unsigned int i = 0; i < l->n_paths; i++) {
		const struct in6_addr *r = &l->paths[i].remote;

		if (IN6_IS_ADDR_UNSPECIFIED(r) || (a->set && !memcmp(&a->far, r, sizeof *r)) ||
		    (a6->set && !memcmp(&a6->far, r, sizeof *r)))
			return true;
	}
	return false;
}

/*
 * Where the envelopes of a link go may be talked to in the clear (seed 3.2), but if that very address is
 * what the link carries, only envelopes may.
 */
static int add_remote(struct guard_set *s, const struct link *l, const struct in6_addr *a)
{
	if (IN6_IS_ADDR_UNSPECIFIED(a))
		return 0;
	return carries_remote(l) ? add_host(&s->ends, &s->n_ends, a) : add_host(&s->peers, &s->n_peers, a);
}

static bool among(const struct in6_addr *list, unsigned int n, const struct in6_addr *a)
{
	for (unsigned int i = 0; i < n; i++)
		if (!memcmp(&list[i], a, sizeof *a))
			return true;
	return false;
}

static void set_free(struct guard_set *s)
{
	free(s->rules);
	free(s->peers);
	free(s->ends);
}

static bool contains(const struct prefix *wide, const struct prefix *narrow)
{
	return wide->is4 == narrow->is4 && wide->len <= narrow->len && prefix_match(wide, &narrow->addr);
}

/* The far addresses of a link are behind it by definition: nothing to or from them goes in the clear. */
static unsigned int prefixes_of(const struct link *l, struct prefix far[2])
{
	unsigned int n = 0;

	if (l->conf.address.set)
		far[n++] = (struct prefix){.addr = l->conf.address.far, .is4 = addr_is4(&l->conf.address.far),
					   .len = addr_is4(&l->conf.address.far) ? 32 : 128};
	if (l->conf.address6.set)
		far[n++] = (struct prefix){.addr = l->conf.address6.far, .len = 128};
	return n;
}

static int add_rules(struct guard_set *s, const struct link *l)
{
	struct prefix far[2];
	unsigned int n = prefixes_of(l, far);

	for (unsigned int i = 0; i < n; i++) {
		if (!rule_for(s, &far[i]))
			return -ENOMEM;
		/* also while the path is not known yet: the peer must be able to call */
		if (carries_remote(l) && add_remote(s, l, &far[i].addr))
			return -ENOMEM;
	}
	for (unsigned int i = 0; i < l->conf.protect.n; i++)
		if (!rule_for(s, &l->conf.protect.p[i]))
			return -ENOMEM;
	for (unsigned int i = 0; i < l->n_paths; i++)
		if (add_remote(s, l, &l->paths[i].remote))
			return -ENOMEM;
	return 0;
}

/* A link carries what it protects, and every narrower prefix inside that: metrics decide among them. */
static void allow_device(struct guard_set *s, const struct link *l)
{
	struct prefix own[2];
	unsigned int n = prefixes_of(l, own);

	for (unsigned int i = 0; i < s->n_rules; i++) {
		struct guard_rule *r = &s->rules[i];
		bool carries = false;

		for (unsigned int k = 0; k < n && !carries; k++)
			carries = contains(&own[k], &r->prefix);
		for (unsigned int k = 0; k < l->conf.protect.n && !carries; k++)
			carries = contains(&l->conf.protect.p[k], &r->prefix);
		if (carries && r->n_devices < ARRAY_SIZE(r->devices))
			memcpy(r->devices[r->n_devices++], l->conf.name, IFNAMSIZ);
	}
}

struct lan {
	struct daemon *d;
	struct guard_set *s;
	unsigned int n_wide; /* rules before ours */
	int err;
};

static bool is_lan(const struct conf *c, const char *name)
{
	for (unsigned int i = 0; i < c->n_lan; i++)
		if (!fnmatch(c->lan[i], name, 0))
			return true;
	return false;
}

/* A network connected to a LAN device, inside something protected: its own device may carry it. */
static void lan_route(void *arg, const struct nl_route *r)
{
	struct lan *lan = arg;
	struct guard_rule *rule;
	struct nl_link dev;
	bool inside = false;

	if (r->proto != RTPROT_KERNEL || r->type != NL_RT_UNICAST || r->has_via || !r->oif || lan->err)
		return;
	for (unsigned int i = 0; i < lan->n_wide && !inside; i++)
		inside = contains(&lan->s->rules[i].prefix, &r->dst);
	if (!inside || nl_link_get_index(lan->d->nl_u, r->oif, &dev) || !is_lan(&lan->d->conf, dev.name))
		return;
	rule = rule_for(lan->s, &r->dst);
	if (!rule)
		lan->err = -ENOMEM;
	else if (rule->n_devices < ARRAY_SIZE(rule->devices))
		memcpy(rule->devices[rule->n_devices++], dev.name, IFNAMSIZ);
}

static int add_lan(struct daemon *d, struct guard_set *s)
{
	struct lan lan = {d, s, s->n_rules, 0};
	int err;

	if (!d->conf.n_lan)
		return 0;
	err = nl_route_each(d->nl_u, 0, lan_route, &lan);
	return err ? err : lan.err;
}

/* Every link's prefixes count in the underlay; only links that live in a namespace may carry them there. */
static int collect(struct daemon *d, const char *netns, struct guard_set *s)
{
	int err = 0;

	for (unsigned int i = 0; i < d->max_links && !err; i++)
		if (d->links[i] && (!*netns || !strcmp(d->links[i]->conf.netns, netns)))
			err = add_rules(s, d->links[i]);
	for (unsigned int i = 0; i < d->max_links && !err; i++)
		if (d->links[i] && d->links[i]->ifindex && !strcmp(d->links[i]->conf.netns, netns))
			allow_device(s, d->links[i]);
	return err || *netns ? err : add_lan(d, s);
}

static void fill_maps(struct daemon *d, const struct guard_set *s)
{
	for (unsigned int i = 0; i < s->n_rules; i++)
		load_protect_set(d->load, &s->rules[i].prefix, PROTECT_F_OUT | PROTECT_F_IN);
	for (unsigned int i = 0; i < s->n_peers; i++)
		if (!among(s->ends, s->n_ends, &s->peers[i]))
			load_peer_set(d->load, &s->peers[i]);
}

/* What the last set had and this one has not leaves the BPF maps; after the new set is in. */
static void prune_maps(struct daemon *d, const struct guard_set *now)
{
	static struct guard_set last;

	for (unsigned int i = 0; i < last.n_rules; i++) {
		bool keep = false;

		for (unsigned int k = 0; k < now->n_rules && !keep; k++)
			keep = same_prefix(&last.rules[i].prefix, &now->rules[k].prefix);
		if (!keep)
			load_protect_del(d->load, &last.rules[i].prefix);
	}
	for (unsigned int i = 0; i < last.n_peers; i++) {
		const struct in6_addr *a = &last.peers[i];

		if (!among(now->peers, now->n_peers, a) || among(now->ends, now->n_ends, a))
			load_peer_del(d->load, a);
	}
	set_free(&last);
	last = *now;
}

static int apply_workloads(struct daemon *d)
{
	int err = 0;

	for (unsigned int i = 0; i < d->max_links; i++) {
		struct link *l = d->links[i];
		struct guard_set s = {.instance = d->instance, .allow_ike = true};
		bool seen = false;

		for (unsigned int k = 0; l && k < i && !seen; k++)
			seen = d->links[k] && !strcmp(d->links[k]->conf.netns, l->conf.netns);
		if (!l || seen || !l->conf.netns[0] || !l->own_nl)
			continue;
		if (!collect(d, l->conf.netns, &s)) {
			int e = guard_apply(l->nl, l->netns_fd, &s, &d->guard_missing);

			err = err ? err : e;
		}
		set_free(&s);
	}
	return err;
}

/* What is true of the instance whatever its links are. */
static struct guard_set empty_set(const struct daemon *d)
{
	struct guard_set s = {.instance = d->instance, .allow_ike = true, .n_ports = d->n_workers};

	for (unsigned int i = 0; i < d->n_workers; i++)
		s.ports[i] = worker_udp_port(d->workers[i]);
	return s;
}

int protect_apply(struct daemon *d)
{
	struct guard_set s = empty_set(d);
	int err = collect(d, "", &s), e;

	if (err) {
		set_free(&s);
		return err;
	}
	d->guard_missing = 0;
	fill_maps(d, &s);
	err = guard_apply(d->nl_u, d->underlay_fd, &s, &d->guard_missing);
	prune_maps(d, &s); /* keeps s */
	e = apply_workloads(d);
	return err ? err : e;
}

static int watch(int bus, unsigned int groups)
{
	struct sockaddr_nl a = {.nl_family = AF_NETLINK, .nl_groups = groups};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, bus);

	if (fd < 0)
		return fd;
	if (!bind(fd, (struct sockaddr *)&a, sizeof a))
		return fd;
	close(fd);
	return -1;
}

unsigned int protect_watch(int fds[2])
{
	unsigned int n = 0;

	fds[n] = watch(NETLINK_NETFILTER, 1u << (NFNLGRP_NFTABLES - 1));
	n += fds[n] >= 0;
	fds[n] = watch(NETLINK_XFRM, XFRMGRP_POLICY);
	n += fds[n] >= 0;
	return n;
}

void protect_changed(struct daemon *d, int fd)
{
	char buf[8192];
	ssize_t r;

	do { /* what it says does not matter; an overrun says the same */
		r = recv(fd, buf, sizeof buf, MSG_DONTWAIT);
	} while (r > 0 || (r < 0 && (errno == EINTR || errno == ENOBUFS)));
	d->protect_touched = true;
}

void protect_tick(struct daemon *d, uint64_t now)
{
	if (d->protect_touched && now >= d->protect_next_ns) {
		d->protect_touched = false;
		d->protect_next_ns = now + 1000000000u;
		d->protect_dirty = true;
	}
	if (!d->protect_dirty)
		return;
	d->protect_dirty = false;
	protect_apply(d);
}

int protect_audit(struct daemon *d)
{
	struct guard_set s = empty_set(d);
	int layers = collect(d, "", &s) ? 0 : guard_audit(d->nl_u, d->underlay_fd, &s);

	set_free(&s);
	return layers;
}
