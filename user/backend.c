/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include "backend.h"
#include "safile.h"
#include "xfrm.h"

const char *backend_name(enum link_backend b)
{
	static const char *const names[] = {[BACKEND_AFXDP] = "afxdp", [BACKEND_XFRM] = "xfrm", [BACKEND_AUTO] = "auto"};

	return names[b];
}

const struct backend *backend_by_id(enum link_backend b)
{
	return b == BACKEND_XFRM ? &backend_xfrm : &backend_afxdp;
}

const struct backend *backend_of(const struct link *l)
{
	return backend_by_id(l->backend);
}

static int ask_kernel(struct daemon *d)
{
	if (!d->kernel_esp.asked)
		d->kernel_esp.err = xfrm_probe(d->backend_fd, d->nl_k, d->kernel_esp.why, sizeof d->kernel_esp.why);
	d->kernel_esp.asked = true;
	return d->kernel_esp.err;
}

/* One of them at a time, all alike: what comes by any of them is for one state. */
static const char *of_several(const struct link_conf *c)
{
	const struct path_conf *first = &c->paths[0];
	unsigned int shares = 0;

	if (c->ike[0])
		return "SAs of an IKE daemon stand on one path, there are several";
	for (unsigned int i = 0; i < c->n_paths; i++) {
		const struct path_conf *p = &c->paths[i];

		shares += p->weight != 0;
		if (p->any)
			return "of several paths it learns none from packets (path = any)";
		if (p->encap != first->encap)
			return "its paths are in UDP and not, and a state is one of the two";
		if (!p->host[0] && !first->host[0] && addr_is4(&p->remote) != addr_is4(&first->remote))
			return "its paths are of both families, and a state receives in one";
	}
	return shares > 1 ? "it sends by one path at a time, and several have a weight" : NULL;
}

static const char *of_paths(const struct link_conf *c)
{
	if (c->n_paths > 1)
		return of_several(c);
	if (!c->n_paths)
		return "it has no path";
	if (c->paths[0].any && !c->ike[0] && !(c->paths[0].encap == ENCAP_UDP && c->paths[0].has_local))
		return "it learns an address from packets in UDP alone, to one of its own (path = any encap udp local ADDRESS)";
	return NULL;
}

/* Are the hosts' own addresses what the link carries? As long as one is not known yet, they may be. */
static bool shares_addresses(const struct link_conf *c)
{
	const struct p2p *a = &c->address, *a6 = &c->address6;
	bool shares = !a->set && !a6->set;

	for (unsigned int i = 0; i < c->n_paths; i++) {
		const struct path_conf *p = &c->paths[i];

		shares |= p->any || p->host[0] || (a->set && !memcmp(&a->far, &p->remote, sizeof a->far)) ||
			  (a6->set && !memcmp(&a6->far, &p->remote, sizeof a6->far));
	}
	return shares;
}

/* The rest is of_paths()'s. */
static const char *of_transport(const struct link_conf *c, const struct sels *sels)
{
	if (sels->n)
		return "in transport mode a state is for all that goes between two hosts, and an SA of its is for less (for)";
	if (c->n_paths > 1 && shares_addresses(c))
		return "in transport mode between the hosts' own addresses it has one path, there are several";
	return NULL;
}

/* What of this link only a worker does. Return: the words, NULL = nothing */
static const char *workers_only(const struct link_conf *c)
{
	char file[SA_FILE_MAX];
	enum sa_mode mode;
	struct sels sels;
	const char *at = NULL, *why;

	if (c->tfc)
		return "it pads nothing (tfc)";
	if (c->cover)
		return "it sends no dummies (cover)";
	if (c->outer.dscp_fixed || c->outer.ttl || c->outer.ttl_copy || c->outer.df == DF_SET)
		return "it takes no word on the outer header but ecn and df = copy, clear";
	if (c->ike_vips.n || c->ike_pool.n)
		return "IKE's SAs are for everything there, and virtual addresses make others (ike-vips, ike-pool)";
	if (c->liveness != LIVE_OFF && !c->address.set && !c->address6.set)
		return "liveness is by echo there, and needs address or address6";
	while ((at = link_conf_sa(c->sa_file, at, file))) {
		if (safile_peek(file, &mode, &sels))
			continue;
		why = mode == SA_TRANSPORT ? of_transport(c, &sels) : NULL;
		if (why)
			return why;
		if (sels.n > 1 || (sels.n && !xfrm_has_words(&sels.sel[0])))
			return "an SA of its has one traffic selector (for), of prefixes and, but for ICMP, ports";
	}
	return of_paths(c);
}

int backend_choose(struct daemon *d, const struct link_conf *c, enum link_backend *b, char *why, size_t len, FILE *errs)
{
	const char *cannot;

	why[0] = 0;
	*b = BACKEND_AFXDP;
	if (c->backend == BACKEND_AFXDP)
		return 0;
	cannot = ask_kernel(d) ? d->kernel_esp.why : workers_only(c);
	if (!cannot) {
		*b = BACKEND_XFRM;
		return 0;
	}
	snprintf(why, len, "%s%s", d->kernel_esp.err ? "" : "the kernel cannot carry it: ", cannot);
	if (c->backend == BACKEND_AUTO)
		return 0;
	*b = BACKEND_XFRM;
	fprintf(errs, "%s: backend = xfrm: %s; backend = auto takes the workers instead, backend = afxdp asks for them\n",
		c->name, why);
	return -EOPNOTSUPP;
}
