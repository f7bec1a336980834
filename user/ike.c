/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "ike.h"
#include "ike_conn.h"
#include "ike_wire.h"
#include "load.h"
#include "log.h"
#include "path.h"
#include "sad.h"
#include "wish.h"

#define DRAIN_NS UINT64_C(2000000000)
#define AGAIN_NS UINT64_C(300000000)
#define COURTESY_NS UINT64_C(1000000000)
#define TWICE_NS UINT64_C(5000000000)
#define LINGER_NS UINT64_C(500000000)
#define GIVEN_UP_NS UINT64_C(5000000000)
#define CALL_ANY_NS UINT64_C(60000000000)
#define DEMAND_NS UINT64_C(10000000000)
#define HOLD_NS UINT64_C(30000000000)

enum { LARVAL_MAX = 4096, SPI_TRIES = 64, WINDOW = 4096, FOREIGN_WINDOW = 32 /* strongSwan's default */ };

/* struct conn - one connection of a plugin */
struct conn {
	struct ike *k;
	int fd; /* -1 = free */
	sd_event_source *src;
	pid_t pid;
	uint64_t generation; /* 0 = no hello yet */
	bool events;
};

/* struct larval - an SPI that was given out and has no SA yet */
struct larval {
	uint32_t spi;
	uint64_t until_ns;
};

struct ike {
	struct daemon *d;
	sd_event *ev;
	int fd;
	sd_event_source *src;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	struct conn conns[IKE_CONNS_MAX];
	struct larval *larvals; /* n_larval of LARVAL_MAX */
	unsigned int n_larval;
	uint64_t own, peer; /* generations */
	uint64_t greeted_ns; /* when that peer came */
};

/* ---- connections ---- */

static void announce(struct daemon *d, bool connected)
{
	json_t *ev = d->on_event ? json_pack("{s:s s:b}", "event", "ike-daemon", "connected", connected) : NULL;

	if (!ev)
		return;
	d->on_event(d, ev);
	json_decref(ev);
}

static void hang_up(struct conn *c)
{
	uint64_t had;
	bool still;
	pid_t pid;

	if (c->fd < 0)
		return;
	sd_event_source_disable_unref(c->src);
	close(c->fd);
	had = c->generation;
	pid = c->pid;
	*c = (struct conn){.k = c->k, .fd = -1};
	ike_generation(c->k, &still);
	if (!had || still)
		return;
	log_info("ike: the IKE daemon (pid %d) is gone; its SAs stay", (int)pid);
	announce(c->k->d, false);
}

static bool is_dead(const struct conn *c)
{
	char byte;

	return !recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
}

static int put(struct conn *c, struct ike_msg *m)
{
	uint8_t buf[IKE_RECORD_MAX];
	int len;

	m->head.generation = c->k->own;
	len = ike_encode(m, buf);
	if (len < 0)
		return len;
	return send(c->fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT) == len ? 0 : -EPIPE;
}

static struct conn *events_conn(struct ike *k)
{
	for (unsigned int i = 0; i < IKE_CONNS_MAX; i++)
		if (k->conns[i].fd >= 0 && k->conns[i].events && k->conns[i].generation == k->peer)
			return &k->conns[i];
	return NULL;
}

static void tell(struct ike *k, struct ike_msg *m)
{
	struct conn *c = events_conn(k);

	if (!c || !put(c, m))
		return;
	log_rl("ike: the IKE daemon does not take its events");
	shutdown(c->fd, SHUT_RDWR); /* closed from its own callback */
}

uint64_t ike_generation(const struct ike *k, bool *connected)
{
	bool any = false;

	for (unsigned int i = 0; k && i < IKE_CONNS_MAX; i++)
		any |= k->conns[i].fd >= 0 && k->conns[i].generation;
	if (connected)
		*connected = any;
	return k ? k->peer : 0;
}

/* ---- SPIs given out ---- */

static struct larval *larval_find(struct ike *k, uint32_t spi)
{
	for (unsigned int i = 0; i < k->n_larval; i++)
		if (k->larvals[i].spi == spi)
			return &k->larvals[i];
	return NULL;
}

static void larval_drop(struct ike *k, struct larval *l)
{
	if (l)
		*l = k->larvals[--k->n_larval];
}

static uint16_t give_spi(struct ike *k, uint32_t *spi)
{
	if (k->n_larval == LARVAL_MAX)
		return IKE_FAILED;
	for (unsigned int i = 0; i < SPI_TRIES; i++) {
		if (RAND_bytes((unsigned char *)spi, sizeof *spi) != 1)
			return IKE_FAILED;
		if (*spi < SPI_MIN || larval_find(k, *spi) || !sad_spi_free(k->d, *spi))
			continue;
		k->larvals[k->n_larval++] = (struct larval){*spi, now_ns() + IKE_LARVAL_S * UINT64_C(1000000000)};
		return IKE_OK;
	}
	return IKE_FAILED;
}

/* ---- requests ---- */

static struct link *link_of(struct ike *k, uint32_t if_id)
{
	struct daemon *d = k->d;

	for (unsigned int i = 0; if_id && i < d->max_links; i++)
		if (d->links[i] && d->links[i]->conf.number == if_id && d->links[i]->conf.ike[0])
			return d->links[i];
	return NULL;
}

/* IKEv2's numbers: IANA "IKEv2 Transform Attribute Values"; key lengths in bytes, the salt behind the key */
static const struct suite {
	uint16_t enc, integ;
	uint8_t enc_len, int_len;
	enum aead_alg alg;
} suites[] = {
	{20, 0, 20, 0, AEAD_AES_GCM_128},
	{20, 0, 36, 0, AEAD_AES_GCM_256},
	{28, 0, 36, 0, AEAD_CHACHA20_POLY1305},
	{21, 0, 20, 0, AEAD_AES_GMAC_128},
	{21, 0, 36, 0, AEAD_AES_GMAC_256},
	{12, 12, 16, 32, AEAD_CBC_128_SHA256},
	{12, 12, 32, 32, AEAD_CBC_256_SHA256},
	{12, 13, 32, 48, AEAD_CBC_256_SHA384},
	{12, 14, 32, 64, AEAD_CBC_256_SHA512},
	{12, 2, 16, 20, AEAD_CBC_128_SHA1},
	{12, 2, 32, 20, AEAD_CBC_256_SHA1},
	{11, 12, 0, 32, AEAD_NULL_SHA256},
	{11, 13, 0, 48, AEAD_NULL_SHA384},
	{11, 14, 0, 64, AEAD_NULL_SHA512},
};

static int take_key(const struct ike_add *a, struct sa_conf *c)
{
	const struct aead_desc *d;

	for (unsigned int i = 0; i < ARRAY_SIZE(suites); i++) {
		const struct suite *s = &suites[i];

		/* without an integrity key its number says nothing: an AEAD has none (RFC 7296 3.3.3) */
		if (s->enc != a->enc_alg || s->enc_len != a->enc_len || s->int_len != a->int_len ||
		    (s->int_len && s->integ != a->int_alg))
			continue;
		d = aead_by_alg(s->alg);
		c->alg = s->alg;
		memcpy(c->key, a->enc_key, d->key_len);
		memcpy(c->key + d->key_len, a->int_key, d->auth_key_len);
		memcpy(c->salt, a->enc_key + d->key_len, d->salt_len);
		c->fingerprint = sa_fingerprint(c);
		return 0;
	}
	return -EOPNOTSUPP;
}

/* IKE does not say what window the peer has; who is probed is an ipsecd, and has ours. */
static uint32_t window_of(const struct link *l, const struct ike_add *a)
{
	uint32_t n = MIN(a->window, 65536u);

	if (!a->id.inbound)
		return l->conf.liveness == LIVE_PROBE ? WINDOW : FOREIGN_WINDOW;
	return n ? MAX((n + 63) / 64 * 64, 64u) : WINDOW;
}

static struct life_limit limit(uint64_t time_s, uint64_t bytes, uint64_t pkts)
{
	return (struct life_limit){time_s, bytes, pkts};
}

static void take_selectors(const struct ike_add *a, struct sels *l)
{
	_Static_assert((int)IKE_SEL_MAX == (int)SEL_MAX, "a record's selectors fit");

	l->n = a->n_sel;
	for (unsigned int i = 0; i < a->n_sel; i++) {
		struct sel *s = &l->sel[i];

		memcpy(s->src, a->sel[i].src, sizeof s->src);
		memcpy(s->dst, a->sel[i].dst, sizeof s->dst);
		memcpy(s->sport, a->sel[i].sport, sizeof s->sport);
		memcpy(s->dport, a->sel[i].dport, sizeof s->dport);
		s->proto = a->sel[i].proto;
	}
}

/* A peer that asked for no address has its outer one in the selectors, and that is not to be routed into its link. */
static bool from_pool(const struct link *l, const struct ike_add *a)
{
	unsigned int hits = 0;

	for (unsigned int i = 0; i < a->n_sel; i++) {
		const uint8_t(*far)[16] = a->id.inbound ? a->sel[i].src : a->sel[i].dst;
		struct in6_addr ends[2];

		memcpy(ends, far, sizeof ends);
		for (unsigned int k = 0; k < l->conf.ike_pool.n; k++)
			hits += prefix_match(&l->conf.ike_pool.p[k], &ends[0]) && prefix_match(&l->conf.ike_pool.p[k], &ends[1]);
	}
	return !l->conf.ike_pool.n || (a->n_sel && hits >= a->n_sel);
}

static int spec_of(const struct link *l, const struct ike_add *a, uint64_t owner, struct sa_spec *s)
{
	struct sa_conf *c = &s->conf;

	*s = (struct sa_spec){.owner = owner, .udp = a->encap};
	memcpy(&s->dst, a->id.dst, sizeof s->dst);
	take_selectors(a, &c->sels);
	c->dir = a->id.inbound ? SA_IN : SA_OUT;
	c->spi = a->id.spi;
	c->esn = a->esn;
	c->window = window_of(l, a);
	c->life.soft = limit(a->time_s.soft, a->bytes.soft, a->packets.soft);
	c->life.hard = limit(a->time_s.hard, a->bytes.hard, a->packets.hard);
	if (!a->tunnel || (a->tfc && !a->id.inbound) || a->id.spi < SPI_MIN)
		return -EOPNOTSUPP;
	return take_key(a, c);
}

/*
 * Behind a NAT an authentic envelope has just said where the peer is; what IKE says may be an echo of the one
 * before (ike_on_moved()). Without a NAT IKE moves a peer only because the peer wants it (RFC 4555).
 */
static bool knows_better(const struct link *l, bool udp)
{
	const struct link_path *p = &l->paths[l->cur_path];

	return udp && l->n_paths == 1 && p->by_ike && p->conf.encap == ENCAP_UDP && l->moved_ns &&
	       now_ns() < l->moved_ns + DRAIN_NS;
}

/* Where the peer is, IKE knows best: it has just heard it there, and has looked for NATs. */
static void follow(struct ike *k, struct link *l, const uint8_t dst[16], uint16_t port, bool udp)
{
	struct in6_addr to;

	memcpy(&to, dst, sizeof to);
	if (!path_from_ike(l, &to, port, udp ? ENCAP_UDP : ENCAP_ESP))
		return;
	link_follow_path(k->d, l);
	if (k->d->endpoints && l->paths[l->cur_path].conf.any)
		endpoints_note(k->d->endpoints, l->conf.peer, l->cur_path, &to, udp ? port : 0);
}

/* The newest one of a set that is to stay, another one than but; or NULL. */
static struct sa *newest(const struct link *l, const struct sa_set *s, enum sa_dir dir, const struct sa *but)
{
	struct sa *best = NULL;

	for (struct sa *o = l->sas; o; o = o->next)
		if (o->set == s && o != but && o->dir == dir && o->live && !o->closing && (!best || o->epoch > best->epoch))
			best = o;
	return best;
}

/* Who does the same after it, or NULL. */
static struct sa *heir(const struct sa *sa)
{
	return newest(sa->link, sa->set, sa->dir, sa);
}

static void drop(struct ike *k, struct sa *sa)
{
	struct link *l = sa->link;
	struct sa *next = sa->set->out == sa ? heir(sa) : NULL;

	if (next)
		sad_use(k->d, next);
	sad_remove(k->d, sa);
	link_follow_sa(k->d, l);
}

static void linger(struct sa *sa)
{
	if (!sa->closing)
		sa->reap_ns = now_ns() + LINGER_NS;
	sa->closing = true;
}

static uint16_t do_add(struct ike *k, const struct conn *c, const struct ike_add *a)
{
	struct link *l = link_of(k, a->id.if_id);
	struct sa_spec s;
	char *text = NULL;
	size_t len = 0;
	FILE *errs;
	int err;

	if (!l) {
		log_rl("ike: an SA for if_id %u, but no link has that number and an ike line", a->id.if_id);
		return IKE_NO_LINK;
	}
	if (!from_pool(l, a)) {
		log_rl("%s: ike: the peer has no address from the link's ike-pool: it must ask for one (vips)", l->conf.name);
		return IKE_NOT_SUPPORTED;
	}
	err = spec_of(l, a, c->generation, &s);
	if (err) {
		log_rl("%s: ike: an SA of a kind that is not to be had: tunnel mode without tfc_padding, suites of "
		       "ipsecctl version --probe", l->conf.name);
		goto wipe;
	}
	errs = open_memstream(&text, &len);
	if (!errs) {
		err = -ENOMEM;
		goto wipe;
	}
	if (a->id.inbound)
		larval_drop(k, larval_find(k, a->id.spi));
	else
		follow(k, l, a->id.dst, a->dport, a->encap); /* before the first envelope leaves */
	s.initiated = a->initiator;
	s.standby = !a->initiator; /* hand_over() */
	err = sad_add(k->d, l, &s, NULL, errs);
	fclose(errs);
	free(text);
	link_follow_sa(k->d, l);
wipe:
	sa_conf_wipe(&s.conf);
	return !err ? IKE_OK : err == -EOPNOTSUPP ? IKE_NOT_SUPPORTED : IKE_FAILED;
}

static struct sa *sa_of(struct ike *k, const struct ike_id *id)
{
	struct link *l = link_of(k, id->if_id);
	struct sa *sa = l ? sad_find(l, id->inbound ? SA_IN : SA_OUT, id->spi) : NULL;

	return sa && sa->owner ? sa : NULL;
}

static uint16_t do_update(struct ike *k, const struct ike_update *u)
{
	struct sa *sa = sa_of(k, &u->id);

	if (!sa)
		return IKE_NOT_FOUND;
	memcpy(&sa->dst, u->dst, sizeof sa->dst);
	if (sa->dir == SA_OUT && !knows_better(sa->link, u->encap))
		follow(k, sa->link, u->dst, u->dport, u->encap);
	return IKE_OK;
}

static uint16_t do_query(struct ike *k, const struct ike_id *id, struct ike_reply *r)
{
	const struct sa *sa = sa_of(k, id);
	uint64_t now = now_ns();
	struct sa_use u;

	if (!sa)
		return IKE_NOT_FOUND;
	sad_look(k->d, sa->link);
	sad_query(sa, &u);
	r->bytes = u.bytes;
	r->packets = u.pkts;
	r->idle_ms = !u.last_ns ? UINT64_MAX : now > u.last_ns ? (now - u.last_ns) / 1000000 : 0;
	return IKE_OK;
}

/*
 * The last of its kind is not torn away at once. A peer that begins anew (INITIAL_CONTACT, after its IKE daemon
 * died) makes ours delete what there was and add what follows a few milliseconds later; its own SAs
 * are still at work, so nothing need be lost and no link need go down. And what the peer sends until it knows is
 * on its way in any case.
 */
static void close_sa(struct ike *k, struct sa *sa)
{
	if (sa->live && (sa->dir == SA_IN || !heir(sa)))
		linger(sa);
	else
		drop(k, sa);
}

static uint16_t do_del(struct ike *k, const struct ike_id *id)
{
	struct sa *sa = sa_of(k, id);

	if (sa)
		close_sa(k, sa);
	else if (id->inbound)
		larval_drop(k, larval_find(k, id->spi));
	return IKE_OK;
}

static void flush(struct ike *k, uint64_t owner)
{
	for (unsigned int i = 0; i < k->d->max_sas; i++)
		if (k->d->sas[i] && k->d->sas[i]->owner == owner)
			drop(k, k->d->sas[i]);
	k->n_larval = 0;
}

/* Limits that were reached while nobody listened. */
static void remind(struct ike *k)
{
	for (unsigned int i = 0; i < k->d->max_sas; i++) {
		const struct sa *sa = k->d->sas[i];

		if (sa && sa->owner == k->peer && (sa->soft || sa->ended))
			ike_on_life(k, sa, sa->ended);
	}
}

/*
 * What the last one took on its way out is to be made again by this one, at once. Where its SAs still serve there
 * is no hurry: of two ends that lost theirs together, the one with the higher address lets the other begin.
 */
static void begin_all(struct daemon *d, uint64_t now)
{
	for (unsigned int i = 0; i < d->max_links; i++) {
		struct link *l = d->links[i];
		const struct link_path *p = l ? &l->paths[l->cur_path] : NULL;

		if (!l)
			continue;
		l->ike_lost_ns = 0;
		l->ike_try_ns = now + (sad_out(l) && memcmp(&p->src, &p->remote, sizeof p->src) > 0 ? COURTESY_NS : 0);
	}
}

static int greet(struct conn *c, const struct ike_msg *m)
{
	struct ike *k = c->k;
	struct ike_msg answer = {.head = {.type = IKE_HELLO, .seq = m->head.seq}, .hello = {.pid = getpid()}};
	bool there;
	int err;

	if (!m->head.generation || (pid_t)m->hello.pid != c->pid) {
		log_rl("ike: a hello of pid %u from pid %d", m->hello.pid, (int)c->pid);
		return -EPERM;
	}
	for (unsigned int i = 0; i < IKE_CONNS_MAX; i++) {
		struct conn *o = &k->conns[i];

		if (o == c || o->fd < 0 || !o->generation)
			continue;
		if (is_dead(o) || (o->generation == m->head.generation && o->events == m->hello.events)) {
			hang_up(o);
		} else if (o->generation != m->head.generation) {
			log_rl("ike: another IKE daemon (pid %d) is connected: pid %d is refused", (int)o->pid, (int)c->pid);
			return -EBUSY;
		}
	}
	ike_generation(k, &there);
	c->generation = m->head.generation;
	c->events = answer.hello.events = m->hello.events;
	err = put(c, &answer);
	if (err)
		return err;
	if (!there)
		announce(k->d, true);
	if (k->peer != c->generation) {
		log_info("ike: an IKE daemon (pid %d) is here", (int)c->pid);
		k->peer = c->generation;
		k->n_larval = 0;
		k->greeted_ns = now_ns();
		if (k->d->on_ike)
			k->d->on_ike(k->d);
		begin_all(k->d, k->greeted_ns);
	}
	if (c->events)
		remind(k);
	return 0;
}

static int answer(struct conn *c, const struct ike_msg *m)
{
	struct ike *k = c->k;
	struct ike_msg r = {.head = {.type = IKE_REPLY + m->head.type, .seq = m->head.seq}};

	if (m->head.type == IKE_HELLO && !c->generation)
		return greet(c, m);
	if (!c->generation || c->generation != m->head.generation || c->generation != k->peer || c->events)
		return -EPROTO;
	switch (m->head.type) {
	case IKE_GET_SPI:
		r.reply.status = give_spi(k, &r.reply.spi);
		break;
	case IKE_ADD:
		r.reply.status = do_add(k, c, &m->add);
		break;
	case IKE_UPDATE:
		r.reply.status = do_update(k, &m->update);
		break;
	case IKE_QUERY:
		r.reply.status = do_query(k, &m->id, &r.reply);
		break;
	case IKE_DEL:
		r.reply.status = do_del(k, &m->id);
		break;
	case IKE_FLUSH:
		flush(k, c->generation);
		break;
	case IKE_BYE:
		break;
	default:
		return -EPROTO;
	}
	return put(c, &r);
}

static int on_conn(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	uint8_t buf[IKE_RECORD_MAX];
	struct conn *c = arg;
	struct ike_msg m;
	ssize_t n = recv(fd, buf, sizeof buf, MSG_DONTWAIT | MSG_TRUNC);
	int err;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		hang_up(c);
		return 0;
	}
	err = n > (ssize_t)sizeof buf ? -EMSGSIZE : ike_decode(buf, n, &m);
	ike_wipe(buf, sizeof buf);
	if (err == -EPROTONOSUPPORT)
		log_warnx("ike: the plugin speaks another version: build it from the same sources as ipsecd");
	if (!err) {
		err = answer(c, &m);
		ike_wipe(&m, sizeof m);
	}
	if (err) {
		log_rl("ike: connection of pid %d ended: %s", (int)c->pid, strerror(-err));
		hang_up(c);
	}
	return 0;
}

/* ---- the socket ---- */

static int admit(struct ike *k, int fd)
{
	struct ucred cred;
	socklen_t len = sizeof cred;
	struct conn *c = NULL;
	int err;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return -errno;
	if (cred.uid && cred.uid != geteuid())
		return -EPERM;
	for (unsigned int i = 0; i < IKE_CONNS_MAX && !c; i++)
		if (k->conns[i].fd < 0)
			c = &k->conns[i];
	if (!c)
		return -EUSERS;
	err = sd_event_add_io(k->ev, &c->src, fd, EPOLLIN, on_conn, c);
	if (err < 0)
		return err;
	c->fd = fd;
	c->pid = cred.pid;
	return 0;
}

static int on_accept(sd_event_source *s, int lfd, uint32_t revents, void *arg)
{
	int fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), err;

	if (fd < 0)
		return 0;
	err = admit(arg, fd);
	if (err) {
		log_rl("ike: connection refused: %s", strerror(-err));
		close(fd);
	}
	return 0;
}

static int listen_at(struct ike *k)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	strcpy(sa.sun_path, k->path);
	/* the instance's lock is ours, so whoever made it is dead */
	if (unlink(k->path) && errno != ENOENT)
		return -errno;
	k->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (k->fd < 0 || bind(k->fd, (struct sockaddr *)&sa, sizeof sa) || chmod(k->path, 0600) || listen(k->fd, IKE_CONNS_MAX))
		return -errno;
	return 0;
}

int ike_open(struct ike **ip, struct daemon *d, sd_event *ev, const char *path)
{
	struct ike *k = calloc(1, sizeof *k);
	int err = -ENOMEM;

	if (!k)
		return -ENOMEM;
	*k = (struct ike){.d = d, .ev = sd_event_ref(ev), .fd = -1};
	for (unsigned int i = 0; i < IKE_CONNS_MAX; i++)
		k->conns[i] = (struct conn){.k = k, .fd = -1};
	k->larvals = calloc(LARVAL_MAX, sizeof *k->larvals);
	if (!k->larvals || RAND_bytes((unsigned char *)&k->own, sizeof k->own) != 1)
		goto close;
	k->own |= 1;
	err = -ENAMETOOLONG;
	if (strlen(path) >= sizeof k->path)
		goto close;
	strcpy(k->path, path);
	err = listen_at(k);
	if (!err)
		err = sd_event_add_io(ev, &k->src, k->fd, EPOLLIN, on_accept, k);
	if (err < 0)
		goto close;
	*ip = k;
	return 0;
close:
	log_at(LOGL_ERR, "ike socket %s: %s", path, strerror(-err));
	ike_close(k);
	return err;
}

void ike_close(struct ike *k)
{
	if (!k)
		return;
	for (unsigned int i = 0; i < IKE_CONNS_MAX; i++)
		hang_up(&k->conns[i]);
	sd_event_source_disable_unref(k->src);
	if (k->fd >= 0) {
		close(k->fd);
		unlink(k->path);
	}
	sd_event_unref(k->ev);
	free(k->larvals);
	free(k);
}

/* ---- events ---- */

void ike_on_life(struct ike *k, const struct sa *sa, bool hard)
{
	struct ike_msg m = {.head = {.type = IKE_EXPIRE}, .expire = {.spi = sa->spi, .hard = hard}};

	if (!k || sa->owner != k->peer)
		return;
	memcpy(m.expire.dst, &sa->dst, sizeof m.expire.dst);
	tell(k, &m);
}

void ike_on_moved(struct ike *k, const struct link *l)
{
	const struct link_path *p = &l->paths[l->cur_path];

	for (const struct sa *sa = l->sas; k && sa; sa = sa->next) {
		struct ike_msg m = {.head = {.type = IKE_MAPPING}, .mapping = {.spi = sa->spi, .port = p->port}};

		if (sa->dir != SA_IN || sa->owner != k->peer)
			continue;
		memcpy(m.mapping.dst, &sa->dst, sizeof m.mapping.dst);
		memcpy(m.mapping.to, &p->remote, sizeof m.mapping.to);
		tell(k, &m);
	}
}

/* ---- what is left behind ---- */

static bool of_peer(const struct ike *k, const struct sa *sa)
{
	return sa && sa->live && sa->owner == k->peer && !sa->closing;
}

/* What came just before it by the same kind of exchange: they are added in pairs, inbound first. */
static const struct sa *twin(const struct ike *k, const struct sa *out)
{
	const struct sa *best = NULL;

	for (const struct sa *sa = out->link->sas; sa; sa = sa->next)
		if (sa->set == out->set && sa->dir == SA_IN && of_peer(k, sa) && sa->initiated == out->initiated &&
		    sa->epoch < out->epoch && (!best || sa->epoch > best->epoch))
			best = sa;
	return best;
}

/*
 * Who answers a first exchange has its SAs before the peer has them, and who answers a renewal is told when to
 * switch: the old one is deleted. So what was added by who answers stands by until the peer is heard on its
 * twin, or half a second, or as long as there is something else to send on.
 */
static void hand_over(struct ike *k, struct link *l, const struct sa_set *s, uint64_t now)
{
	struct sa *next = newest(l, s, SA_OUT, s->out);
	const struct sa *in = next ? twin(k, next) : NULL;

	if (!next || !of_peer(k, next) || (s->out && next->epoch < s->out->epoch))
		return;
	if ((in && sad_heard(in)) || now >= next->created_ns + LINGER_NS) {
		sad_use(k->d, next);
		link_follow_sa(k->d, l);
	}
}

static bool lower(const struct sa *in, const struct sa *out, uint32_t *least)
{
	uint32_t spi = MIN(in->spi, out->spi);
	bool is = spi < *least;

	if (is)
		*least = spi;
	return is;
}

/*
 * Two ends that begin at the same moment have two IKE SAs and two pairs, for good. As with two renewals that
 * meet (RFC 7296 2.8.1), the one with the lowest number of all is ended, by the end that began it: both
 * ends see the same four.
 */
static void end_twice(struct ike *k, struct link *l, const struct sa_set *s, uint64_t now)
{
	const struct sa *loser = NULL, *in;
	uint32_t least = UINT32_MAX;
	unsigned int n = 0;

	for (const struct sa *sa = l->sas; sa; sa = sa->next) {
		if (sa->set != s || sa->dir != SA_OUT || !of_peer(k, sa) || now < sa->created_ns + TWICE_NS)
			continue;
		in = twin(k, sa);
		n++;
		if (in && lower(in, sa, &least))
			loser = sa;
	}
	if (n < 2 || !loser || !loser->initiated || now < l->ike_twice_ns || !k->d->ike_conn)
		return;
	l->ike_twice_ns = now + TWICE_NS;
	log_info("%s: two pairs of SAs, from two beginnings that met: 0x%08x is ended", l->conf.name, loser->spi);
	ike_conn_end(k->d->ike_conn, &l->conf, loser->spi);
}

static bool replaced(const struct ike *k, const struct sa *old, uint64_t now)
{
	const struct sa_set *s = old->set;
	const struct sa *in;

	if (!of_peer(k, s->out) || now < s->switched_ns + DRAIN_NS)
		return false;
	for (in = old->link->sas; in; in = in->next)
		if (in->set == s && in->dir == SA_IN && of_peer(k, in))
			return true;
	return false;
}

static bool is_over(const struct ike *k, struct sa *sa, uint64_t now)
{
	if (sa->closing && sa->dir == SA_OUT && sa->set->out != sa)
		return true;
	if (!sa->closing && sa->owner == k->peer)
		return false;
	if (!sa->reap_ns)
		sa->reap_ns = now + IKE_ORPHAN_S * UINT64_C(1000000000);
	return now >= sa->reap_ns || (!sa->closing && replaced(k, sa, now));
}

static void reap(struct ike *k, uint64_t now)
{
	for (unsigned int i = 0; k->peer && i < k->d->max_sas; i++) {
		struct sa *sa = k->d->sas[i];

		if (!sa || !sa->owner || !is_over(k, sa, now))
			continue;
		if (!sa->closing)
			log_info("%s: SA 0x%08x was of an IKE daemon that is gone: removed", sa->link->conf.name, sa->spi);
		drop(k, sa);
	}
}

/*
 * Has the link SAs, or had it when somebody died? One whose IKE daemon lived on without them has none
 * because somebody wanted that. A peer that called from anywhere is called back for a minute.
 */
static void wish(struct ike *k, struct link *l, uint64_t now, bool connected)
{
	bool has = sad_out(l) && sad_out(l)->owner;

	if (has) {
		l->ike_lost_ns = 0;
		wish_set(k->d, l, true);
	} else if (l->ike_want && connected) {
		if (!l->ike_lost_ns && l->switched_ns > k->greeted_ns)
			l->ike_lost_ns = now;
		if ((l->ike_lost_ns && now > l->ike_lost_ns + GIVEN_UP_NS) ||
		    (!ike_conn_knows_peer(&l->conf) && now > k->greeted_ns + CALL_ANY_NS))
			wish_set(k->d, l, false);
	}
}

static bool begins(const struct link *l)
{
	return ike_conn_begins(&l->conf) || (l->ike_want && !l->ike_lost_ns && !l->conf.ike_pool.n);
}

/* strongSwan gives up on some answers, as of a peer that has not read its configuration yet; we do not. */
static void try_again(struct ike *k, struct link *l, uint64_t now)
{
	bool has = sad_out(l) && l->out->owner == k->peer;

	if (!l->admin_up || has || !begins(l)) {
		l->ike_try_ns = 0;
		return;
	}
	if (!l->ike_try_ns)
		l->ike_try_ns = now + (l->switched_ns ? AGAIN_NS : 0);
	if (now < l->ike_try_ns)
		return;
	l->ike_try_ns = now + IKE_RETRY_S * UINT64_C(1000000000) + l->conf.number % 1000 * UINT64_C(1000000);
	ike_conn_start(k->d->ike_conn, &l->conf);
}

/* One record, and not another one until it is answered by SAs or IKE_RETRY_S have gone by; a burst is one. */
static void ask(struct ike *k, struct link *l, uint64_t now)
{
	struct ike_msg m = {.head = {.type = IKE_ACQUIRE}, .acquire = {.if_id = l->conf.number}};

	if (now < l->ask_again_ns)
		return;
	log_info("%s (%s): a packet wants an SA", l->conf.name, l->conf.peer);
	l->ask_again_ns = now + IKE_RETRY_S * UINT64_C(1000000000);
	if (!l->asked_ns)
		l->asked_ns = now;
	tell(k, &m);
}

/*
 * A dormant link: what was dropped because there is no SA wants one. When nothing comes of it the link goes down for a
 * while, so that routes with other metrics get what it cannot carry.
 */
static void on_demand(struct ike *k, struct link *l, uint64_t now)
{
	struct link_ctr c;

	if (l->conf.auth.start != IKE_START_DEMAND)
		return;
	if (sad_out(l) || !l->dormant) {
		l->asked_ns = l->ask_again_ns = l->wants_seen = 0;
		if (sad_out(l))
			l->hold_ns = 0;
		return;
	}
	if (load_link_ctr(k->d->load, l->id, &c))
		return;
	if (l->wants_seen && c.wants_sa + 1 != l->wants_seen)
		ask(k, l, now);
	l->wants_seen = c.wants_sa + 1; /* 0: not looked at since it is dormant */
	if (l->asked_ns && now > l->asked_ns + DEMAND_NS)
		l->hold_ns = now + HOLD_NS;
}

/* Nobody's packets either way, probes and dummies aside. */
static void end_idle(struct ike *k, struct link *l, uint64_t now)
{
	struct link_ctr c;
	uint64_t n;

	if (!l->conf.auth.idle_s || load_link_ctr(k->d->load, l->id, &c))
		return;
	n = l->w->ctr->out_pkts + l->w->ctr->in_pkts + c.kernel_segs + c.opened_segs;
	if (!sad_out(l) || n != l->idle_pkts || !l->idle_ns) {
		l->idle_pkts = n;
		l->idle_ns = sad_out(l) ? now : 0;
		return;
	}
	if (now < l->idle_ns + l->conf.auth.idle_s * UINT64_C(1000000000))
		return;
	l->idle_ns = now;
	log_info("%s (%s): no packet for %u s: its SAs are ended", l->conf.name, l->conf.peer, l->conf.auth.idle_s);
	ike_conn_end_all(k->d->ike_conn, &l->conf);
}

void ike_tick(struct ike *k, uint64_t now)
{
	struct daemon *d = k->d;
	bool connected;

	ike_generation(k, &connected);
	for (unsigned int i = 0; i < d->max_links; i++) {
		struct link *l = d->links[i];

		if (!l || !l->conf.ike[0])
			continue;
		for (const struct sa_set *s = l->sets; s; s = s->next) {
			hand_over(k, l, s, now);
			end_twice(k, l, s, now);
		}
		wish(k, l, now, connected);
		if (!connected || !d->ike_conn)
			continue;
		try_again(k, l, now);
		on_demand(k, l, now);
		end_idle(k, l, now);
	}
	for (unsigned int i = k->n_larval; i-- > 0;)
		if (now > k->larvals[i].until_ns)
			larval_drop(k, &k->larvals[i]);
	reap(k, now);
}
