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
	same(k, l, claim(k, l, "far %s %s", l->netns, addr_str(&p->far, far)), "the far address");
	for (unsigned int i = 0; i < l->n_paths; i++) {
		const struct path_conf *pa = &l->paths[i];

		for (int own = 0; own < 2; own++) { /* remote may be the far one, local our own */
			const struct in6_addr *inner = own ? &p->own : &p->far;

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
	if (l->liveness == LIVE_PING && !l->address.set && !l->address6.set)
		fault(k, l, "'liveness = ping' needs 'address' or 'address6' to know whom to ping");
}

static void check_ike(struct check *k, const struct link_conf *l)
{
	const struct ike_auth *a = &l->auth;
	bool psk = a->psk[0], cert = a->cert[0] || a->key[0] || a->ca[0];

	if (!l->ike[0]) {
		if (psk || cert || a->id[0] || a->peer_id[0] || a->esp[0])
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
	if (c->n_links > c->max_links)
		fault(&k, &c->links[c->max_links], "more than max-links = %u links", c->max_links);
	tdestroy(k.claims, claim_free);
	return k.errors;
}

int conf_check(const struct conf *c, FILE *errs)
{
	return conf_check_all(c, errs, NULL);
}
