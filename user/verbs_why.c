/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * why, mtu: what would happen to a packet, by the control plane's own knowledge.
 *
 * `why` asks the kernel's FIB in the workload namespace, then follows link, SA and path as the
 * classifier and the worker would. No packet is sent; the BPF programs are not run.
 */
#include <errno.h>
#include <stdlib.h>
#include "path.h"
#include "sad.h"
#include "saset.h"
#include "verbs_int.h"

/* What a path leaves for the raw packet. Return: bytes, 0 = the path's MTU is not known. */
static uint32_t inner_max(const struct link *l, unsigned int i, uint32_t *outer_ip)
{
	const struct link_path *p = &l->paths[i];
	struct in6_addr a;
	uint16_t port;

	*outer_ip = verbs_remote(l, i, &a, &port) && !addr_is4(&a) ? IP6_HDR_LEN : IP4_HDR_LEN;
	return path_raw_max(l, p->mtu, *outer_ip == IP4_HDR_LEN, p->conf.encap == ENCAP_UDP);
}

/* ---- mtu ---- */

static json_t *mtu_path(const struct link *l, unsigned int i)
{
	json_t *o = verbs_path(l, i, true);
	uint32_t outer_ip, max = inner_max(l, i, &outer_ip);
	const struct esp_layout suite = sad_layout(l);
	const struct link_path *p = &l->paths[i];
	uint64_t now = now_ns();

	vj_put(o, "dev_mtu", p->dev_mtu ? json_integer(p->dev_mtu) : NULL);
	vj_put(o, "route_mtu", p->route_mtu ? json_integer(p->route_mtu) : NULL);
	vj_put(o, "told_mtu", p->told_mtu ? json_integer(p->told_mtu) : NULL);
	vj_put(o, "told_for_s", p->told_mtu ? json_integer((MAX(p->told_until_ns, now) - now + 999999999) / 1000000000) : NULL);
	vj_int(o, "outer_ip", outer_ip);
	vj_int(o, "udp", l->paths[i].conf.encap == ENCAP_UDP ? UDP_HDR_LEN : 0);
	vj_int(o, "spare", path_spare(l, outer_ip == IP4_HDR_LEN));
	vj_int(o, "esp", ESP_HDR_LEN);
	vj_int(o, "iv", suite.iv_len);
	vj_int(o, "trailer", ESP_TRAILER_LEN);
	vj_int(o, "align", suite.align);
	vj_int(o, "icv", suite.icv_len);
	vj_put(o, "inner_max", max ? json_integer(max) : NULL);
	return o;
}

json_t *verb_mtu(struct verbs *v, json_t *args)
{
	const char *name = vj_arg(args, "name");
	const struct link *l = name ? links_by_name(v->d, name) : NULL;
	json_t *r, *a;

	if (!l)
		return verbs_no_link(name);
	r = vj_ok(v);
	a = json_array();
	for (unsigned int i = 0; i < l->n_paths; i++)
		json_array_append_new(a, mtu_path(l, i));
	vj_str(r, "name", l->conf.name);
	vj_str(r, "peer", l->conf.peer);
	vj_int(r, "mtu", l->mtu);
	vj_put(r, "configured", l->conf.mtu ? json_integer(l->conf.mtu) : NULL);
	vj_int(r, "floor", MTU_MIN);
	vj_put(r, "paths", a);
	return r;
}

/* ---- why ---- */

struct query {
	struct in6_addr src, dst;
	bool has_src;
	uint8_t proto;
	uint16_t dport;
	uint32_t size; /* 0 = not asked */
	char netns[NETNS_NAME_MAX];
};

struct answer {
	struct nl_route route;
	int route_err;
	bool forwarded; /* src is not ours: looked up without it */
	char dev[IFNAMSIZ];
	const struct link *link;
	const struct sa *sa;
	const char *verdict, *reason;
	char text[256];
};

static uint8_t proto_number(const char *s)
{
	if (!s)
		return 0;
	return !strcmp(s, "tcp")    ? IPPROTO_TCP
	       : !strcmp(s, "udp")  ? IPPROTO_UDP
	       : !strcmp(s, "icmp") ? IPPROTO_ICMP
				    : (uint8_t)atoi(s);
}

static int read_query(json_t *args, struct query *q)
{
	const char *src = vj_arg(args, "src"), *dst = vj_arg(args, "dst"),
		   *ns = vj_arg(args, "netns");

	memset(q, 0, sizeof *q);
	if (!src || !dst || addr_parse(dst, &q->dst) || addr_parse(src, &q->src))
		return -EINVAL;
	if (addr_is4(&q->src) != addr_is4(&q->dst))
		return -EAFNOSUPPORT;
	q->has_src = true;
	q->proto = proto_number(vj_arg(args, "proto"));
	q->dport = (uint16_t)json_integer_value(json_object_get(args, "dport"));
	q->size = (uint32_t)json_integer_value(json_object_get(args, "size"));
	snprintf(q->netns, sizeof q->netns, "%s", ns ? ns : "");
	return 0;
}

/* The namespace the packet starts in: the underlay's, or one that a link is configured into. */
static struct nl *netns_of(const struct daemon *d, const char *netns)
{
	if (!*netns)
		return d->nl_u;
	for (unsigned int i = 0; i < d->max_links; i++)
		if (d->links[i] && !strcmp(d->links[i]->conf.netns, netns))
			return d->links[i]->nl;
	return NULL;
}

static const struct link *link_by_ifindex(const struct daemon *d, const char *netns, int ifindex)
{
	for (unsigned int i = 0; i < d->max_links; i++)
		if (d->links[i] && d->links[i]->ifindex == ifindex &&
		    !strcmp(d->links[i]->conf.netns, netns))
			return d->links[i];
	return NULL;
}

/*
 * The output lookup refuses a source that is not ours as it does a missing route (-ENETUNREACH,
 * some kernels -EINVAL): found without it, the packet is a forwarded one. `from` rules are not seen
 * then.
 */
static void look_up(struct nl *nl, const struct query *q, struct answer *a)
{
	struct nl_link dev;

	a->route_err = nl_route_get(nl, &q->dst, &q->src, 0, q->proto, q->dport, &a->route);
	if (a->route_err) {
		a->route_err = nl_route_get(nl, &q->dst, NULL, 0, q->proto, q->dport, &a->route);
		a->forwarded = !a->route_err;
	}
	if (!a->route_err && !nl_link_get_index(nl, a->route.oif, &dev))
		snprintf(a->dev, sizeof a->dev, "%s", dev.name);
}

__attribute__((format(printf, 4, 5))) static void decide(struct answer *a, const char *verdict,
							 const char *reason, const char *fmt, ...)
{
	va_list ap;

	a->verdict = verdict;
	a->reason = reason;
	va_start(ap, fmt);
	vsnprintf(a->text, sizeof a->text, fmt, ap);
	va_end(ap);
}

static const struct link *protector(const struct daemon *d, const struct in6_addr *dst)
{
	for (unsigned int i = 0; i < d->max_links; i++) {
		const struct link *l = d->links[i];

		for (unsigned int k = 0; l && k < l->conf.protect.n; k++)
			if (prefix_match(&l->conf.protect.p[k], dst))
				return l;
	}
	return NULL;
}

static void judge_elsewhere(const struct daemon *d, const struct query *q, struct answer *a)
{
	const struct link *l = protector(d, &q->dst);

	if (a->route_err && l)
		decide(a, "drop", "no-route",
		       "no route, and %s protects it: the floor route says unreachable",
		       l->conf.name);
	else if (a->route_err)
		decide(a, "drop", "no-route", "the routing tables have no way there: %s",
		       strerror(-a->route_err));
	else if (l)
		decide(a, "drop", "guard-cleartext",
		       "routed to %s, but %s protects it: never in the clear", a->dev,
		       l->conf.name);
	else
		decide(a, "clear", NULL, "routed to %s, which is no link; no link protects it",
		       a->dev);
}

static void judge_link(const struct link *l, const struct query *q, struct answer *a)
{
	const struct link_path *p = l->cur_path < l->n_paths ? &l->paths[l->cur_path] : NULL;
	struct in6_addr remote;
	uint16_t port;

	if (!l->admin_up)
		decide(a, "drop", "link-down", "%s is taken down: ipsecctl link up %s",
		       l->conf.name, l->conf.name);
	else if (!a->sa && l->out)
		decide(a, "drop", "selector", "no SA of %s is for such a packet: ipsecctl sa list %s", l->conf.name, l->conf.name);
	else if (!a->sa && l->dormant)
		decide(a, "drop", "no-sa", "%s has no SA, and this packet has one made; what follows it goes", l->conf.name);
	else if (!a->sa)
		decide(a, "drop", "no-sa", "%s has no SA to send with: ipsecctl sa list",
		       l->conf.name);
	else if (!p || !verbs_remote(l, l->cur_path, &remote, &port))
		decide(a, "drop", "no-route", "the peer's outer address is not known yet");
	else if (p->loop)
		decide(a, "drop", "route-loop", "the envelope would be routed into a tunnel again");
	else if (p->error)
		decide(a, "drop", "no-route", "no route for the envelope: %s",
		       strerror(abs(p->error)));
	else if (q->size > l->mtu && l->mtu)
		decide(a, "too-big", "df-too-big",
		       "%u bytes do not fit: answered with too-big, mtu %u, or fragmented", q->size,
		       l->mtu);
	else if (!l->up)
		decide(a, "encrypt", link_reason_name(l->reason),
		       "encrypted and sent, but the link is down: %s", link_reason_text(l->reason));
	else
		decide(a, "encrypt", NULL, "encrypted and sent");
}

static json_t *json_route(const struct answer *a)
{
	json_t *o = json_object();
	static const struct in6_addr unset;

	vj_bool(o, "found", !a->route_err);
	vj_str(o, "error", a->route_err ? strerror(-a->route_err) : NULL);
	vj_str(o, "dev", a->dev);
	vj_addr(o, "via", a->route_err || !a->route.has_via ? &unset : &a->route.via);
	vj_addr(o, "src", a->route_err || !a->route.has_src ? &unset : &a->route.src);
	vj_int(o, "mtu", a->route_err ? 0 : a->route.mtu);
	vj_bool(o, "forwarded", a->forwarded);
	return o;
}

static json_t *json_why_link(const struct link *l)
{
	json_t *o = json_object();

	vj_str(o, "name", l->conf.name);
	vj_str(o, "peer", l->conf.peer);
	vj_str(o, "state", link_state_name(l));
	vj_str(o, "reason", link_reason_name(l->reason));
	vj_str(o, "reason_text", link_reason_text(l->reason));
	return o;
}

static json_t *json_why_sa(const struct sa *s)
{
	json_t *o = json_object();

	vj_hex(o, "spi", s->spi, 8);
	vj_str(o, "alg", verbs_alg(s->alg));
	vj_bool(o, "esn", s->esn);
	vj_int(o, "seq", s->ctr ? LOAD(s->ctr->top) : 0);
	return o;
}

static json_t *json_size(const struct link *l, uint32_t size)
{
	json_t *o = json_object();
	uint32_t outer_ip,
		max = l->cur_path < l->n_paths ? inner_max(l, l->cur_path, &outer_ip) : 0;

	vj_put(o, "bytes", size ? json_integer(size) : NULL);
	vj_int(o, "link_mtu", l->mtu);
	vj_put(o, "inner_max", max ? json_integer(max) : NULL);
	vj_put(o, "fits", size ? json_boolean(size <= l->mtu) : NULL);
	return o;
}

static json_t *why_reply(struct verbs *v, const struct query *q, const struct answer *a)
{
	const struct link *l = a->link;
	json_t *r = vj_ok(v);

	vj_addr(r, "src", &q->src);
	vj_addr(r, "dst", &q->dst);
	vj_str(r, "netns", q->netns);
	vj_put(r, "route", json_route(a));
	vj_put(r, "link", l ? json_why_link(l) : NULL);
	vj_put(r, "sa", a->sa ? json_why_sa(a->sa) : NULL);
	vj_put(r, "path", l && l->cur_path < l->n_paths ? verbs_path(l, l->cur_path, true) : NULL);
	vj_put(r, "size", l ? json_size(l, q->size) : NULL);
	vj_str(r, "verdict", a->verdict);
	vj_str(r, "reason", a->reason);
	vj_str(r, "text", a->text);
	return r;
}

static const struct sa *sa_for(const struct link *l, const struct query *q)
{
	struct sel_flow f = {.src = q->src, .dst = q->dst, .proto = q->proto, .dport = q->dport, .has_ports = q->dport};

	return saset_out(l, &f);
}

json_t *verb_why(struct verbs *v, json_t *args)
{
	struct answer a = {0};
	struct query q;
	struct nl *nl;

	if (read_query(args, &q))
		return verbs_error(EXIT_USAGE, "bad-address", "ipsecctl why 10.1.0.5 10.2.0.9",
				   "why wants two addresses of one family");
	nl = netns_of(v->d, q.netns);
	if (!nl)
		return verbs_error(EXIT_NOT_FOUND, "no-such-netns", NULL,
				   "no link lives in a namespace called %s", q.netns);
	look_up(nl, &q, &a);
	if (!a.route_err)
		a.link = link_by_ifindex(v->d, q.netns, a.route.oif);
	if (a.link)
		a.sa = sa_for(a.link, &q);
	if (a.link)
		judge_link(a.link, &q, &a);
	else
		judge_elsewhere(v->d, &q, &a);
	return why_reply(v, &q, &a);
}
