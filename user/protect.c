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

/*
 * Sets are gathered as they come, then settled: sorted, each thing once. What lies inside a prefix
 * follows it directly, and thousands of links take no time.
 */
static int cmp_prefix(const void *x, const void *y)
{
	const struct prefix *a = x, *b = y;
	int d = memcmp(&a->addr, &b->addr, sizeof a->addr);

	if (a->is4 != b->is4)
		return a->is4 ? -1 : 1;
	return d ? d : (int)a->len - (int)b->len;
}

static int cmp_host(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct in6_addr));
}

/* struct rough - a set before it is settled */
struct rough {
	struct prefix *p;
	struct in6_addr *peers, *ends;
	unsigned int n, n_peers, n_ends;
};

static void rough_free(struct rough *r)
{
	free(r->p);
	free(r->peers);
	free(r->ends);
}

/* One more of an array that grows by doubling. */
static int push(void *listp, unsigned int *n, size_t size, const void *item)
{
	char *p;

	memcpy(&p, listp, sizeof p); /* whatever it points to */
	if (!(*n & (*n - 1))) { /* 0, 1, 2, 4... are full */
		p = reallocarray(p, *n ? *n * 2ul : 1, size);
		if (!p)
			return -ENOMEM;
		memcpy(listp, &p, sizeof p);
	}
	memcpy(p + *n * size, item, size);
	(*n)++;
	return 0;
}

static unsigned int settle(void *list, unsigned int n, size_t size, int (*cmp)(const void *, const void *))
{
	char *p = list;
	unsigned int k = 0;

	if (n)
		qsort(p, n, size, cmp);
	for (unsigned int i = 0; i < n; i++)
		if (!k || cmp(p + (k - 1) * size, p + i * size))
			memmove(p + k++ * size, p + i * size, size);
	return k;
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
static int add_remote(struct rough *s, const struct link *l, const struct in6_addr *a)
{
	if (IN6_IS_ADDR_UNSPECIFIED(a))
		return 0;
	return carries_remote(l) ? push(&s->ends, &s->n_ends, sizeof *a, a) : push(&s->peers, &s->n_peers, sizeof *a, a);
}

static bool among(const struct in6_addr *list, unsigned int n, const struct in6_addr *a)
{
	return n && bsearch(a, list, n, sizeof *a, cmp_host);
}

/* The first rule that is p or stands behind it. */
static unsigned int rule_from(const struct guard_set *s, const struct prefix *p)
{
	unsigned int from = 0, to = s->n_rules;

	while (from < to) {
		unsigned int mid = (from + to) / 2;

		if (cmp_prefix(&s->rules[mid].prefix, p) < 0)
			from = mid + 1;
		else
			to = mid;
	}
	return from;
}

static struct guard_rule *rule_of(const struct guard_set *s, const struct prefix *p)
{
	unsigned int i = rule_from(s, p);

	return i < s->n_rules && !cmp_prefix(&s->rules[i].prefix, p) ? &s->rules[i] : NULL;
}

static void set_free(struct guard_set *s)
{
	free(s->rules);
	free(s->peers);
	free(s->ends);
}

/* The far addresses of a link, and those its pool gives away, are behind it by definition: nothing to or from them goes in the clear. */
static unsigned int prefixes_of(const struct link *l, struct prefix far[2])
{
	unsigned int n = 0;

	if (p2p_has_far(&l->conf.address))
		far[n++] = (struct prefix){.addr = l->conf.address.far, .is4 = addr_is4(&l->conf.address.far),
					   .len = addr_is4(&l->conf.address.far) ? 32 : 128};
	if (p2p_has_far(&l->conf.address6))
		far[n++] = (struct prefix){.addr = l->conf.address6.far, .len = 128};
	return n;
}

static int add_rules(struct rough *s, const struct link *l)
{
	struct prefix far[2];
	unsigned int n = prefixes_of(l, far);

	for (unsigned int i = 0; i < n; i++) {
		if (push(&s->p, &s->n, sizeof far[i], &far[i]))
			return -ENOMEM;
		/* also while the path is not known yet: the peer must be able to call */
		if (carries_remote(l) && add_remote(s, l, &far[i].addr))
			return -ENOMEM;
	}
	for (unsigned int i = 0; i < l->conf.ike_pool.n; i++)
		if (push(&s->p, &s->n, sizeof l->conf.ike_pool.p[i], &l->conf.ike_pool.p[i]))
			return -ENOMEM;
	for (unsigned int i = 0; i < l->conf.protect.n; i++)
		if (push(&s->p, &s->n, sizeof l->conf.protect.p[i], &l->conf.protect.p[i]))
			return -ENOMEM;
	for (unsigned int i = 0; i < l->n_paths; i++)
		if (add_remote(s, l, &l->paths[i].remote))
			return -ENOMEM;
	return 0;
}

static void allow(struct guard_rule *r, const char *dev)
{
	/* devices come one after the other */
	if (r->n_devices && !strcmp(r->devices[r->n_devices - 1], dev))
		return;
	if (r->n_devices < ARRAY_SIZE(r->devices))
		memcpy(r->devices[r->n_devices++], dev, IFNAMSIZ);
}

static void allow_inside(struct guard_set *s, const struct prefix *p, const char *dev)
{
	for (unsigned int i = rule_from(s, p); i < s->n_rules && prefix_contains(p, &s->rules[i].prefix); i++)
		allow(&s->rules[i], dev);
}

/* A link carries what it protects, and every narrower prefix inside that: metrics decide among them. */
static void allow_device(struct guard_set *s, const struct link *l)
{
	struct prefix own[2];
	unsigned int n = prefixes_of(l, own);

	for (unsigned int k = 0; k < n; k++)
		allow_inside(s, &own[k], l->conf.name);
	for (unsigned int k = 0; k < l->conf.ike_pool.n; k++)
		allow_inside(s, &l->conf.ike_pool.p[k], l->conf.name);
	for (unsigned int k = 0; k < l->conf.protect.n; k++)
		allow_inside(s, &l->conf.protect.p[k], l->conf.name);
}

/* struct lan - a network connected to a LAN device */
struct lan {
	struct prefix p;
	char dev[IFNAMSIZ];
};

struct lans {
	struct daemon *d;
	const struct rough *rough; /* settled */
	struct lan *v;
	unsigned int n;
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
	struct lans *lans = arg;
	struct lan lan = {.p = r->dst};
	struct nl_link dev;
	bool inside = false;

	if (r->proto != RTPROT_KERNEL || r->type != NL_RT_UNICAST || r->has_via || !r->oif || lans->err ||
	    links_own(lans->d, r->oif))
		return;
	for (unsigned int i = 0; i < lans->rough->n && !inside; i++)
		inside = prefix_contains(&lans->rough->p[i], &r->dst);
	if (!inside || nl_link_get_index(lans->d->nl_u, r->oif, &dev) || !is_lan(&lans->d->conf, dev.name))
		return;
	memcpy(lan.dev, dev.name, IFNAMSIZ);
	lans->err = push(&lans->v, &lans->n, sizeof lan, &lan);
}

static int find_lans(struct daemon *d, struct rough *r, struct lans *lans)
{
	int err = nl_route_each(d->nl_u, 0, lan_route, lans);

	err = err ? err : lans->err;
	for (unsigned int i = 0; i < lans->n && !err; i++)
		err = push(&r->p, &r->n, sizeof r->p[0], &lans->v[i].p);
	r->n = settle(r->p, r->n, sizeof r->p[0], cmp_prefix);
	return err;
}

static int gather(struct daemon *d, const char *netns, struct rough *r)
{
	int err = 0;

	for (unsigned int i = 0; i < d->max_links && !err; i++)
		if (d->links[i] && (!*netns || !strcmp(d->links[i]->conf.netns, netns)))
			err = add_rules(r, d->links[i]);
	r->n = settle(r->p, r->n, sizeof *r->p, cmp_prefix);
	r->n_peers = settle(r->peers, r->n_peers, sizeof *r->peers, cmp_host);
	r->n_ends = settle(r->ends, r->n_ends, sizeof *r->ends, cmp_host);
	return err;
}

/* Takes the hosts of r with it. */
static int make_set(struct rough *r, struct guard_set *s)
{
	s->rules = calloc(r->n + 1, sizeof *s->rules);
	if (!s->rules)
		return -ENOMEM;
	for (unsigned int i = 0; i < r->n; i++)
		s->rules[i].prefix = r->p[i];
	s->n_rules = r->n;
	s->peers = r->peers;
	s->n_peers = r->n_peers;
	s->ends = r->ends;
	s->n_ends = r->n_ends;
	r->peers = r->ends = NULL;
	return 0;
}

/* Every link's prefixes count in the underlay; only links that live in a namespace may carry them there. */
static int collect(struct daemon *d, const char *netns, struct guard_set *s)
{
	struct rough r = {0};
	struct lans lans = {.d = d, .rough = &r};
	int err = gather(d, netns, &r);

	if (!err && !*netns && d->conf.n_lan)
		err = find_lans(d, &r, &lans);
	if (!err)
		err = make_set(&r, s);
	for (unsigned int i = 0; i < d->max_links && !err; i++) {
		const struct link *l = d->links[i];

		if (l && l->ifindex && !strcmp(l->conf.netns, netns))
			allow_device(s, l);
		s->kernel |= !*netns && l && l->x.ifindex;
	}
	for (unsigned int i = 0; i < lans.n && !err; i++)
		allow(rule_of(s, &lans.v[i].p), lans.v[i].dev);
	free(lans.v);
	rough_free(&r);
	return err;
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
		if (!rule_of(now, &last.rules[i].prefix))
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
	if (d->encap.udp_port)
		s.ports[s.n_ports++] = d->encap.udp_port;
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

/* Those of the links that the kernel carries may be among what was changed. */
static void doubt_policies(struct daemon *d)
{
	for (unsigned int i = 0; i < d->max_links; i++)
		if (d->links[i] && d->links[i]->x.ifindex)
			d->links[i]->x.doubt = d->links[i]->backend_stale = true;
}

void protect_tick(struct daemon *d, uint64_t now)
{
	if (d->protect_touched && now >= d->protect_next_ns) {
		d->protect_touched = false;
		d->protect_next_ns = now + 1000000000u;
		d->protect_dirty = true;
		doubt_policies(d);
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
