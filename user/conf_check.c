/* SPDX-License-Identifier: GPL-2.0-or-later */
/* conf_check - what no single line of the configuration can show. */
#include <search.h>
#include <stdarg.h>
#include <stdlib.h>
#include "conf_int.h"
#include "safile.h"

/* struct claim - one link says that a thing is its own */
struct claim {
	char *thing;
	const struct link_conf *l;
};

/* struct check - a pass over all links */
struct check {
	const struct conf *c;
	FILE *errs;
	const uint64_t
		*mentioned; /* per link: keys that occurred, also with bad values; NULL = unknown */
	void *claims;       /* tsearch(3) tree of struct claim */
	int errors;
};

__attribute__((format(printf, 3, 4))) static void fault(struct check *k, const struct link_conf *l,
							const char *fmt, ...)
{
	va_list ap;

	k->errors++;
	if (!k->errs)
		return;
	if (l->src_file[0])
		fprintf(k->errs, "%s:%d: ", l->src_file, l->src_line);
	fprintf(k->errs, "link %s: ", l->name);
	va_start(ap, fmt);
	vfprintf(k->errs, fmt, ap);
	va_end(ap);
	fputc('\n', k->errs);
}

static int claim_cmp(const void *a, const void *b)
{
	return strcmp(((const struct claim *)a)->thing, ((const struct claim *)b)->thing);
}

static void claim_free(void *p)
{
	free(((struct claim *)p)->thing);
	free(p);
}

/* Who has it? l when it is new (or there is no memory to know). */
__attribute__((format(printf, 3, 4))) static const struct link_conf *
claim(struct check *k, const struct link_conf *l, const char *fmt, ...)
{
	struct claim *cl = calloc(1, sizeof *cl), **found;
	const struct link_conf *owner = l;
	va_list ap;
	int n;

	if (!cl)
		return l;
	va_start(ap, fmt);
	n = vasprintf(&cl->thing, fmt, ap);
	va_end(ap);
	cl->l = l;
	found = n < 0 ? NULL : tsearch(cl, &k->claims, claim_cmp);
	if (!found || *found != cl) {
		owner = found ? (*found)->l : l;
		if (n < 0)
			cl->thing = NULL;
		claim_free(cl);
	}
	return owner;
}

static void same(struct check *k, const struct link_conf *l, const struct link_conf *other,
		 const char *what)
{
	if (other == l)
		return;
	if (other->src_file[0])
		fault(k, l, "%s is already that of link %s (%s:%d)", what, other->name,
		      other->src_file, other->src_line);
	else
		fault(k, l, "%s is already that of link %s", what, other->name);
}

static bool same_addr(const struct in6_addr *a, const struct in6_addr *b)
{
	return !memcmp(a, b, sizeof *a);
}

/*
 * Why an inner address may not be an outer one as well: raw packets and envelopes could not be routed
 * apart. In transport mode there is no inner header, and a mark on the envelopes does it (seed, section
 * 5). Return: the rest of the sentence, NULL when it may.
 */
static const char *why_distinct(const struct link_conf *l, const struct path_conf *pa)
{
	char file[SA_FILE_MAX];
	enum sa_mode mode;

	if (!link_conf_sa(l->sa_file, NULL, file))
		return "";
	if (safile_peek(file, &mode, NULL))
		return " (transport mode could share it; the SA file cannot be read)";
	if (mode != SA_TRANSPORT)
		return " (only transport mode shares them)";
	if (!pa->fwmark)
		return ": in transport mode that path needs a fwmark, and a rule for it, or envelopes "
		       "are routed into the link again";
	return NULL;
}

static void distinct(struct check *k, const struct link_conf *l, const struct path_conf *pa,
		     const struct in6_addr *outer, bool shareable, const char *what)
{
	const char *why = shareable ? why_distinct(l, pa) : "";
	char buf[INET6_ADDRSTRLEN];

	if (why)
		fault(k, l, "%s: %s is both%s", what, addr_str(outer, buf), why);
}

/* Far addresses are what tells links apart to a routing daemon (seed, conclusion 2); own ones may
 * repeat. */
static void check_p2p(struct check *k, const struct link_conf *l, const struct p2p *p)
{
	static const char rule[] = "inner and outer addresses must be distinct";
	char far[INET6_ADDRSTRLEN];

	if (!p->set)
		return;
	if (p2p_has_far(p))
		same(k, l, claim(k, l, "far %s %s", l->netns, addr_str(&p->far, far)), "the far address");
	for (unsigned int i = 0; i < l->n_paths; i++) {
		const struct path_conf *pa = &l->paths[i];

		for (int own = 0; own < 2; own++) { /* remote may be the far one, local our own */
			const struct in6_addr *inner = own ? &p->own : &p->far;

			if (IN6_IS_ADDR_UNSPECIFIED(inner))
				continue;
			if (conf_path_literal(pa) && same_addr(inner, &pa->remote))
				distinct(k, l, pa, &pa->remote, !own, rule);
			if (pa->has_local && same_addr(inner, &pa->local))
				distinct(k, l, pa, &pa->local, own, rule);
		}
	}
}

/* Cleartext to the peer's own address is deliberate (seed 3.2), so protecting just that is a mistake. */
static void check_protect(struct check *k, const struct link_conf *l)
{
	for (unsigned int i = 0; i < l->protect.n; i++) {
		const struct prefix *p = &l->protect.p[i];

		for (unsigned int j = 0; j < l->n_paths; j++)
			if (p->len == (p->is4 ? 32 : 128) && conf_path_literal(&l->paths[j]) &&
			    same_addr(&p->addr, &l->paths[j].remote))
				distinct(k, l, &l->paths[j], &p->addr, true,
					 "what is protected cannot be the peer's own address");
	}
}

/* After all far addresses are claimed. */
static void check_own(struct check *k, const struct link_conf *l, const struct p2p *p)
{
	char own[INET6_ADDRSTRLEN];
	struct claim want = {.l = l}, **found;

	if (!p->set || asprintf(&want.thing, "far %s %s", l->netns, addr_str(&p->own, own)) < 0)
		return;
	found = tfind(&want, &k->claims, claim_cmp);
	free(want.thing);
	if (found)
		fault(k, l, "its own address %s is the far address of link %s", own,
		      (*found)->l->name);
}

static void check_missing(struct check *k, const struct link_conf *l, uint64_t mentioned)
{
	if (!l->peer[0] && !(mentioned & 1u << KEY_PEER))
		fault(k, l, "'peer' is missing: give the far end a name, as peer = east");
	if (!l->n_paths && !(mentioned & 1u << KEY_PATH))
		fault(k, l,
		      "'path' is missing: where do envelopes go? as path = 198.51.100.7, or path = "
		      "any");
	if (l->liveness == LIVE_PING && !p2p_has_far(&l->address) && !p2p_has_far(&l->address6))
		fault(k, l, "'liveness = ping' needs 'address' or 'address6' to know whom to ping");
}

static void check_ike(struct check *k, const struct link_conf *l)
{
	const struct ike_auth *a = &l->auth;
	bool psk = a->psk[0], cert = a->cert[0] || a->key[0] || a->ca[0];

	if (!l->ike[0]) {
		if (psk || cert || a->id[0] || a->peer_id[0] || a->esp[0] || a->start == IKE_START_DEMAND || a->idle_s)
			fault(k, l, "ike-... without 'ike': name the connection, as ike = %s", l->peer[0] ? l->peer : "east");
		return;
	}
	same(k, l, claim(k, l, "ike %s", l->ike), "the IKE connection");
	if (!l->number)
		fault(k, l, "IKE knows links by their number, and 0 means none: call it ipsec1 or higher");
	if (psk && cert)
		fault(k, l, "ike-psk and certificates are one choice");
	if (cert && !(a->cert[0] && a->key[0] && a->ca[0]))
		fault(k, l, "certificates need all of ike-cert, ike-key and ike-ca");
	if (psk && !a->peer_id[0] && l->n_paths && !conf_path_literal(&l->paths[0]))
		fault(k, l, "'ike-peer-id' must say whose secret it is: the path names no address");
	if (cert && !a->peer_id[0])
		fault(k, l, "with certificates 'ike-peer-id' must say whose: else anybody with one of that CA would do");
}

static bool among(const struct prefixes *l, const struct in6_addr *a)
{
	for (unsigned int i = 0; i < l->n; i++)
		if (prefix_match(&l->p[i], a))
			return true;
	return false;
}

static bool of_family(const struct prefixes *l, bool is4)
{
	for (unsigned int i = 0; i < l->n; i++)
		if (l->p[i].is4 == is4)
			return true;
	return false;
}

/* What is given away must be nobody's yet. */
static void check_vips(struct check *k, const struct link_conf *l)
{
	const struct p2p *both[2] = {&l->address, &l->address6};
	char buf[INET6_ADDRSTRLEN];

	if (!l->ike[0] && (l->ike_vips.n || l->ike_pool.n))
		fault(k, l, "virtual addresses are IKE's to give: name the connection, as ike = %s", l->peer[0] ? l->peer : "east");
	if (l->ike_vips.n && l->ike_pool.n)
		fault(k, l, "'ike-vips' asks for addresses, 'ike-pool' gives them: one end does the one, the other the other");
	for (int i = 0; i < 2; i++) {
		const struct p2p *p = both[i];

		if (p->set && !p2p_has_far(p) && !of_family(&l->ike_pool, !i))
			fault(k, l, "the peer's address is missing: %s peer FAR, or an ike-pool of that family", addr_str(&p->own, buf));
		if (p->set && among(&l->ike_pool, &p->own))
			fault(k, l, "its own address %s lies in its ike-pool and would be given away", addr_str(&p->own, buf));
	}
}

/* struct pool - one link's */
struct pool {
	struct prefix p;
	const struct link_conf *l;
};

static int cmp_pool(const void *x, const void *y)
{
	const struct pool *a = x, *b = y;
	int d = memcmp(&a->p.addr, &b->p.addr, sizeof a->p.addr);

	return d ? d : (int)a->p.len - (int)b->p.len;
}

static void check_far_in_pool(struct check *k, const struct link_conf *l, const struct p2p *p, const struct pool *v, size_t n)
{
	char buf[INET6_ADDRSTRLEN];

	for (size_t i = 0; p2p_has_far(p) && i < n; i++) {
		if (!prefix_match(&v[i].p, &p->far) || v[i].p.is4 != addr_is4(&p->far))
			continue;
		fault(k, l, "the far address %s lies in the ike-pool of link %s and would be given away", addr_str(&p->far, buf), v[i].l->name);
		return;
	}
}

/* Links may share a pool: then it is one. Two that overlap are two to strongSwan, and give the same address twice. */
static void check_pools(struct check *k)
{
	char a[INET6_ADDRSTRLEN + 4], b[INET6_ADDRSTRLEN + 4];
	size_t n = 0;
	struct pool *v;

	for (unsigned int i = 0; i < k->c->n_links; i++)
		n += k->c->links[i].ike_pool.n;
	v = n ? calloc(n, sizeof *v) : NULL;
	if (!v)
		return;
	n = 0;
	for (unsigned int i = 0; i < k->c->n_links; i++)
		for (unsigned int j = 0; j < k->c->links[i].ike_pool.n; j++)
			v[n++] = (struct pool){k->c->links[i].ike_pool.p[j], &k->c->links[i]};
	qsort(v, n, sizeof *v, cmp_pool);
	for (size_t i = 1, wide = 0; i < n; i++) {
		if (!prefix_contains(&v[wide].p, &v[i].p))
			wide = i;
		else if (!prefix_same(&v[wide].p, &v[i].p))
			fault(k, v[i].l, "ike-pool %s overlaps %s of link %s: the same addresses would be given twice", prefix_str(&v[i].p, a),
			      prefix_str(&v[wide].p, b), v[wide].l->name);
	}
	for (unsigned int i = 0; i < k->c->n_links; i++) {
		check_far_in_pool(k, &k->c->links[i], &k->c->links[i].address, v, n);
		check_far_in_pool(k, &k->c->links[i], &k->c->links[i].address6, v, n);
	}
	free(v);
}

static bool knows_peer(const struct link_conf *l)
{
	for (unsigned int i = 0; i < l->n_paths; i++)
		if (!l->paths[i].any)
			return true;
	return !l->n_paths;
}

static void check_demand(struct check *k, const struct link_conf *l)
{
	bool demand = l->auth.start == IKE_START_DEMAND;

	if (demand && !knows_peer(l))
		fault(k, l, "'ike-start = on-demand' needs to know where the peer is: a path with an address or a name");
	if (demand && (l->ike_vips.n || l->ike_pool.n))
		fault(k, l, "'ike-start = on-demand' goes without virtual addresses: the first packet would need one");
	if (l->auth.idle_s && l->auth.start == IKE_START_YES)
		fault(k, l, "'ike-idle' ends what 'ike-start = yes' begins: make that on-demand, or no");
}

static void check_offload(struct check *k, const struct link_conf *l)
{
	if (l->offload != OFFLOAD_OFF && l->backend == BACKEND_AFXDP)
		fault(k, l, "'offload' is asked of the kernel, and workers have this link: backend = xfrm or auto, or offload = off");
}

static void check_link(struct check *k, const struct link_conf *l, uint64_t mentioned)
{
	char file[SA_FILE_MAX];
	const char *at = NULL;

	check_missing(k, l, mentioned);
	same(k, l, claim(k, l, "name %s", l->name), "the name");
	if (l->peer[0])
		same(k, l, claim(k, l, "peer %s", l->peer),
		     "the peer name (two links to one host: peer = east-2)");
	while ((at = link_conf_sa(l->sa_file, at, file)))
		same(k, l, claim(k, l, "sa %s", file), "the SA file");
	check_ike(k, l);
	check_vips(k, l);
	check_demand(k, l);
	check_offload(k, l);
	check_p2p(k, l, &l->address);
	check_p2p(k, l, &l->address6);
	check_protect(k, l);
}

int conf_check_all(const struct conf *c, FILE *errs, const uint64_t *mentioned)
{
	struct check k = {.c = c, .errs = errs, .mentioned = mentioned};

	for (unsigned int i = 0; i < c->n_links; i++)
		check_link(&k, &c->links[i], mentioned ? mentioned[i] : 0);
	for (unsigned int i = 0; i < c->n_links; i++) {
		check_own(&k, &c->links[i], &c->links[i].address);
		check_own(&k, &c->links[i], &c->links[i].address6);
	}
	check_pools(&k);
	if (c->n_links > c->max_links)
		fault(&k, &c->links[c->max_links], "more than max-links = %u links", c->max_links);
	tdestroy(k.claims, claim_free);
	return k.errors;
}

int conf_check(const struct conf *c, FILE *errs)
{
	return conf_check_all(c, errs, NULL);
}
