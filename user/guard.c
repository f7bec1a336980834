// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * guard - see guard.h. This file owns the order of things and the floors; guard_xfrm.c and
 * guard_nft.c own their layers. Control thread only.
 *
 * Order of guard_apply(): floors in, policies in, nft table exchanged in one transaction, and only
 * then what is no longer wanted goes. A layer that fails does not keep the others out.
 */
#include <ctype.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdlib.h>
#include "guard_int.h"
#include "log.h"

enum {
	WIDE4 = 8, /* IPv4 prefixes shorter than this, */
	WIDE6 = 4, /* and IPv6 ones: 0/0, 0/1 + 128/1, 2000::/3 */
};
static const uint32_t floor_metric = 4294967294u;

/* ---- the plan ---- */

struct prefix guard_host_prefix(const struct in6_addr *a)
{
	return (struct prefix){.addr = *a, .is4 = addr_is4(a), .len = addr_is4(a) ? 32 : 128};
}

/* Of prefixes, and of rules: their prefix stands first. */
_Static_assert(offsetof(struct grule, p) == 0, "cmp_prefix() takes both");
static int cmp_prefix(const void *x, const void *y)
{
	const struct prefix *a = x, *b = y;
	int d;

	if (a->is4 != b->is4)
		return a->is4 ? -1 : 1;
	d = memcmp(&a->addr, &b->addr, sizeof a->addr);
	return d ? d : (int)a->len - (int)b->len;
}

static int cmp_addr(const void *x, const void *y)
{
	return memcmp(x, y, sizeof(struct in6_addr));
}

static int cmp_name(const void *x, const void *y)
{
	return strncmp(x, y, IFNAMSIZ);
}

/* Names go into nft's language: nothing in them may mean anything there ('*' is a pattern). */
static bool name_ok(const char *s, size_t max)
{
	size_t n = strnlen(s, max);

	if (!n || n == max)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr("_-.@+", s[i]))
			return false;
	return true;
}

static bool prefix_ok(const struct prefix *p)
{
	struct prefix again;
	char buf[INET6_ADDRSTRLEN + 4];

	return p->is4 == addr_is4(&p->addr) && p->len <= (p->is4 ? 32 : 128) &&
	       !prefix_parse(prefix_str(p, buf), &again);
}

/* Append a device unless it stands there. */
static int add_dev(struct grule *r, const char *name)
{
	char(*d)[IFNAMSIZ];

	for (unsigned int i = 0; i < r->n_devs; i++)
		if (!strncmp(r->devs[i], name, IFNAMSIZ))
			return 0;
	d = reallocarray(r->devs, r->n_devs + 1, sizeof *d);
	if (!d)
		return -ENOMEM;
	r->devs = d;
	memset(d[r->n_devs], 0, sizeof *d);
	strncpy(d[r->n_devs++], name, IFNAMSIZ - 1);
	return 0;
}

static int copy_rule(struct grule *to, const struct guard_rule *from)
{
	char buf[INET6_ADDRSTRLEN + 4];
	int err = 0;

	if (!prefix_ok(&from->prefix) || from->n_devices > ARRAY_SIZE(from->devices))
		return -EINVAL;
	to->p = from->prefix;
	to->wide = to->p.len < (to->p.is4 ? WIDE4 : WIDE6);
	for (unsigned int i = 0; !err && i < from->n_devices; i++) {
		if (name_ok(from->devices[i], IFNAMSIZ))
			err = add_dev(to, from->devices[i]);
		else
			log_warnx(
				"guard: %s: a device name that cannot be allowed, it stays blocked",
				prefix_str(&from->prefix, buf));
	}
	return err;
}

/* Equal neighbours become one rule. */
static int merge_rules(struct gplan *p)
{
	unsigned int n = 0;
	int err = 0;

	for (unsigned int i = 0; i < p->n; i++) {
		if (n && !cmp_prefix(&p->r[n - 1], &p->r[i])) {
			for (unsigned int k = 0; !err && k < p->r[i].n_devs; k++)
				err = add_dev(&p->r[n - 1], p->r[i].devs[k]);
			free(p->r[i].devs);
			p->r[i].devs = NULL;
			continue;
		}
		if (n != i) {
			p->r[n] = p->r[i];
			p->r[i].devs = NULL;
		}
		n++;
	}
	p->n = n;
	for (unsigned int i = 0; i < n; i++) {
		p->n4 += p->r[i].p.is4;
		if (p->r[i].n_devs)
			qsort(p->r[i].devs, p->r[i].n_devs, IFNAMSIZ, cmp_name);
	}
	return err;
}

/* Is the host in one of these outermost, hence disjoint, rules? For bsearch(). */
static int cmp_inside(const void *host, const void *rule)
{
	const struct prefix *r = &(*(const struct grule *const *)rule)->p;

	return prefix_contains(r, host) ? 0 : cmp_prefix(host, r);
}

/* Only what is inside a rule needs an exception: often nothing. Return: malloc'd, sorted; NULL = no memory */
static struct in6_addr *pick(const struct gplan *p, const struct in6_addr *from, unsigned int n_from,
			     unsigned int *n_to)
{
	const struct grule **outer = calloc(p->n + 1, sizeof *outer);
	struct in6_addr *to = calloc(n_from + 1, sizeof *to);
	unsigned int n = 0, k = 0;

	*n_to = 0;
	if (!outer || !to) {
		free(outer);
		free(to);
		return NULL;
	}
	for (unsigned int i = 0; i < p->n; i++)
		if (!n || !prefix_contains(&outer[n - 1]->p, &p->r[i].p))
			outer[n++] = &p->r[i];
	for (unsigned int i = 0; i < n_from; i++) {
		struct prefix host = guard_host_prefix(&from[i]);

		if (bsearch(&host, outer, n, sizeof *outer, cmp_inside))
			to[(*n_to)++] = from[i];
	}
	free(outer);
	if (*n_to)
		qsort(to, *n_to, sizeof *to, cmp_addr);
	for (unsigned int i = 0; i < *n_to; i++)
		if (!k || cmp_addr(&to[k - 1], &to[i]))
			to[k++] = to[i];
	*n_to = k;
	return to;
}

static bool is_end(const struct gplan *p, const struct in6_addr *a)
{
	return p->n_ends && bsearch(a, p->ends, p->n_ends, sizeof *a, cmp_addr);
}

static int pick_peers(struct gplan *p, const struct guard_set *set)
{
	unsigned int k = 0;

	p->peers = pick(p, set->peers, set->n_peers, &p->n_peers);
	p->ends = pick(p, set->ends, set->n_ends, &p->n_ends);
	if (!p->peers || !p->ends)
		return -ENOMEM;
	for (unsigned int i = 0; i < p->n_peers; i++)
		if (!is_end(p, &p->peers[i]))
			p->peers[k++] = p->peers[i];
	p->n_peers = k;
	return 0;
}

static void plan_free(struct gplan *p)
{
	for (unsigned int i = 0; p->r && i < p->n; i++)
		free(p->r[i].devs);
	free(p->r);
	free(p->peers);
	free(p->ends);
}

static int plan_make(struct gplan *p, const struct guard_set *set)
{
	int err = 0;

	memset(p, 0, sizeof *p);
	if (!name_ok(set->instance, sizeof p->instance))
		return -EINVAL;
	strcpy(p->instance, set->instance);
	p->allow_ike = set->allow_ike;
	p->kernel = set->kernel;
	p->n_ports = MIN(set->n_ports, (unsigned int)ARRAY_SIZE(p->ports));
	memcpy(p->ports, set->ports, sizeof p->ports);
	p->r = calloc(set->n_rules + 1, sizeof *p->r);
	if (!p->r)
		err = -ENOMEM;
	for (unsigned int i = 0; !err && i < set->n_rules; i++) {
		p->n = i + 1;
		err = copy_rule(&p->r[i], &set->rules[i]);
	}
	if (!err) {
		qsort(p->r, p->n, sizeof *p->r, cmp_prefix);
		err = merge_rules(p);
	}
	if (!err)
		err = pick_peers(p, set);
	if (err)
		plan_free(p);
	return err;
}

/* ---- floors ---- */

struct floors {
	struct prefix *p;
	unsigned int n, cap;
	bool failed;
};

static void note_floor(void *arg, const struct nl_route *r)
{
	struct floors *f = arg;

	if (r->type != NL_RT_UNREACHABLE || r->metric != floor_metric || r->table != RT_TABLE_MAIN)
		return;
	if (f->n == f->cap) {
		unsigned int cap = f->cap ? f->cap * 2 : 64;
		struct prefix *p = reallocarray(f->p, cap, sizeof *p);

		if (!p) {
			f->failed = true;
			return;
		}
		f->p = p;
		f->cap = cap;
	}
	f->p[f->n++] = r->dst;
}

static int floors_load(struct nl *nl, struct floors *f)
{
	int err;

	memset(f, 0, sizeof *f);
	err = nl_route_each_proto(nl, 0, NL_PROTO_ESPWIRE, note_floor, f);
	if (f->n)
		qsort(f->p, f->n, sizeof *f->p, cmp_prefix);
	return err ? err : f->failed ? -ENOMEM : 0;
}

static bool floor_stands(const struct floors *f, const struct prefix *p)
{
	return f->n && bsearch(p, f->p, f->n, sizeof *p, cmp_prefix);
}

static bool planned(const struct gplan *plan, const struct prefix *p)
{
	return plan->n && bsearch(p, plan->r, plan->n, sizeof *plan->r, cmp_prefix);
}

static struct nl_route floor_route(const struct prefix *p)
{
	return (struct nl_route){.dst = *p, .type = NL_RT_UNREACHABLE, .metric = floor_metric};
}

/* Return: how many could not be laid; *err the first reason. */
static unsigned int floors_add(struct nl *nl, const struct floors *f, const struct gplan *plan,
			       int *err)
{
	char buf[INET6_ADDRSTRLEN + 4];
	unsigned int missing = 0;

	for (unsigned int i = 0; i < plan->n; i++) {
		struct nl_route r = floor_route(&plan->r[i].p);
		int e = floor_stands(f, &r.dst) ? 0 : nl_route_add(nl, &r);

		if (!e)
			continue;
		if (!missing++)
			log_warnx("guard: floor: unreachable %s: %s%s%s", prefix_str(&r.dst, buf),
				  strerror(-e), *nl_err(nl) ? ": " : "", nl_err(nl));
		if (!*err)
			*err = e;
	}
	return missing;
}

/* The prefix, or what it lies in? */
static bool protected_by(const struct prefixes *set, const struct prefix *p)
{
	for (unsigned int i = 0; i < set->n; i++)
		if (prefix_contains(&set->p[i], p))
			return true;
	return false;
}

/*
 * A prefix another instance protects in this namespace keeps its floor: a route has no room for two
 * names.
 */
static int floors_prune(struct nl *nl, int netns_fd, const struct floors *f,
			const struct gplan *plan)
{
	struct prefixes others = {0};
	bool asked = false;
	int err = 0;

	for (unsigned int i = 0; i < f->n; i++) {
		struct nl_route r = floor_route(&f->p[i]);
		int e;

		if (planned(plan, &r.dst))
			continue;
		if (!asked)
			err = guard_nft_others(netns_fd, plan->instance, &others);
		asked = true;
		if (err == -ENOMEM || protected_by(&others, &r.dst))
			continue;
		e = nl_route_del(nl, &r);
		if (e && e != -ESRCH && !err)
			err = e;
	}
	free(others.p);
	return err;
}

/* ---- the flow ---- */

static void first(int *err, int e)
{
	if (!*err)
		*err = e;
}

/* A kernel without XFRM: told once per apply, the other layers go in. */
static struct gxfrm *load_xfrm(struct nl *nl, int netns_fd, const struct gplan *plan, int *err)
{
	struct gxfrm *x = NULL;

	*err = guard_xfrm_load(&x, nl, netns_fd, plan);
	if (*err == -EPROTONOSUPPORT && !plan->n4)
		*err = 0; /* nothing was wanted of it */
	if (*err)
		log_warnx("guard: xfrm: %s", strerror(-*err));
	return x;
}

static int apply_plan(struct nl *nl, int netns_fd, const struct gplan *plan, unsigned int *missing)
{
	struct floors f;
	struct gxfrm *x;
	int err, e = 0;

	x = load_xfrm(nl, netns_fd, plan, &err);
	*missing += !!err;
	e = floors_load(nl, &f);
	*missing += floors_add(nl, &f, plan, &e);
	first(&err, e);
	if (x)
		*missing += guard_xfrm_add(x, &err);
	e = guard_nft_apply(netns_fd, plan);
	*missing += !!e;
	first(&err, e);
	if (x)
		first(&err, guard_xfrm_prune(x));
	first(&err, floors_prune(nl, netns_fd, &f, plan));
	guard_xfrm_free(x);
	free(f.p);
	return err;
}

int guard_apply(struct nl *nl, int netns_fd, const struct guard_set *set, unsigned int *missing)
{
	unsigned int lacking = 0;
	struct gplan plan;
	int err = plan_make(&plan, set);

	if (err) {
		log_warnx("guard: the set of protected prefixes is not usable: %s", strerror(-err));
		if (missing)
			*missing = set->n_rules;
		return err;
	}
	err = apply_plan(nl, netns_fd, &plan, &lacking);
	if (missing)
		*missing = lacking;
	plan_free(&plan);
	return err;
}

static bool floors_complete(struct nl *nl, const struct gplan *plan)
{
	struct floors f;
	bool ok = !floors_load(nl, &f);

	for (unsigned int i = 0; ok && i < plan->n; i++)
		ok = floor_stands(&f, &plan->r[i].p);
	free(f.p);
	return ok;
}

static bool xfrm_complete(struct nl *nl, int netns_fd, const struct gplan *plan)
{
	char dev[IFNAMSIZ];
	struct gxfrm *x;
	bool ok;

	if (guard_xfrm_load(&x, nl, netns_fd, plan))
		return false;
	ok = guard_xfrm_complete(x);
	guard_xfrm_free(x);
	if (ok && guard_xfrm_pierced(netns_fd, plan, dev)) {
		log_rl("guard: xfrm: sysctl disable_xfrm switches the policies off on %s", dev);
		ok = false;
	}
	return ok;
}

int guard_audit(struct nl *nl, int netns_fd, const struct guard_set *set)
{
	struct gplan plan;
	int layers = 0;

	if (plan_make(&plan, set))
		return 0;
	if (floors_complete(nl, &plan))
		layers |= GUARD_FLOOR;
	if (xfrm_complete(nl, netns_fd, &plan))
		layers |= GUARD_XFRM;
	if (guard_nft_complete(netns_fd, &plan))
		layers |= GUARD_NFT;
	plan_free(&plan);
	return layers;
}

int guard_release(struct nl *nl, int netns_fd, const char *instance)
{
	struct guard_set nothing = {.instance = instance};

	return guard_apply(nl, netns_fd, &nothing, NULL);
}
