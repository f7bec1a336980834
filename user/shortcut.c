/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include "load.h"
#include "log.h"
#include "ns.h"
#include "shortcut.h"
#include "underlay.h"

struct scan {
	struct daemon *d;
	struct shortcut_dev *devs;
	unsigned int n;
	int err;
};

static bool named(const struct conf *c, const char *name)
{
	for (unsigned int i = 0; i < c->n_shortcut; i++)
		if (!fnmatch(c->shortcut[i], name, 0))
			return true;
	return false;
}

static struct shortcut_dev *find(struct daemon *d, int ifindex)
{
	for (unsigned int i = 0; i < d->n_shortcut; i++)
		if (d->shortcut[i].ifindex == ifindex)
			return &d->shortcut[i];
	return NULL;
}

/* A sender on the same machine leaves checksums to the device; a frame of XDP does not say so. */
static bool unfinished(const struct nl_link *l)
{
	return !strcmp(l->kind, "veth") || !strcmp(l->kind, "tun");
}

static int attach(struct daemon *d, const struct nl_link *l)
{
	int err = load_attach_lan(d->load, l->ifindex, l->name);

	if (err)
		log_warnx("%s: no shortcut here (%s): its packets take the stack", l->name,
			  err == -EBUSY ? "another XDP program is attached" : strerror(-err));
	else
		log_info("%s: packets into links skip the stack, the FORWARD chain with it", l->name);
	return err;
}

static void add(struct scan *s, const struct nl_link *l)
{
	struct lan_ent e = {.flags = unfinished(l) ? LAN_F_UNFINISHED : 0};
	struct shortcut_dev *p = realloc(s->devs, (s->n + 1) * sizeof *p), *was = find(s->d, l->ifindex);

	if (!p) {
		s->err = -ENOMEM;
		return;
	}
	s->devs = p;
	p = &s->devs[s->n++];
	*p = (struct shortcut_dev){.ifindex = l->ifindex};
	memcpy(p->name, l->name, sizeof p->name);
	memcpy(e.mac, l->mac, sizeof e.mac);
	p->err = load_lan_set(s->d->load, l->ifindex, &e); /* a device may change its address */
	if (!p->err)
		p->err = was ? was->err : attach(s->d, l);
}

static void on_link(void *arg, const struct nl_link *l)
{
	struct scan *s = arg;
	struct daemon *d = s->d;

	if (l->flags & IFF_LOOPBACK || links_own(d, l->ifindex))
		return;
	if (named(&d->conf, l->name) && !underlay_is(d, l->ifindex))
		add(s, l);
}

/* What has an entry and is wanted no more: ours until now, or a predecessor's. */
static void on_entry(void *arg, uint32_t ifindex)
{
	struct scan *s = arg;

	for (unsigned int i = 0; i < s->n; i++)
		if (s->devs[i].ifindex == (int)ifindex)
			return;
	load_lan_del(s->d->load, ifindex);
	load_detach_lan(s->d->load, ifindex);
}

static int refresh_inside(void *arg)
{
	struct scan *s = arg;
	int err = nl_link_each(s->d->nl_u, on_link, s);

	if (!err)
		err = s->err;
	if (!err)
		load_lan_each(s->d->load, on_entry, s);
	return err;
}

int shortcut_refresh(struct daemon *d)
{
	struct scan s = {.d = d};
	int err;

	if (!d->conf.n_shortcut && d->shortcut_known && !d->n_shortcut)
		return 0;
	err = ns_call(d->underlay_fd, refresh_inside, &s);
	if (err) {
		free(s.devs);
		return err;
	}
	free(d->shortcut);
	d->shortcut = s.devs;
	d->n_shortcut = s.n;
	d->shortcut_known = true;
	return 0;
}
