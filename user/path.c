/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include "ipsec_wire.h"
#include "log.h"
#include "ns.h"
#include "path.h"
#include "sad.h"

enum { DNS_OK_S = 60, DNS_RETRY_S = 5, TOLD_S = 600 /* RFC 1191 6.3, RFC 8201 4 */ };

/* ---- DNS ---- */

/* struct lookup - shared by the control thread and one detached resolver thread; the last one frees */
struct path_dns {
	char host[HOST_MAX];
	int netns_fd;
	struct in6_addr answer;
	int error;
	_Atomic bool done;
	_Atomic int refs;
	uint64_t due_ns;
	bool running;
};

static void unref(struct path_dns *q)
{
	if (atomic_fetch_sub(&q->refs, 1) == 1)
		free(q);
}

static void *resolve(void *arg)
{
	struct path_dns *q = arg;
	struct addrinfo hints = {.ai_socktype = SOCK_DGRAM}, *res = NULL;
	int saved = ns_enter(q->netns_fd);

	q->error = getaddrinfo(q->host, NULL, &hints, &res);
	if (!q->error && res->ai_family == AF_INET)
		q->answer = addr_from4(((struct sockaddr_in *)res->ai_addr)->sin_addr);
	else if (!q->error)
		q->answer = ((struct sockaddr_in6 *)res->ai_addr)->sin6_addr;
	if (res)
		freeaddrinfo(res);
	ns_restore(saved);
	atomic_store(&q->done, true);
	unref(q);
	return NULL;
}

static void ask(struct path_dns *q)
{
	pthread_attr_t attr;
	pthread_t t;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	atomic_store(&q->done, false);
	atomic_fetch_add(&q->refs, 1);
	q->running = !pthread_create(&t, &attr, resolve, q);
	if (!q->running)
		unref(q);
	pthread_attr_destroy(&attr);
	q->due_ns = now_ns() + DNS_RETRY_S * 1000000000ull;
}

static bool collect(struct link *l, struct link_path *p)
{
	struct path_dns *q = p->dns;

	if (!q->running || !atomic_load(&q->done))
		return false;
	q->running = false;
	if (q->error) {
		log_rl("%s: cannot resolve '%s': %s; trying again", l->conf.name, q->host, gai_strerror(q->error));
		return false;
	}
	q->due_ns = now_ns() + DNS_OK_S * 1000000000ull;
	/* a learned address is newer than what DNS says while the peer is heard */
	if (!memcmp(&p->remote, &q->answer, sizeof q->answer) || (p->learned && l->up))
		return false;
	p->remote = q->answer;
	p->learned = false;
	return true;
}

bool path_tick(struct daemon *d, struct link *l)
{
	bool changed = false;

	for (unsigned int i = 0; i < l->n_paths; i++) {
		struct link_path *p = &l->paths[i];

		if (!p->conf.host[0])
			continue;
		if (!p->dns) {
			p->dns = calloc(1, sizeof *p->dns);
			if (!p->dns)
				continue;
			memcpy(p->dns->host, p->conf.host, sizeof p->dns->host);
			p->dns->netns_fd = d->underlay_fd;
			p->dns->refs = 1;
		}
		changed |= collect(l, p);
		if (!p->dns->running && now_ns() >= p->dns->due_ns)
			ask(p->dns);
	}
	return changed;
}

/* ---- routes ---- */

/* IKE's word stands above the line's. */
static bool same_path(const struct link_path *old, const struct path_conf *b)
{
	const struct path_conf *a = &old->conf;

	return a->any == b->any && !strcmp(a->host, b->host) && !memcmp(&a->remote, &b->remote, sizeof a->remote) &&
	       (old->by_ike || a->encap == b->encap) && a->port == b->port;
}

void path_init(struct link *l)
{
	struct link_path old[PATHS_MAX];
	unsigned int n_old = l->n_paths;

	memcpy(old, l->paths, sizeof old);
	memset(l->paths, 0, sizeof l->paths);
	l->n_paths = l->conf.n_paths;
	l->cur_path = 0;
	for (unsigned int i = 0; i < l->n_paths; i++) {
		struct link_path *p = &l->paths[i];

		p->conf = l->conf.paths[i];
		if (!p->conf.any && !p->conf.host[0])
			p->remote = p->conf.remote;
		/* what was learned or resolved stays true while the line is the same */
		if (i < n_old && same_path(&old[i], &p->conf)) {
			if (old[i].by_ike && l->conf.ike[0]) {
				p->by_ike = true;
				p->conf.encap = old[i].conf.encap;
			}
			p->remote = old[i].remote;
			p->learned = old[i].learned;
			p->port = old[i].port;
			p->told_mtu = old[i].told_mtu;
			p->told_of = old[i].told_of;
			p->told_until_ns = old[i].told_until_ns;
			p->dns = old[i].dns;
			old[i].dns = NULL;
		}
	}
	for (unsigned int i = 0; i < n_old; i++)
		if (old[i].dns)
			unref(old[i].dns);
}

bool path_from_ike(struct link *l, const struct in6_addr *remote, uint16_t port, enum encap encap)
{
	unsigned int i, any = l->cur_path;
	struct link_path *p;

	if (!l->n_paths)
		return false;
	for (i = 0; i < l->n_paths && memcmp(&l->paths[i].remote, remote, sizeof *remote); i++)
		if (l->paths[i].conf.any && !l->paths[i].learned)
			any = i;
	p = &l->paths[i < l->n_paths ? i : any];
	if (i == l->cur_path && p->by_ike && p->port == port && p->conf.encap == encap)
		return false;
	p->remote = *remote;
	p->port = port;
	p->conf.encap = encap;
	p->learned = p->by_ike = true;
	l->cur_path = p - l->paths;
	return true;
}

void path_free(struct link *l)
{
	for (unsigned int i = 0; i < l->n_paths; i++) {
		if (l->paths[i].dns)
			unref(l->paths[i].dns);
		l->paths[i].dns = NULL;
	}
}

/* Effective MTU. Return: true when it changed */
static bool add_up(struct link *l, unsigned int i)
{
	struct link_path *p = &l->paths[i];
	uint32_t mtu = p->dev_mtu;

	if (p->route_mtu)
		mtu = MIN(mtu, p->route_mtu);
	if (memcmp(&p->told_of, &p->remote, sizeof p->remote) || p->told_mtu >= mtu)
		p->told_mtu = 0;
	if (p->told_mtu)
		mtu = p->told_mtu;
	atomic_store_explicit(&l->w->paths[i].mtu, mtu, memory_order_relaxed);
	if (mtu == p->mtu)
		return false;
	p->mtu = mtu;
	return true;
}

static bool lookup_one(struct daemon *d, struct link *l, unsigned int i)
{
	struct link_path *p = &l->paths[i], old = *p;
	struct nl_route r = {0};
	struct nl_link dev;
	bool udp = p->conf.encap == ENCAP_UDP;

	p->oif = 0;
	p->dev[0] = 0;
	if (IN6_IS_ADDR_UNSPECIFIED(&p->remote)) {
		p->error = -EDESTADDRREQ;
		return p->error != old.error;
	}
	p->error = nl_route_get(d->nl_u, &p->remote, p->conf.has_local ? &p->conf.local : NULL, p->conf.fwmark,
				udp ? IPPROTO_UDP : IPPROTO_ESP, udp ? p->conf.port : 0, &r);
	if (!p->error) {
		p->oif = r.oif;
		p->src = r.src;
		p->via = r.via;
		/* the kernel may have learned a smaller one: anybody can tell it that, without a word about us */
		p->dev_mtu = r.dev_mtu;
		p->route_mtu = r.route_mtu;
		if (p->oif != old.oif || memcmp(&p->via, &old.via, sizeof p->via))
			p->told_mtu = 0; /* another way */
		add_up(l, i);
		if (p->oif == old.oif)
			memcpy(p->dev, old.dev, sizeof p->dev);
		else if (!nl_link_get_index(d->nl_u, p->oif, &dev))
			memcpy(p->dev, dev.name, sizeof p->dev);
	}
	return p->error != old.error || p->oif != old.oif || p->mtu != old.mtu ||
	       memcmp(&p->src, &old.src, sizeof p->src);
}

bool path_lookup(struct daemon *d, struct link *l)
{
	bool changed = false;

	for (unsigned int i = 0; i < l->n_paths; i++)
		changed |= lookup_one(d, l, i);
	return changed;
}

bool path_pick(struct daemon *d, struct link *l)
{
	unsigned int best = l->cur_path;

	for (unsigned int i = 0; i < l->n_paths; i++) {
		if (!l->paths[i].error && !l->paths[i].loop) {
			best = i;
			break;
		}
	}
	if (best == l->cur_path)
		return false;
	log_info("%s: envelopes now take path %u", l->conf.name, best + 1);
	l->cur_path = best;
	path_push(d, l);
	return true;
}

/* How long the kernel believes such messages, so long do we. */
static uint64_t told_for_ns(const struct link_path *p)
{
	long s = TOLD_S;

	ns_sysctl_get(addr_is4(&p->remote) ? "net/ipv4/route/mtu_expires" : "net/ipv6/route/mtu_expires", &s);
	return MAX(s, 1) * 1000000000ull;
}

static bool take_told(struct link *l, unsigned int i)
{
	uint32_t mtu = atomic_exchange(&l->w->live.told_mtu[i], 0);
	struct link_path *p = &l->paths[i];

	if (!mtu || p->error || mtu >= p->mtu)
		return false;
	p->told_mtu = mtu;
	p->told_of = p->remote;
	p->told_until_ns = now_ns() + told_for_ns(p);
	log_rl("%s: path %u carries %u bytes, says a router on it", l->conf.name, i + 1, mtu);
	return add_up(l, i);
}

bool path_told(struct daemon *d, struct link *l)
{
	bool changed = false;

	for (unsigned int i = 0; i < l->n_paths; i++) {
		struct link_path *p = &l->paths[i];

		changed |= take_told(l, i);
		if (!p->told_mtu || now_ns() < p->told_until_ns)
			continue;
		p->told_mtu = 0;
		changed |= add_up(l, i);
	}
	return changed;
}

/* What an envelope of that length holds. */
static uint32_t fits_in(const struct link *l, const struct link_path *p, uint32_t mtu)
{
	return esp_raw_max(sad_layout(l), l->transport, mtu, addr_is4(&p->remote) ? IP4_HDR_LEN : IP6_HDR_LEN,
			   p->conf.encap == ENCAP_UDP ? UDP_HDR_LEN : 0);
}

uint32_t path_mtu(const struct link *l)
{
	const struct link_path *p = &l->paths[l->cur_path];
	bool known = l->n_paths && !p->error && p->mtu;
	uint32_t fits;

	if (l->conf.mtu)
		return MIN(l->conf.mtu, fits_in(l, p, MTU_MAX));
	if (!known)
		return l->mtu ? l->mtu : MTU_MIN;
	fits = fits_in(l, p, p->mtu);
	/* below 1280 IPv6 would lose its addresses: the envelope is fragmented instead */
	return MAX(fits, (uint32_t)MTU_MIN);
}

static struct link *link_of_oif(struct daemon *d, int oif)
{
	for (unsigned int i = 0; i < d->max_links; i++)
		if (d->links[i] && !d->links[i]->conf.netns[0] && d->links[i]->ifindex == oif)
			return d->links[i];
	return NULL;
}

/* Follow the envelopes of l from tunnel to tunnel; back at l is a loop, and so is no end. */
static bool goes_round(struct daemon *d, const struct link *l, const struct link_path *p)
{
	const struct link *next;
	unsigned int hops = 0;

	while (!p->error && p->oif && !strncmp(p->dev, "ipsec", 5)) {
		next = link_of_oif(d, p->oif);
		if (!next)
			return false;
		if (next == l || ++hops > d->n_links)
			return true;
		p = &next->paths[next->cur_path];
	}
	return false;
}

void path_loops(struct daemon *d)
{
	for (unsigned int i = 0; i < d->max_links; i++) {
		struct link *l = d->links[i];

		for (unsigned int k = 0; l && k < l->n_paths; k++) {
			bool loop = goes_round(d, l, &l->paths[k]);

			if (loop && !l->paths[k].loop)
				log_warnx("%s: path %u would route its envelopes into %s again: not used until routes change",
					  l->conf.name, k + 1, l->paths[k].dev);
			l->paths[k].loop = loop;
		}
	}
}

/* ---- the worker's half ---- */

struct push {
	struct link *l;
};

static int push_in_worker(struct worker *w, void *arg)
{
	struct link *l = ((struct push *)arg)->l;
	struct wlink *wl = l->w;

	pthread_mutex_lock(&wl->path_lock);
	for (unsigned int i = 0; i < l->n_paths; i++) {
		const struct link_path *p = &l->paths[i];
		struct wpath *wp = &wl->paths[i];

		wp->remote = p->remote;
		wp->local = p->conf.has_local ? p->conf.local : (struct in6_addr)IN6ADDR_ANY_INIT;
		wp->port = p->learned ? p->port : p->conf.port;
		wp->encap = p->conf.encap;
		wp->fwmark = p->conf.fwmark;
		wp->learn = l->n_paths == 1;
		atomic_store_explicit(&wp->mtu, p->mtu, memory_order_relaxed);
	}
	wl->n_paths = l->n_paths;
	wl->cur_path = l->cur_path;
	pthread_mutex_unlock(&wl->path_lock);
	wl->next_probe_ns = 0; /* a new way wants a new round trip */
	return 0;
}

void path_push(struct daemon *d, struct link *l)
{
	struct push p = {l};

	if (l->w)
		worker_call(d->workers[l->worker], push_in_worker, &p);
}
