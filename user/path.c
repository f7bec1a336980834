/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include "ipsec_wire.h"
#include "log.h"
#include "nest.h"
#include "ns.h"
#include "path.h"
#include "sad.h"
#include "spread.h"

static const char *const state_names[] = {
#define X(name, str) [PATH_##name] = str,
	PATH_STATES(X)
#undef X
};

const char *path_state_name(enum path_state s)
{
	return s < PATH_STATE_MAX ? state_names[s] : "unknown";
}

static const uint64_t LEARN_GAP_NS = 100 * 1000 * 1000;
enum { DNS_OK_S = 60, DNS_RETRY_S = 5, TOLD_S = 600 /* RFC 1191 6.3, RFC 8201 4 */,
       LOOP_DOUBLES = 6 /* 64 s */, TRIAL_RTTS = 4, BEET_OPTIONS = 8 };
static const uint64_t LOOP_HOLD_NS = 1000000000, TRIAL_NS = 500000000, BELIEF_NS = 1000000000, BELIEF_EACH_NS = 10000000;

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

/* One path and no other. */
static void use(struct link *l, unsigned int path)
{
	for (unsigned int i = 0; i < l->n_paths; i++)
		l->paths[i].in_use = i == path;
	l->cur_path = path;
}

void path_recall(struct daemon *d, struct link *l)
{
	const struct endpoint *e;
	char buf[INET6_ADDRSTRLEN];

	for (unsigned int i = 0; d->endpoints && i < l->n_paths; i++) {
		struct link_path *p = &l->paths[i];

		if (!p->fresh || !p->conf.any)
			continue;
		e = endpoints_find(d->endpoints, l->conf.peer, i);
		if (!e || !path_conf_from(&p->conf, &e->remote))
			continue;
		p->remote = e->remote;
		p->port = e->port ? e->port : p->conf.port;
		p->learned = true;
		if (d->ready)
			log_info("%s (%s): begins at %s, where it was last heard", l->conf.name, l->conf.peer,
				 addr_str(&p->remote, buf));
	}
}

void path_init(struct link *l)
{
	struct link_path old[PATHS_MAX];
	unsigned int n_old = l->n_paths;

	bool stays = link_by_kernel(l) && l->cur_path < l->n_paths && l->cur_path < l->conf.n_paths &&
		     same_path(&l->paths[l->cur_path], &l->conf.paths[l->cur_path]);

	memcpy(old, l->paths, sizeof old);
	memset(l->paths, 0, sizeof l->paths);
	l->n_paths = l->conf.n_paths;
	for (unsigned int i = 0; i < l->n_paths; i++) {
		struct link_path *p = &l->paths[i];

		p->conf = l->conf.paths[i];
		p->fresh = true;
		if (!p->conf.any && !p->conf.host[0])
			p->remote = p->conf.remote;
		else if (p->conf.has_at)
			p->remote = p->conf.at;
		/* what was learned or resolved stays true while the line is the same */
		if (i < n_old && same_path(&old[i], &p->conf)) {
			if (old[i].by_ike && l->conf.ike[0]) {
				p->by_ike = true;
				p->conf.encap = old[i].conf.encap;
			}
			p->fresh = false;
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
	use(l, stays ? l->cur_path : 0);
	if (!stays)
		turns_begin(&l->turns, 0, now_ns());
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
	use(l, p - l->paths);
	return true;
}

bool path_heard(struct link *l, unsigned int i, const struct in6_addr *remote, uint16_t port)
{
	struct link_path *p = &l->paths[i];

	if (p->conf.encap != ENCAP_UDP || !(l->n_paths == 1 || p->conf.any) || !path_conf_from(&p->conf, remote) ||
	    now_ns() < l->moved_ns + LEARN_GAP_NS)
		return false;
	if (!memcmp(&p->remote, remote, sizeof *remote) && path_port(p) == port)
		return false;
	p->remote = *remote;
	p->port = port;
	p->learned = true;
	return true;
}

bool path_take_endpoint(struct link *l, unsigned int i)
{
	const struct wpath *wp = &l->w->paths[i];
	struct link_path *p = &l->paths[i];
	bool news;

	pthread_mutex_lock(&l->w->path_lock);
	news = wp->learn && (memcmp(&p->remote, &wp->remote, sizeof p->remote) || path_port(p) != wp->port);
	if (news) {
		p->remote = wp->remote;
		p->port = wp->port;
		p->learned = true;
	}
	pthread_mutex_unlock(&l->w->path_lock);
	return news;
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

/* How long the kernel believes such messages, so long do we. */
static uint64_t told_for_ns(const struct link_path *p)
{
	long s = TOLD_S;

	ns_sysctl_get(addr_is4(&p->remote) ? "net/ipv4/route/mtu_expires" : "net/ipv6/route/mtu_expires", &s);
	return MAX(s, 1) * 1000000000ull;
}

/* The kernel goes by a router's word and sends nothing longer: so the device follows. */
static void believe(struct link_path *p, uint32_t mtu)
{
	if (p->told_mtu && p->told_mtu <= mtu && !memcmp(&p->told_of, &p->remote, sizeof p->remote))
		return;
	p->told_mtu = mtu;
	p->told_of = p->remote;
	p->told_until_ns = now_ns() + told_for_ns(p);
}

static bool lookup_one(struct daemon *d, struct link *l, unsigned int i)
{
	struct link_path *p = &l->paths[i], old = *p;
	struct nl_route r = {0};
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
		if (link_by_kernel(l) && r.learned)
			believe(p, r.mtu);
		add_up(l, i);
		memcpy(p->dev, r.dev, sizeof p->dev);
	}
	return p->error != old.error || p->oif != old.oif || p->mtu != old.mtu ||
	       memcmp(&p->src, &old.src, sizeof p->src);
}

bool path_lookup(struct daemon *d, struct link *l)
{
	bool changed = false;

	for (unsigned int i = 0; i < l->n_paths; i++) {
		struct link_path *p = &l->paths[i];

		changed |= lookup_one(d, l, i);
		if (p->error)
			p->usable_ns = 0;
		else if (!p->usable_ns)
			p->usable_ns = now_ns();
	}
	l->paths_stale |= changed;
	return changed;
}

/* ---- which carry traffic ---- */

/* The kernel sends by one path, and nothing can be asked on the others. */
static bool by_turns(const struct link *l)
{
	return link_by_kernel(l) && l->n_paths > 1;
}

/* By turns a path is left before the link counts as dead, so that another one can keep it alive. */
static uint64_t window_ns(const struct link *l)
{
	uint64_t one = l->conf.live_ms, all = one * l->conf.live_count;

	return ((by_turns(l) ? MAX(all / 2, one * 3 / 2) : all) + SLACK_MS) * 1000000u;
}

static uint64_t roundtrip_ns(const struct link *l, unsigned int i)
{
	return atomic_load_explicit(&l->w->paths[i].live.roundtrip_ns, memory_order_relaxed);
}

enum path_state path_state(const struct link *l, unsigned int i, uint64_t now)
{
	uint64_t window = window_ns(l), round = roundtrip_ns(l, i), since;
	const struct link_path *p = &l->paths[i];

	if (IN6_IS_ADDR_UNSPECIFIED(&p->remote))
		return PATH_NO_ENDPOINT;
	if (p->loop)
		return PATH_ROUTE_LOOP;
	if (p->error)
		return PATH_NO_ROUTE;
	if (l->conf.liveness == LIVE_OFF || (round && now < round + window && (!by_turns(l) || i == l->cur_path)))
		return PATH_OK;
	if (by_turns(l) && i != l->cur_path)
		return l->turns.turn[i].fails ? PATH_NO_ANSWER : PATH_STANDBY;
	since = by_turns(l) ? MAX(p->usable_ns, l->turns.since_ns) : p->usable_ns;
	return now < since + window ? PATH_STARTING : PATH_NO_ANSWER;
}

/* Answers, or else: has at least a route. */
static bool as_good_as(enum path_state s, enum path_state least)
{
	return s >= least || (least == PATH_STARTING && s == PATH_NO_ANSWER);
}

/* All with a weight that are good enough, else the first without. Return: how many */
static unsigned int choose(const struct link *l, const enum path_state *s, enum path_state least, bool *in_use)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < l->n_paths; i++) {
		in_use[i] = l->paths[i].conf.weight && as_good_as(s[i], least);
		n += in_use[i];
	}
	for (unsigned int i = 0; !n && i < l->n_paths; i++)
		n = in_use[i] = as_good_as(s[i], least);
	return n;
}

/* Which slots the paths in use have. Return: between how many they are shared */
static unsigned int spread(struct link *l, uint8_t slot[SPREAD_SLOTS])
{
	uint32_t weight[PATHS_MAX];
	bool in_use[PATHS_MAX];
	unsigned int n;

	memset(slot, (int)l->cur_path, SPREAD_SLOTS);
	for (unsigned int i = 0; i < l->n_paths; i++) {
		weight[i] = l->paths[i].conf.weight;
		in_use[i] = l->paths[i].in_use;
		l->paths[i].slots = 0;
	}
	n = spread_fill(slot, weight, in_use, l->n_paths);
	for (unsigned int i = 0; l->n_paths && i < SPREAD_SLOTS; i++)
		l->paths[slot[i]].slots++;
	return n;
}

static void tell(const struct link *l)
{
	char text[PATHS_MAX * 4] = "";
	unsigned int n = 0;

	for (unsigned int i = 0; i < l->n_paths; i++)
		if (l->paths[i].in_use)
			n += snprintf(text + n, sizeof text - n, "%s%u", n ? ", " : "", i + 1);
	log_info("%s: envelopes now take path%s %s", l->conf.name, strchr(text, ',') ? "s" : "", text);
}

_Static_assert((int)TURNS_MAX >= (int)PATHS_MAX, "every path has its turn");

static bool take_turns(struct link *l, uint64_t now)
{
	uint64_t rtt = atomic_load_explicit(&l->w->paths[l->cur_path].live.rtt_ns, memory_order_relaxed);
	uint64_t window = l->conf.liveness == LIVE_OFF ? 0 : window_ns(l);
	struct turns *t = &l->turns;
	bool alone = true;

	if (t->cur != l->cur_path)
		turns_begin(t, l->cur_path, now);
	for (unsigned int i = 0; i < l->n_paths; i++) {
		const struct link_path *p = &l->paths[i];

		t->turn[i].weight = p->conf.weight;
		t->turn[i].answered_ns = roundtrip_ns(l, i);
		turns_usable(t, i, !p->error && !p->loop && !IN6_IS_ADDR_UNSPECIFIED(&p->remote));
		alone &= p->in_use == (i == t->cur);
	}
	if (!turns_next(t, l->n_paths, window, MIN(window, TRIAL_NS + TRIAL_RTTS * rtt), now) && alone)
		return false;
	use(l, t->cur);
	l->paths_stale = true; /* the states first: what the worker asks then goes the new way */
	return true;
}

bool path_pick(struct daemon *d, struct link *l)
{
	enum path_state s[PATHS_MAX];
	bool in_use[PATHS_MAX], same = true;
	uint64_t now = now_ns();

	if (l->n_paths < 2)
		return false;
	if (by_turns(l)) {
		if (!take_turns(l, now))
			return false;
		tell(l);
		return true;
	}
	for (unsigned int i = 0; i < l->n_paths; i++)
		s[i] = path_state(l, i, now);
	if (!choose(l, s, PATH_OK, in_use) && !choose(l, s, PATH_STARTING, in_use))
		return false;
	for (unsigned int i = 0; i < l->n_paths; i++)
		same &= in_use[i] == l->paths[i].in_use;
	if (same)
		return false;
	for (unsigned int i = l->n_paths; i--;) {
		l->paths[i].in_use = in_use[i];
		if (in_use[i])
			l->cur_path = i;
	}
	tell(l);
	path_push(d, l);
	return true;
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

/* Anybody can make the kernel believe something, and it tells nobody. */
static bool belief_due(const struct daemon *d, struct link *l)
{
	uint64_t now = now_ns();

	if (!link_by_kernel(l) || now < l->x.belief_ns)
		return false;
	l->x.belief_ns = now + BELIEF_NS + d->n_links * BELIEF_EACH_NS;
	return true;
}

bool path_told(struct daemon *d, struct link *l)
{
	bool changed = belief_due(d, l) && path_lookup(d, l);

	for (unsigned int i = 0; i < l->n_paths; i++) {
		struct link_path *p = &l->paths[i];

		changed |= take_told(l, i);
		if (!p->told_mtu || now_ns() < p->told_until_ns)
			continue;
		p->told_mtu = 0;
		if (link_by_kernel(l)) /* it may still go by it */
			lookup_one(d, l, i);
		changed |= add_up(l, i);
		changed |= link_by_kernel(l);
	}
	return changed;
}

uint32_t path_spare(const struct link *l, bool outer4)
{
	return l->transport && outer4 && link_by_kernel(l) ? BEET_OPTIONS : 0;
}

uint32_t path_raw_max(const struct link *l, uint32_t mtu, bool outer4, bool udp)
{
	return esp_raw_max(sad_layout(l), l->transport, mtu, outer4 ? IP4_HDR_LEN : IP6_HDR_LEN,
			   (udp ? UDP_HDR_LEN : 0) + path_spare(l, outer4));
}

static uint32_t fits_in(const struct link *l, const struct link_path *p, uint32_t mtu)
{
	return path_raw_max(l, mtu, addr_is4(&p->remote), p->conf.encap == ENCAP_UDP);
}

uint32_t path_mtu(const struct link *l)
{
	uint32_t fits = UINT32_MAX, asked = l->conf.mtu;
	bool any = asked && !link_by_kernel(l); /* the kernel drops what would become a longer envelope than the path carries */

	for (unsigned int i = 0; i < l->n_paths; i++) {
		const struct link_path *p = &l->paths[i];

		if (p->in_use && (any || (!p->error && p->mtu)))
			fits = MIN(fits, fits_in(l, p, any ? (uint32_t)MTU_MAX : p->mtu));
	}
	if (asked)
		return MIN(asked, MAX(fits, (uint32_t)MTU_MIN));
	if (fits == UINT32_MAX)
		return l->mtu ? l->mtu : MTU_MIN;
	/* below 1280 IPv6 would lose its addresses: the envelope is fragmented instead */
	return MAX(fits, (uint32_t)MTU_MIN);
}

/* Follow the envelopes of l from tunnel to tunnel; back at l is a loop, and so is no end. */
static bool goes_round(struct daemon *d, const struct link *l, const struct link_path *p, unsigned int depth)
{
	const struct link *next = p->error || !p->oif ? NULL : links_at(d, p->oif);

	if (!next)
		return false;
	if (next == l || depth == NEST_MAX)
		return true;
	for (unsigned int i = 0; i < next->n_paths; i++)
		if (next->paths[i].in_use && goes_round(d, l, &next->paths[i], depth + 1))
			return true;
	return false;
}

static uint64_t loop_hold(unsigned int n)
{
	return LOOP_HOLD_NS << MIN(n, LOOP_DOUBLES);
}

/*
 * A path that looped stays out for a while, twice as long each time in a row: the link goes down, its routes go with
 * its carrier, the kernel routes the envelopes elsewhere, and the loop seems to be gone until the link is up.
 */
static bool held(struct link *l, unsigned int k, bool round, uint64_t now)
{
	struct link_path *p = &l->paths[k];

	if (round && !p->loop) {
		if (now > p->loop_until_ns + loop_hold(p->loop_n))
			p->loop_n = 0;
		p->loop_until_ns = now + loop_hold(p->loop_n);
		log_warnx("%s: path %u would route its envelopes into %s again: not used for %u s, and until routes change",
			  l->conf.name, k + 1, p->dev, (unsigned int)(loop_hold(p->loop_n++) / 1000000000u));
	}
	return round || (p->loop && now < p->loop_until_ns);
}

void path_loops(struct daemon *d)
{
	uint64_t now = now_ns();

	d->loops_due_ns = 0;
	for (unsigned int i = 0; i < d->max_links; i++) {
		struct link *l = d->links[i];

		for (unsigned int k = 0; l && k < l->n_paths; k++) {
			struct link_path *p = &l->paths[k];
			bool round = goes_round(d, l, p, 0), loop = held(l, k, round, now);

			if (loop && !round && (!d->loops_due_ns || p->loop_until_ns < d->loops_due_ns))
				d->loops_due_ns = p->loop_until_ns;
			l->paths_stale |= loop != p->loop;
			p->loop = loop;
		}
	}
}

/* ---- the worker's half ---- */

struct push {
	struct link *l;
	uint8_t slot[SPREAD_SLOTS];
	unsigned int n_share;
};

static int push_in_worker(struct worker *w, void *arg)
{
	const struct push *push = arg;
	struct link *l = push->l;
	struct wlink *wl = l->w;

	pthread_mutex_lock(&wl->path_lock);
	for (unsigned int i = 0; i < l->n_paths; i++) {
		struct link_path *p = &l->paths[i];
		struct wpath *wp = &wl->paths[i];

		/* what was learned since we looked is newer */
		if (!wp->learn || wl->live.moved == l->moved_seen) {
			wp->remote = p->remote;
			wp->port = path_port(p);
		}
		wp->local = p->conf.has_local ? p->conf.local : (struct in6_addr)IN6ADDR_ANY_INIT;
		wp->encap = p->conf.encap;
		wp->fwmark = p->conf.fwmark;
		wp->src = p->src;
		wp->learn = l->n_paths == 1 || p->conf.any;
		memcpy(wp->from, p->conf.from, sizeof wp->from);
		wp->n_from = p->conf.n_from;
		wp->usable = !p->error && !p->loop;
		wp->loops = p->loop;
		wp->in_use = p->in_use;
		if (p->fresh)
			memset(&wp->live, 0, sizeof wp->live);
		p->fresh = false;
		atomic_store_explicit(&wp->mtu, p->mtu, memory_order_relaxed);
	}
	if (wl->kernel && wl->cur_path != l->cur_path) /* an answer to what was asked before says nothing of it now */
		wl->paths[l->cur_path].live.ping_sent_ns = 0;
	wl->n_paths = l->n_paths;
	wl->cur_path = l->cur_path;
	memcpy(wl->slot, push->slot, sizeof wl->slot);
	wl->shares = push->n_share > 1;
	pthread_mutex_unlock(&wl->path_lock);
	if (l->in_worker)
		worker_probe_soon(w, wl); /* a new way wants a new round trip */
	return 0;
}

static void tell_nest(struct daemon *d, const struct link *l)
{
	struct nest_way ways[PATHS_MAX];

	for (unsigned int i = 0; i < l->n_paths; i++) {
		const struct link_path *p = &l->paths[i];
		bool udp = p->conf.encap == ENCAP_UDP;

		ways[i] = (struct nest_way){.remote = p->remote, .fwmark = p->conf.fwmark, .in_use = p->in_use,
					    .ipproto = udp ? IPPROTO_UDP : IPPROTO_ESP, .port = udp ? p->conf.port : 0};
		if (p->conf.has_local)
			ways[i].local = p->conf.local;
	}
	nest_ways(d->nest, l->id, ways, l->n_paths);
}

void path_push(struct daemon *d, struct link *l)
{
	struct push p = {.l = l};

	p.n_share = spread(l, p.slot);
	l->paths_stale = false;
	tell_nest(d, l);
	if (l->w && l->in_worker)
		worker_call(d->workers[l->worker], push_in_worker, &p);
	else if (l->w)
		push_in_worker(NULL, &p);
}
