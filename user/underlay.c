/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fnmatch.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "load.h"
#include "log.h"
#include "ns.h"
#include "shortcut.h"
#include "underlay.h"

struct scan {
	struct daemon *d;
	int *want;          /* ifindexes of default routes and paths */
	unsigned int n_want;
	struct underlay_dev *devs;
	unsigned int n_devs;
	struct in6_addr *addrs;
	unsigned int n_addrs;
};

static void want(struct scan *s, int ifindex)
{
	int *p;

	for (unsigned int i = 0; i < s->n_want; i++)
		if (s->want[i] == ifindex)
			return;
	p = realloc(s->want, (s->n_want + 1) * sizeof *p);
	if (!p)
		return;
	s->want = p;
	s->want[s->n_want++] = ifindex;
}

static void on_route(void *arg, const struct nl_route *r)
{
	struct scan *s = arg;

	if (!r->dst.len && r->oif && r->type == NL_RT_UNICAST)
		want(s, r->oif);
}

static bool wanted(const struct scan *s, const struct nl_link *l)
{
	const struct conf *c = &s->d->conf;

	if (l->flags & IFF_LOOPBACK)
		return false;
	for (unsigned int i = 0; i < c->n_devices; i++)
		if (!fnmatch(c->devices[i], l->name, 0))
			return true;
	for (unsigned int i = 0; c->devices_auto && i < s->n_want; i++)
		if (s->want[i] == l->ifindex)
			return true;
	return false;
}

static void on_link(void *arg, const struct nl_link *l)
{
	struct scan *s = arg;
	struct underlay_dev *p;

	if (!wanted(s, l) || links_own(s->d, l->ifindex))
		return;
	p = realloc(s->devs, (s->n_devs + 1) * sizeof *p);
	if (!p)
		return;
	s->devs = p;
	p = &s->devs[s->n_devs++];
	memset(p, 0, sizeof *p);
	p->ifindex = l->ifindex;
	p->mtu = l->mtu;
	p->veth = !strcmp(l->kind, "veth");
	memcpy(p->name, l->name, sizeof p->name);
}

/* Addresses on links are the tunnel's, not the underlay's: an envelope to one is not ours to open. */
static void on_addr(void *arg, const struct nl_addr *a)
{
	struct scan *s = arg;
	struct in6_addr *p;

	if (links_own(s->d, a->ifindex))
		return;
	p = realloc(s->addrs, (s->n_addrs + 1) * sizeof *p);
	if (!p)
		return;
	s->addrs = p;
	s->addrs[s->n_addrs++] = a->local;
}

struct attach {
	struct daemon *d;
	struct underlay_dev *dev;
	bool on;
};

/* With input = socket wire_in only helps GRO along (to_socket() there); where that is off it would
 * cost, on a veth the sender's segmentation offload. Inside the underlay netns. */
static bool gro_on(const char *name)
{
	struct ethtool_value v = {.cmd = ETHTOOL_GGRO};
	struct ifreq ifr = {.ifr_data = (void *)&v};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool on;

	snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", name);
	on = fd >= 0 && !ioctl(fd, SIOCETHTOOL, &ifr) && v.data;
	if (fd >= 0)
		close(fd);
	return on;
}

/* Has somebody asked for XDP by its name? */
static bool asked(const struct daemon *d)
{
	if (d->conf.input == INPUT_XDP)
		return true;
	for (unsigned int i = 0; i < d->max_links; i++)
		if (d->links[i] && d->links[i]->conf.input == INPUT_XDP)
			return true;
	return false;
}

static bool wants_wire(const struct daemon *d, const struct underlay_dev *u)
{
	return d->use_xdp && (!u->veth || d->intake.xdp || asked(d));
}

static int attach_inside(void *arg)
{
	struct attach *a = arg;
	struct underlay_dev *u = a->dev;
	struct load *ld = a->d->load;
	int err;

	if (!a->on) {
		load_detach_guard(ld, u->ifindex, u->name);
		load_detach_sock(ld, u->ifindex, u->name);
		return load_detach_wire(ld, u->ifindex, u->name);
	}
	err = load_attach_guard(ld, u->ifindex, u->name);
	u->guard = !err;
	load_attach_sock(ld, u->ifindex, u->name);
	if (wants_wire(a->d, u) || (!a->d->use_xdp && gro_on(u->name))) {
		u->wire_err = load_attach_wire(ld, u->ifindex, u->name);
		u->wire = a->d->use_xdp && !u->wire_err;
	} else {
		load_detach_wire(ld, u->ifindex, u->name); /* a predecessor's */
	}
	return err;
}

static void attach(struct daemon *d, struct underlay_dev *u, bool on)
{
	uint32_t most = worker_wire_mtu(d->workers[0]);
	struct attach a = {d, u, on};
	int err = ns_call(d->underlay_fd, attach_inside, &a);

	if (on && err)
		log_warnx("%s: cannot attach the cleartext guard: %s", u->name, strerror(-err));
	if (on && d->use_xdp && u->wire_err)
		log_warnx("%s: no XDP here (%s): envelopes come in through sockets", u->name, strerror(-u->wire_err));
	if (on)
		log_info("underlay device %s: guard %s, input by %s%s", u->name, u->guard ? "on" : "MISSING",
			 u->wire ? "xdp" : "socket", u->wire && u->mtu > most ? ", longest envelopes by socket" : "");
}

static struct underlay_dev *find(struct underlay_dev *v, unsigned int n, const struct underlay_dev *u)
{
	for (unsigned int i = 0; i < n; i++)
		if (v[i].ifindex == u->ifindex)
			return &v[i];
	return NULL;
}

static void keep_or_forget(struct daemon *d, struct scan *s, struct underlay_dev *u)
{
	struct underlay_dev *p;
	struct nl_link l;

	if (!nl_link_get_index(d->nl_u, u->ifindex, &l)) {
		p = realloc(s->devs, (s->n_devs + 1) * sizeof *p);
		if (!p)
			return;
		s->devs = p;
		memcpy(u->name, l.name, sizeof u->name);
		s->devs[s->n_devs++] = *u;
		return;
	}
	log_info("underlay device %s is gone", u->name);
	attach(d, u, false);
}

static void merge_devices(struct daemon *d, struct scan *s)
{
	struct underlay_dev *old;

	for (unsigned int i = 0; i < s->n_devs; i++) {
		old = find(d->underlay, d->n_underlay, &s->devs[i]);
		if (old && old->guard)
			s->devs[i] = *old;
		else
			attach(d, &s->devs[i], true);
	}
	/* a device that was an underlay device keeps its guard for as long as it exists (I1) */
	for (unsigned int i = 0; i < d->n_underlay; i++)
		if (!find(s->devs, s->n_devs, &d->underlay[i]))
			keep_or_forget(d, s, &d->underlay[i]);
	free(d->underlay);
	d->underlay = s->devs;
	d->n_underlay = s->n_devs;
}

static void merge_addresses(struct daemon *d, struct scan *s)
{
	bool keep;

	for (unsigned int i = 0; i < s->n_addrs; i++)
		load_addr_set(d->load, &s->addrs[i]);
	for (unsigned int i = 0; i < d->n_locals; i++) {
		keep = false;
		for (unsigned int k = 0; k < s->n_addrs && !keep; k++)
			keep = !memcmp(&d->locals[i], &s->addrs[k], sizeof d->locals[i]);
		if (keep)
			continue;
		load_addr_del(d->load, &d->locals[i]);
		d->routes_dirty = true; /* the kernel's state of an SA may stand there */
	}
	free(d->locals);
	d->locals = s->addrs;
	d->n_locals = s->n_addrs;
}

void underlay_addr(struct daemon *d, const struct nl_addr *a)
{
	if (!links_own(d, a->ifindex))
		load_addr_set(d->load, &a->local);
}

int underlay_refresh(struct daemon *d)
{
	struct scan s = {.d = d};
	int err = 0;

	if (d->conf.devices_auto) {
		for (unsigned int i = 0; i < d->max_links; i++)
			for (unsigned int k = 0; d->links[i] && k < d->links[i]->n_paths; k++)
				if (d->links[i]->paths[k].oif)
					want(&s, d->links[i]->paths[k].oif);
		err = nl_route_each(d->nl_u, 0, on_route, &s);
	}
	if (!err)
		err = nl_link_each(d->nl_u, on_link, &s);
	if (!err)
		err = nl_addr_each(d->nl_u, on_addr, &s);
	free(s.want);
	if (err) {
		free(s.devs);
		free(s.addrs);
		return err;
	}
	merge_devices(d, &s);
	merge_addresses(d, &s);
	return shortcut_refresh(d);
}

/* ---- virtual wires ---- */

static int wire_inside(void *arg)
{
	struct attach *a = arg;
	struct underlay_dev *u = a->dev;

	if (!a->on)
		return load_detach_wire(a->d->load, u->ifindex, u->name);
	u->wire_err = load_attach_wire(a->d->load, u->ifindex, u->name);
	return u->wire_err;
}

static struct intake_seen seen(const struct daemon *d)
{
	struct intake_seen sum = {0};
	const struct worker_stats *s;

	for (unsigned int i = 0; i < d->n_workers; i++) {
		s = worker_stats(d->workers[i]);
		sum.sock_pkts += atomic_load_explicit(&s->recv_pkts, memory_order_relaxed);
		sum.sock_msgs += atomic_load_explicit(&s->recv_msgs, memory_order_relaxed);
		sum.xdp_pkts += atomic_load_explicit(&s->wire_pkts, memory_order_relaxed);
		sum.xdp_udp += atomic_load_explicit(&s->wire_udp, memory_order_relaxed);
		sum.xdp_bytes += atomic_load_explicit(&s->wire_bytes, memory_order_relaxed);
	}
	return sum;
}

void underlay_intake(struct daemon *d, uint64_t now)
{
	struct intake_seen s = seen(d);

	if (!d->use_xdp)
		return;
	intake_tick(&d->intake, &s, now);
	for (unsigned int i = 0; i < d->n_underlay; i++) {
		struct underlay_dev *u = &d->underlay[i];
		struct attach a = {d, u, wants_wire(d, u)};

		if (a.on == u->wire || u->wire_err || !u->guard)
			continue;
		if (ns_call(d->underlay_fd, wire_inside, &a))
			continue;
		u->wire = a.on;
		log_info("underlay device %s: input by %s from now on", u->name, a.on ? "xdp" : "socket");
	}
}

bool underlay_is(const struct daemon *d, int ifindex)
{
	for (unsigned int i = 0; i < d->n_underlay; i++)
		if (d->underlay[i].ifindex == ifindex)
			return true;
	return false;
}
