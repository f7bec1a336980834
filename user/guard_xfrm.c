// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * guard_xfrm - IPv4's default deny that needs no device list: XFRM policies without templates. They
 * work on a kernel without ESP, on devices that do not exist yet, and outlive a firewall's reload.
 *
 * dir out sees local and forwarded packets with their output device. Not so in IPv6: a local
 * packet's policy is looked up before the device is known (flowi6_oif is 0 unless the socket is
 * bound), so "allow on ipsec1, block elsewhere" would block ipsec1 as well; dir fwd knows the
 * device of forwarded packets, but its mere presence costs every forwarded packet of both families
 * another 400-500 ns (of some 2600, measured). IPv6 is therefore left to the nft table's output
 * side (guard_nft.c), which sees both kinds.
 *
 * Ours are known by the selector's user field: 0xe5 in the top byte, a hash of the instance below
 * (`ip xfrm policy` prints it as uid). The kernel compares the field when it looks for an equal
 * policy and never when it matches a packet: so we cannot replace anybody else's policy, nor they
 * ours, and two instances do not touch each other's.
 *
 * Precedence follows the longest prefix, as routing does: priority = 16 + (32 - len) * 4 +
 * {exception, device, block}; far below the numbers IKE daemons use, that is, before them.
 */
#include "guard_int.h" /* first: linux/xfrm.h must find netinet/in.h included */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/xfrm.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "log.h"
#include "ns.h"

enum { PRIO_BASE = 16, CLASS_EXCEPT = 0, CLASS_DEVICE = 1, CLASS_BLOCK = 2, N_CLASSES = 4 };
static const uint32_t tag_magic = 0xe5000000u, tag_mask = 0xff000000u;

/* What makes two policies the same to us; compared by memcmp, padding zero. */
struct pol {
	struct xfrm_selector sel;
	uint32_t priority;
	uint8_t dir, action, pad[2];
};

struct pols {
	struct pol *p;
	size_t n, cap;
	int err;
};

struct dev_name {
	char name[IFNAMSIZ];
	int ifindex;
};

struct devs {
	struct dev_name *d;
	size_t n, cap;
	int err;
};

struct gxfrm {
	struct nl *bus;
	uint32_t tag;
	struct pols want, have;
	struct devs devs;
};

static uint32_t tag_of(const char *instance)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	for (; *instance; instance++)
		h = (h ^ (uint8_t)*instance) * 16777619u;
	return tag_magic | ((h ^ h >> 24) & ~tag_mask);
}

static int cmp_pol(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct pol));
}

/* The selector comes first in struct pol, so sorted policies are sorted by it as well. */
static int cmp_sel(const void *a, const void *b)
{
	return memcmp(&((const struct pol *)a)->sel, &((const struct pol *)b)->sel,
		      sizeof(struct xfrm_selector));
}

static void push(struct pols *v, const struct pol *p)
{
	if (v->n == v->cap) {
		size_t cap = v->cap ? v->cap * 2 : 64;
		struct pol *n = reallocarray(v->p, cap, sizeof *n);

		if (!n) {
			v->err = -ENOMEM;
			return;
		}
		v->p = n;
		v->cap = cap;
	}
	v->p[v->n++] = *p;
}

static void sort(struct pols *v)
{
	if (v->n)
		qsort(v->p, v->n, sizeof *v->p, cmp_pol);
}

static bool holds(const struct pols *v, const struct pol *p)
{
	return v->n && bsearch(p, v->p, v->n, sizeof *p, cmp_pol);
}

/* ---- devices of now ---- */

static int cmp_dev(const void *a, const void *b)
{
	return strncmp(((const struct dev_name *)a)->name, ((const struct dev_name *)b)->name,
		       IFNAMSIZ);
}

static void note_dev(void *arg, const struct nl_link *l)
{
	struct devs *v = arg;

	if (v->n == v->cap) {
		size_t cap = v->cap ? v->cap * 2 : 64;
		struct dev_name *n = reallocarray(v->d, cap, sizeof *n);

		if (!n) {
			v->err = -ENOMEM;
			return;
		}
		v->d = n;
		v->cap = cap;
	}
	memcpy(v->d[v->n].name, l->name, IFNAMSIZ);
	v->d[v->n++].ifindex = l->ifindex;
}

static int load_devs(struct nl *nl, struct devs *v)
{
	int err = nl_link_each(nl, note_dev, v);

	if (!err && v->n)
		qsort(v->d, v->n, sizeof *v->d, cmp_dev);
	return err ? err : v->err;
}

/* 0: not there now; its allowance comes when guard_apply() runs for the new device. */
static int index_of(const struct devs *v, const char *name)
{
	struct dev_name key = {0}, *d;

	memcpy(key.name, name, IFNAMSIZ);
	d = v->n ? bsearch(&key, v->d, v->n, sizeof key, cmp_dev) : NULL;
	return d ? d->ifindex : 0;
}

/* ---- what should stand ---- */

static struct pol policy(const struct gxfrm *x, const struct prefix *p, unsigned int class)
{
	struct pol q = {0};

	q.sel.family = AF_INET;
	q.sel.prefixlen_d = p->len;
	q.sel.user = x->tag;
	memcpy(&q.sel.daddr, p->addr.s6_addr + 12, 4);
	q.priority = PRIO_BASE + (32u - p->len) * N_CLASSES + class;
	q.dir = XFRM_POLICY_OUT;
	q.action = class == CLASS_BLOCK ? XFRM_POLICY_BLOCK : XFRM_POLICY_ALLOW;
	return q;
}

static void want(struct gxfrm *x, const struct prefix *p, unsigned int class)
{
	struct pol q = policy(x, p, class);

	push(&x->want, &q);
}

static void want_proto(struct gxfrm *x, const struct prefix *p, uint8_t proto, uint16_t sport,
		       uint16_t dport)
{
	struct pol q = policy(x, p, CLASS_EXCEPT);

	q.sel.proto = proto;
	q.sel.sport = htons(sport);
	q.sel.dport = htons(dport);
	q.sel.sport_mask = sport ? 0xffff : 0;
	q.sel.dport_mask = dport ? 0xffff : 0;
	push(&x->want, &q);
}

/* ESP and IKE. Our port and the peer's are both named: a peer behind NAT shows any, but ours is 500 or 4500. */
static void want_envelopes(struct gxfrm *x, const struct prefix *p)
{
	want_proto(x, p, IPPROTO_ESP, 0, 0);
	want_proto(x, p, IPPROTO_UDP, 0, 500);
	want_proto(x, p, IPPROTO_UDP, 0, 4500);
	want_proto(x, p, IPPROTO_UDP, 500, 0);
	want_proto(x, p, IPPROTO_UDP, 4500, 0);
}

/* Inside 0.0.0.0/0 lies what keeps the wild side itself alive. */
static void want_wide(struct gxfrm *x, const struct gplan *plan, const struct prefix *p)
{
	static const char *const local[] = {"224.0.0.0/24", "255.255.255.255/32"};
	struct prefix q;

	for (size_t i = 0; i < ARRAY_SIZE(local); i++)
		if (!prefix_parse(local[i], &q) && prefix_contains(p, &q))
			want(x, &q, CLASS_EXCEPT);
	want_proto(x, p, IPPROTO_UDP, 68, 67); /* DHCP: renewal is unicast */
	if (plan->allow_ike)
		want_envelopes(x, p);
}

static void want_rule(struct gxfrm *x, const struct gplan *plan, const struct grule *r)
{
	for (unsigned int i = 0; i < r->n_devs; i++) {
		struct pol q = policy(x, &r->p, CLASS_DEVICE);

		q.sel.ifindex = index_of(&x->devs, r->devs[i]);
		if (q.sel.ifindex)
			push(&x->want, &q);
	}
	want(x, &r->p, CLASS_BLOCK);
	if (r->wide)
		want_wide(x, plan, &r->p);
}

/*
 * One policy per selector, as in the kernel: nested wide prefixes want the same exceptions, and a
 * peer's address may itself be a protected prefix. The higher rank wins.
 */
static void settle(struct pols *v)
{
	size_t n = 0;

	sort(v);
	for (size_t i = 0; i < v->n; i++) {
		if (!n || cmp_sel(&v->p[n - 1], &v->p[i]))
			v->p[n++] = v->p[i];
		else if (v->p[i].priority < v->p[n - 1].priority)
			v->p[n - 1] = v->p[i];
	}
	v->n = n;
}

static void want_plan(struct gxfrm *x, const struct gplan *plan)
{
	for (unsigned int i = 0; i < plan->n4; i++)
		want_rule(x, plan, &plan->r[i]);
	for (unsigned int i = 0; i < plan->n_peers; i++) {
		struct prefix host = guard_host_prefix(&plan->peers[i]);

		if (host.is4)
			want(x, &host, CLASS_EXCEPT);
	}
	for (unsigned int i = 0; i < plan->n_ends; i++) {
		struct prefix host = guard_host_prefix(&plan->ends[i]);

		if (host.is4)
			want_envelopes(x, &host);
	}
	settle(&x->want);
}

/* ---- what stands ---- */

static bool parse_pol(const struct nlmsghdr *h, void *row)
{
	struct xfrm_userpolicy_info i; /* 64-bit members behind a 4-byte aligned header */
	struct pol *p = row;

	if (h->nlmsg_type != XFRM_MSG_NEWPOLICY || mnl_nlmsg_get_payload_len(h) < sizeof i)
		return false;
	memcpy(&i, mnl_nlmsg_get_payload(h), sizeof i);
	if ((i.sel.user & tag_mask) != tag_magic)
		return false;
	memcpy(&p->sel, &i.sel, sizeof p->sel);
	p->priority = i.priority;
	p->dir = i.dir;
	p->action = i.action;
	return true;
}

static int load_have(struct gxfrm *x)
{
	_Alignas(8) char buf[256];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct pol *p;
	void *rows;
	size_t n;
	int err;

	h->nlmsg_type = XFRM_MSG_GETPOLICY;
	mnl_nlmsg_put_extra_header(h, sizeof(struct xfrm_userpolicy_id));
	err = nl_dump(x->bus, h, sizeof *p, parse_pol, &rows, &n);
	if (err)
		return err;
	p = rows;
	for (size_t i = 0; i < n; i++)
		if (p[i].sel.user == x->tag)
			push(&x->have, &p[i]);
	free(rows);
	sort(&x->have);
	return x->have.err;
}

int guard_xfrm_load(struct gxfrm **xp, struct nl *nl, int netns_fd, const struct gplan *plan)
{
	struct gxfrm *x = calloc(1, sizeof *x);
	int err;

	*xp = NULL;
	if (!x)
		return -ENOMEM;
	x->tag = tag_of(plan->instance);
	err = nl_open_bus(&x->bus, netns_fd, NETLINK_XFRM);
	if (!err)
		err = load_devs(nl, &x->devs);
	if (!err)
		err = load_have(x);
	if (!err) {
		want_plan(x, plan);
		err = x->want.err;
	}
	if (err)
		guard_xfrm_free(x);
	else
		*xp = x;
	return err;
}

void guard_xfrm_free(struct gxfrm *x)
{
	if (!x)
		return;
	nl_close(x->bus);
	free(x->want.p);
	free(x->have.p);
	free(x->devs.d);
	free(x);
}

/* ---- making it so ---- */

/* UPDPOLICY adds, or replaces the policy with the very same selector, tag included: one of ours. */
static int put_pol(struct gxfrm *x, const struct pol *p)
{
	_Alignas(8) char buf[512];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct xfrm_userpolicy_info *i;

	h->nlmsg_type = XFRM_MSG_UPDPOLICY;
	i = mnl_nlmsg_put_extra_header(h, sizeof *i);
	i->sel = p->sel;
	i->priority = p->priority;
	i->dir = p->dir;
	i->action = p->action;
	i->share = XFRM_SHARE_ANY;
	i->lft.soft_byte_limit = i->lft.hard_byte_limit = XFRM_INF;
	i->lft.soft_packet_limit = i->lft.hard_packet_limit = XFRM_INF;
	return nl_request(x->bus, h, NULL, NULL);
}

static int del_pol(struct gxfrm *x, const struct pol *p)
{
	_Alignas(8) char buf[256];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct xfrm_userpolicy_id *id;

	h->nlmsg_type = XFRM_MSG_DELPOLICY;
	id = mnl_nlmsg_put_extra_header(h, sizeof *id);
	id->sel = p->sel;
	id->dir = p->dir;
	return nl_request(x->bus, h, NULL, NULL);
}

unsigned int guard_xfrm_add(struct gxfrm *x, int *err)
{
	unsigned int missing = 0;

	for (size_t i = 0; i < x->want.n; i++) {
		int e = holds(&x->have, &x->want.p[i]) ? 0 : put_pol(x, &x->want.p[i]);

		if (!e)
			continue;
		if (!missing++)
			log_warnx("guard: xfrm: policy refused: %s%s%s", strerror(-e),
				  *nl_err(x->bus) ? ": " : "", nl_err(x->bus));
		if (!*err)
			*err = e;
	}
	return missing;
}

/* The same selector in a new rank or with another action was replaced, not added beside. */
static bool replaced(const struct gxfrm *x, const struct pol *p)
{
	const struct pol *q =
		x->want.n ? bsearch(p, x->want.p, x->want.n, sizeof *p, cmp_sel) : NULL;

	return q && q->dir == p->dir;
}

int guard_xfrm_prune(struct gxfrm *x)
{
	int err = 0;

	for (size_t i = 0; i < x->have.n; i++) {
		int e;

		if (holds(&x->want, &x->have.p[i]) || replaced(x, &x->have.p[i]))
			continue;
		e = del_pol(x, &x->have.p[i]);
		if (e && e != -ENOENT && !err)
			err = e;
	}
	return err;
}

bool guard_xfrm_complete(const struct gxfrm *x)
{
	for (size_t i = 0; i < x->want.n; i++)
		if (!holds(&x->have, &x->want.p[i]))
			return false;
	return true;
}

/* ---- disable_xfrm ---- */

struct pierce {
	const struct gplan *plan;
	char *name;
};

static bool is_link(const struct gplan *plan, const char *name)
{
	for (unsigned int i = 0; i < plan->n; i++)
		for (unsigned int k = 0; k < plan->r[i].n_devs; k++)
			if (!strncmp(plan->r[i].devs[k], name, IFNAMSIZ))
				return true;
	return false;
}

static bool switched_off(int dir, const char *dev)
{
	char path[300], c = '0';
	int fd;

	snprintf(path, sizeof path, "%s/disable_xfrm", dev);
	fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, &c, 1) != 1)
		c = '0';
	close(fd);
	return c != '0';
}

static int find_pierced(void *arg)
{
	struct pierce *p = arg;
	struct dirent *e;
	int found = 0;
	DIR *d = opendir("/proc/sys/net/ipv4/conf");

	if (!d)
		return 0;
	while (!found && (e = readdir(d))) {
		if (e->d_name[0] == '.' || !strcmp(e->d_name, "lo") ||
		    !strcmp(e->d_name, "default"))
			continue;
		found = switched_off(dirfd(d), e->d_name) && !is_link(p->plan, e->d_name);
		if (found)
			snprintf(p->name, IFNAMSIZ, "%.15s", e->d_name);
	}
	closedir(d);
	return found;
}

bool guard_xfrm_pierced(int netns_fd, const struct gplan *plan, char name[IFNAMSIZ])
{
	struct pierce p = {.plan = plan, .name = name};

	return plan->n4 && ns_call(netns_fd, find_pierced, &p) == 1;
}
