/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "device.h"
#include "load.h"
#include "log.h"
#include "ns.h"
#include "path.h"
#include "roll.h"
#include "vip.h"

enum { VETH_TXQLEN = 1000 };

static void b_name(const struct link *l, char name[IFNAMSIZ])
{
	snprintf(name, IFNAMSIZ, "b%u", l->conf.number);
}

/*
 * Link-local address from machine, instance and link, so that it is stable over restarts and the
 * two ends differ even on one machine. One fixed address everywhere breaks OSPFv3.
 */
static struct in6_addr link_local(const struct daemon *d, const struct link *l)
{
	struct in6_addr a = {.s6_addr = {0xfe, 0x80}};
	uint8_t hash[SHA256_DIGEST_LENGTH];
	char text[256], id[64] = "";
	FILE *f = fopen("/etc/machine-id", "re");

	if (f) {
		if (!fgets(id, sizeof id, f))
			id[0] = 0;
		fclose(f);
	}
	snprintf(text, sizeof text, "espwire link-local %s %s %s %s", id, d->instance, l->conf.name,
		 l->conf.netns);
	SHA256((const uint8_t *)text, strlen(text), hash);
	memcpy(a.s6_addr + 8, hash, 8);
	a.s6_addr[8] &= ~2; /* not a global EUI-64 */
	return a;
}

int device_workload(struct daemon *d, struct link *l, FILE *errs)
{
	int err;

	if (!l->conf.netns[0]) {
		l->nl = d->nl_u;
		l->netns_fd = -1;
		return 0;
	}
	l->netns_fd = ns_open(l->conf.netns);
	if (l->netns_fd < 0) {
		err = l->netns_fd;
		fprintf(errs, "%s: no network namespace '%s': make it first (ip netns add %s)\n", l->conf.name,
			l->conf.netns, l->conf.netns);
		return err;
	}
	err = nl_open(&l->nl, l->netns_fd);
	if (err) {
		fprintf(errs, "%s: netlink in '%s': %s\n", l->conf.name, l->conf.netns, strerror(-err));
		close(l->netns_fd);
		return err;
	}
	l->own_nl = true;
	return 0;
}

void device_workload_close(struct link *l)
{
	if (!l->own_nl)
		return;
	nl_close(l->nl);
	close(l->netns_fd);
	l->own_nl = false;
}

/*
 * Is the device that bears our name really one of ours: a veth whose far end is bN in the backend?
 * @roll: NULL = ask the kernel
 */
static int adopt(struct daemon *d, struct link *l, const struct roll *roll)
{
	struct nl_link w, b;
	char bn[IFNAMSIZ];
	int err;

	err = roll_link(roll, l->nl, l->conf.name, &w);
	if (err)
		return err;
	b_name(l, bn);
	if (strcmp(w.kind, "veth") || roll_link(roll, d->nl_k, bn, &b) || b.peer_ifindex != w.ifindex ||
	    w.peer_ifindex != b.ifindex)
		return -EEXIST;
	links_place(d, l, w.ifindex, b.ifindex);
	l->mtu = w.mtu;
	l->carrier = b.flags & IFF_UP;
	return 0;
}

void device_find(struct daemon *d, struct link *l)
{
	if (!l->conf.netns[0] && !device_workload(d, l, stderr))
		adopt(d, l, d->roll);
}

/* A pair whose other end is called bN and lies beside it was made for us: addresses and firewall came first. */
static bool offered(struct link *l, const char *bn)
{
	struct nl_link w, b;

	return !nl_link_get(l->nl, l->conf.name, &w) && !strcmp(w.kind, "veth") && !w.peer_elsewhere &&
	       !nl_link_get(l->nl, bn, &b) && b.peer_ifindex == w.ifindex && w.peer_ifindex == b.ifindex;
}

/*
 * To the kernel's linkwatch a veth whose two ends have the same number, each in its namespace, is a device with
 * nothing below: its carrier is told up to a second late, and 2000 at once after 40 s. A number is never given
 * again soon, so a pair made and deleted in the backend moves its numbers on.
 */
static int number_apart(struct daemon *d, struct link *l, const struct veth_spec *v)
{
	static const struct veth_spec skip = {.name = "bskip0", .peer = "bskip1", .peer_netns_fd = -1};
	struct nl_link s;
	int err = nl_link_del(l->nl, l->ifindex);

	links_place(d, l, 0, 0);
	if (!nl_link_get(d->nl_k, skip.name, &s)) /* who made it did not come to delete it */
		nl_link_del(d->nl_k, s.ifindex);
	if (!err)
		err = nl_veth_add(d->nl_k, &skip);
	if (!err)
		err = nl_link_get(d->nl_k, skip.name, &s);
	if (!err)
		err = nl_link_del(d->nl_k, s.ifindex);
	if (!err)
		err = nl_veth_add(l->nl, v);
	return err ? err : adopt(d, l, NULL);
}

static int create(struct daemon *d, struct link *l, bool take)
{
	char bn[IFNAMSIZ];
	struct veth_spec v = {.name = l->conf.name, .peer = bn, .peer_netns_fd = d->backend_fd,
			      .mtu = path_mtu(l), .txqlen = VETH_TXQLEN, .noarp = true,
			      .peer_group = DEVICE_GROUP + l->id / DEVICE_GROUP_LINKS};
	struct nl_link b;
	int err;

	b_name(l, bn);
	if (take && !offered(l, bn))
		return -EEXIST;
	if (!roll_link(d->roll, d->nl_k, bn, &b)) /* its other half is gone or lies in a lost namespace */
		nl_link_del(d->nl_k, b.ifindex);
	err = take ? nl_veth_take(l->nl, &v) : nl_veth_add(l->nl, &v);
	if (!err)
		err = adopt(d, l, NULL);
	return err || take || l->ifindex != l->b_ifindex ? err : number_apart(d, l, &v);
}

int device_make(struct daemon *d, struct link *l, FILE *errs)
{
	int err = adopt(d, l, d->roll);

	if (err == -ENODEV || err == -ENOENT)
		err = create(d, l, false);
	else if (err == -EEXIST)
		err = create(d, l, true);
	if (err == -EEXIST)
		fprintf(errs,
			"%s: a device of that name exists and is not ours: rename or delete it (ip link del %s); a veth "
			"is taken if its other end is called b%u and lies in the same namespace\n",
			l->conf.name, l->conf.name, l->conf.number);
	else if (err)
		fprintf(errs, "%s: cannot make the device: %s %s\n", l->conf.name, strerror(-err), nl_err(l->nl));
	if (err)
		return err;
	err = load_attach_classify(d->load, d->nl_k, l->b_ifindex);
	if (err == -ENODEV && d->roll) { /* it went since the roll was called: ask for each from now on */
		roll_free(d->roll);
		d->roll = NULL;
		d->protect_dirty = true;
		return device_make(d, l, errs);
	}
	if (err)
		fprintf(errs, "%s: cannot attach the classifier: %s\n", l->conf.name, strerror(-err));
	return err;
}

static void set_address(struct daemon *d, struct link *l, const struct p2p *p, bool add)
{
	struct nl_addr a = {.ifindex = l->ifindex, .local = p->own, .peer = p2p_has_far(p) ? p->far : p->own,
			    .prefix_len = addr_is4(&p->own) ? 32 : 128};
	int err;

	if (!p->set || (add && roll_addr(d->roll, l->nl, &a)))
		return;
	err = add ? nl_addr_add(l->nl, &a) : nl_addr_del(l->nl, &a);
	if (err && add)
		log_warnx("%s: address: %s %s", l->conf.name, strerror(-err), nl_err(l->nl));
}

static void set_link_local(struct daemon *d, struct link *l)
{
	struct nl_addr a = {.ifindex = l->ifindex, .prefix_len = 64, .scope = RT_SCOPE_LINK};
	bool there;

	a.local = a.peer = link_local(d, l);
	there = roll_addr(d->roll, l->nl, &a);
	if (l->conf.no_link_local) {
		if (there || !d->roll || l->own_nl) /* the roll knows of one namespace */
			nl_addr_del(l->nl, &a);
	} else if (!there) {
		nl_addr_add(l->nl, &a); /* a host without IPv6 does without */
	}
}

static bool same_p2p(const struct p2p *a, const struct p2p *b)
{
	return a->set == b->set && (!a->set || (!memcmp(&a->own, &b->own, 16) && !memcmp(&a->far, &b->far, 16)));
}

static void set_routes(struct daemon *d, struct link *l, const struct link_conf *c, bool add)
{
	for (unsigned int i = 0; i < c->routes.n; i++) {
		struct nl_route r = {.dst = c->routes.p[i], .type = NL_RT_UNICAST, .oif = l->ifindex,
				     .metric = c->metric, .proto = NL_PROTO_ESPWIRE};
		char buf[INET6_ADDRSTRLEN + 4];
		int err;

		if (add && roll_route(d->roll, l->nl, &r))
			continue;
		err = add ? nl_route_add(l->nl, &r) : nl_route_del(l->nl, &r);
		if (err && add && err != -ENETDOWN)
			log_warnx("%s: route %s: %s %s", l->conf.name, prefix_str(&r.dst, buf), strerror(-err),
				  nl_err(l->nl));
	}
}

void device_routes(struct daemon *d, struct link *l)
{
	set_routes(d, l, &l->conf, true);
}

void device_restore(struct daemon *d, struct link *l)
{
	set_link_local(d, l);
	device_routes(d, l);
	vip_restore(d, l);
}

static void set_sysctls(struct link *l)
{
	struct nl_sysctl s[] = {
		/* a dead link's routes must not attract packets: the next metric takes over */
		{.family = "ipv4", .name = "ignore_routes_with_linkdown", .value = "1"},
		/* what goes into a tunnel needs no XFRM policy to allow it: 300-400 ns and a dst a packet */
		{.family = "ipv4", .name = "disable_xfrm", .value = "1"},
		{.family = "ipv6", .name = "ignore_routes_with_linkdown", .value = "1"},
		/* addresses and routes stay while the carrier is down */
		{.family = "ipv6", .name = "keep_addr_on_down", .value = "1"},
	};

	nl_sysctls(l->nl, l->conf.name, s, ARRAY_SIZE(s));
	if (s[0].err)
		log_warnx("%s: cannot set net/ipv4/conf/%s/%s: failover by metric will not work", l->conf.name, l->conf.name,
			  s[0].name);
}

enum { ALL_ON = NL_ON_LINKDOWN4 | NL_ON_NO_XFRM | NL_ON_LINKDOWN6 | NL_ON_KEEP_ADDR6 };

/*
 * What the device has already is not set again: every word to it, even the same one, makes the kernel
 * walk over all its IPv6 routes, those of the other thousand links too.
 */
static int raise(struct daemon *d, struct link *l)
{
	char alt[IFNAMSIZ + 8];
	struct nl_link now;
	int err;

	if (roll_link(d->roll, l->nl, l->conf.name, &now) || now.ifindex != l->ifindex)
		memset(&now, 0, sizeof now); /* made since */
	snprintf(alt, sizeof alt, "ipsec:%u", l->conf.number);
	err = strcmp(now.altname, alt) ? nl_link_altname_add(l->nl, l->ifindex, alt) : 0;
	if (err)
		log_warnx("%s: altname %s: %s", l->conf.name, alt, strerror(-err));
	if (strcmp(now.alias, l->conf.peer))
		nl_link_set_alias(l->nl, l->ifindex, l->conf.peer);
	l->dormant_set = now.dormant;
	if (!l->dormant_set && (now.on & ALL_ON) != ALL_ON)
		set_sysctls(l);
	return now.flags & IFF_UP ? 0 : nl_link_set_up(l->nl, l->ifindex, true);
}

int device_config(struct daemon *d, struct link *l, const struct link_conf *old, FILE *errs)
{
	int err;

	if (old) {
		if (!same_p2p(&old->address, &l->conf.address))
			set_address(d, l, &old->address, false);
		if (!same_p2p(&old->address6, &l->conf.address6))
			set_address(d, l, &old->address6, false);
		set_routes(d, l, old, false);
	}
	err = raise(d, l);
	if (err) {
		fprintf(errs, "%s: cannot set it up: %s\n", l->conf.name, strerror(-err));
		return err;
	}
	set_link_local(d, l);
	set_address(d, l, &l->conf.address, true);
	set_address(d, l, &l->conf.address6, true);
	set_routes(d, l, &l->conf, true);
	if (!old)
		vip_restore(d, l);
	return 0;
}

void device_set_mtu(struct daemon *d, struct link *l, uint32_t mtu)
{
	if (l->mtu == mtu || !l->ifindex)
		return;
	if (nl_link_set_mtu(l->nl, l->ifindex, mtu) || nl_link_set_mtu(d->nl_k, l->b_ifindex, mtu)) {
		log_warnx("%s: cannot set mtu %u: %s", l->conf.name, mtu, nl_err(l->nl));
		return;
	}
	l->mtu = mtu;
	if (l->w)
		atomic_store_explicit(&l->w->mtu, mtu, memory_order_relaxed);
}

void device_set_carrier(struct daemon *d, struct link *l, bool up)
{
	int err;

	if (!l->b_ifindex || l->carrier == up)
		return;
	err = nl_link_set_up(d->nl_k, l->b_ifindex, up);
	if (err)
		log_warnx("%s: cannot set carrier %s: %s", l->conf.name, up ? "up" : "down", strerror(-err));
	else
		l->carrier = up;
}

void device_set_dormant(struct daemon *d, struct link *l, bool dormant)
{
	struct nl_sysctl s = {.family = "ipv6", .name = "ignore_routes_with_linkdown", .value = dormant ? "0" : "1"};
	int err;

	if (!l->ifindex || l->dormant_set == dormant)
		return;
	nl_sysctls(l->nl, l->conf.name, &s, 1); /* a host without IPv6 does without */
	err = nl_link_set_dormant(l->nl, l->ifindex, dormant);
	if (err)
		log_warnx("%s: cannot set mode %s: %s", l->conf.name, dormant ? "dormant" : "default", strerror(-err));
	else
		l->dormant_set = dormant;
}

int device_del(struct daemon *d, struct link *l)
{
	return l->ifindex ? nl_link_del(l->nl, l->ifindex) : 0;
}

static void sweep_one(void *arg, const struct nl_link *ev)
{
	struct daemon *d = arg;

	if (ev->name[0] != 'b' || strcmp(ev->kind, "veth"))
		return;
	if (links_behind(d, ev->ifindex))
		return;
	log_info("%s: no link of this configuration, its device goes", ev->alias[0] ? ev->alias : ev->name);
	links_beat(d);
	nl_link_del(d->nl_k, ev->ifindex);
}

void device_sweep(struct daemon *d)
{
	nl_link_each(d->nl_k, sweep_one, d);
}
