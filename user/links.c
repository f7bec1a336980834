/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * links - the table of links: reconcile with a configuration, compute states, follow events.
 *
 * The order that keeps I1: protection is installed before a device exists, devices before SAs,
 * carriers last. On the way down: carrier, SAs, device, and only then (and only because an
 * operator asked) protection.
 */
#include <errno.h>
#include <stdlib.h>
#include "ahead.h"
#include "audit.h"
#include "backend.h"
#include "carry.h"
#include "device.h"
#include "early.h"
#include "guardian.h"
#include "ike.h"
#include "ike_conn.h"
#include "load.h"
#include "log.h"
#include "move.h"
#include "muster.h"
#include "nest.h"
#include "ns.h"
#include "path.h"
#include "protect.h"
#include "rekey.h"
#include "roll.h"
#include "sad.h"
#include "underlay.h"
#include "vip.h"
#include "wish.h"

static const char *const reason_names[] = {
#define X(name, str, text) [LINK_##name] = str,
	LINK_REASONS(X)
#undef X
};
static const char *const reason_texts[] = {
#define X(name, str, text) [LINK_##name] = text,
	LINK_REASONS(X)
#undef X
};

const char *link_reason_name(enum link_reason r)
{
	return r < LINK_REASON_MAX ? reason_names[r] : "unknown";
}

const char *link_reason_text(enum link_reason r)
{
	return r < LINK_REASON_MAX ? reason_texts[r] : "unknown";
}

const char *link_state_name(const struct link *l)
{
	return l->up ? "up" : l->dormant ? "dormant" : "down";
}

void links_beat(struct daemon *d)
{
	if (d->ready) /* until then there is nothing to be late with: carriers are where the guardian put them */
		load_beat(d->load)->control_ns = now_ns();
}

void links_wait(void *daemon, bool waits)
{
	struct daemon *d = daemon;

	if (d->ready)
		load_beat(d->load)->control_ns = now_ns() + (waits ? BEAT_KERNEL_MS * 1000000ull : 0);
}

bool links_own(const struct daemon *d, int ifindex)
{
	return links_at(d, ifindex);
}

void links_place(struct daemon *d, struct link *l, int ifindex, int b_ifindex)
{
	if (l->ifindex)
		chain_del(&d->by_ifindex, l->ifindex, l->id);
	if (l->b_ifindex)
		chain_del(&d->by_backend, l->b_ifindex, l->id);
	l->ifindex = ifindex;
	l->b_ifindex = b_ifindex;
	if (ifindex)
		chain_add(&d->by_ifindex, ifindex, l->id);
	if (b_ifindex)
		chain_add(&d->by_backend, b_ifindex, l->id);
	nest_place(d->nest, l->id, l->conf.netns[0] ? 0 : ifindex);
}

struct link *links_at(const struct daemon *d, int ifindex)
{
	chain_each(&d->by_ifindex, ifindex, i)
		if (d->links[i]->ifindex == ifindex && !d->links[i]->conf.netns[0])
			return d->links[i];
	return NULL;
}

struct link *links_behind(const struct daemon *d, int b_ifindex)
{
	chain_each(&d->by_backend, b_ifindex, i)
		if (d->links[i]->b_ifindex == b_ifindex)
			return d->links[i];
	return NULL;
}

struct link *links_by_name(struct daemon *d, const char *name)
{
	char alt[IFNAMSIZ + 8];

	for (unsigned int i = 0; i < d->max_links; i++) {
		struct link *l = d->links[i];

		if (!l)
			continue;
		snprintf(alt, sizeof alt, "ipsec:%u", l->conf.number);
		if (!strcmp(name, l->conf.name) || !strcmp(name, alt) || !strcmp(name, l->conf.peer))
			return l;
	}
	return NULL;
}

/* ---- events ---- */

static void event(struct daemon *d, const struct link *l, const char *what)
{
	json_t *ev;

	if (!d->on_event)
		return;
	ev = json_pack("{s:i s:s s:s s:s s:s s:s s:s}", "schema", 1, "event", what, "link", l->conf.name, "peer",
		       l->conf.peer, "state", link_state_name(l), "reason", link_reason_name(l->reason),
		       "reason_text", link_reason_text(l->reason));
	if (!ev)
		return;
	json_object_set_new(ev, "metric", json_integer(l->conf.metric));
	d->on_event(d, ev);
	json_decref(ev);
}

/* What became of `backend = auto`, or of a wish that cannot be met. */
static void event_backend(struct daemon *d, const struct link *l)
{
	json_t *ev;

	if (!d->on_event)
		return;
	ev = json_pack("{s:i s:s s:s s:s s:s s:s? s:s}", "schema", 1, "event", "link-backend", "link", l->conf.name, "peer",
		       l->conf.peer, "backend", l->no_backend ? NULL : backend_name(l->backend), "configured",
		       backend_name(l->conf.backend), "why", l->backend_why);
	if (!ev)
		return;
	d->on_event(d, ev);
	json_decref(ev);
}

/* Return: 0, or -EOPNOTSUPP: it stands and is protected, but carries nothing */
static int choose_backend(struct daemon *d, struct link *l, FILE *errs)
{
	int err = backend_choose(d, &l->conf, &l->backend, l->backend_why, sizeof l->backend_why, errs);

	l->no_backend = err;
	if (!l->backend_why[0])
		return err;
	log_info("%s (%s): backend %s: %s", l->conf.name, l->conf.peer,
		 err ? "none" : backend_name(l->backend), l->backend_why);
	event_backend(d, l);
	return err;
}

/* ---- the two halves: BPF and worker ---- */

enum liveness_mode link_liveness(const struct link *l)
{
	return link_by_kernel(l) && l->conf.liveness == LIVE_PROBE ? LIVE_PING : l->conf.liveness;
}

static void push_ent(struct daemon *d, struct link *l)
{
	const struct sa *out = l->out;
	struct link_ent e = {.flags = LINK_F_USED, .b_ifindex = l->b_ifindex, .worker = l->worker, .gen = l->gen,
			     .mtu = l->mtu, .f_ifindex = l->conf.netns[0] ? 0 : l->ifindex};

	if (out) {
		e.flags |= LINK_F_OUT_SA;
		e.out_slot = out->slot;
		e.out_sgen = out->sgen;
	}
	if (l->n_paths && l->paths[l->cur_path].loop)
		e.flags |= LINK_F_LOOP;
	if (l->conf.input == INPUT_SOCKET)
		e.flags |= LINK_F_NO_XSK;
	if (!l->admin_up || !l->dev_up)
		e.flags |= LINK_F_SHUT;
	if (link_by_kernel(l))
		e.flags |= LINK_F_KERNEL;
	if (l->x.ifindex) { /* while a link moves, it receives by either */
		e.flags |= (l->conf.inner.n ? LINK_F_INNER : 0) | (l->transport ? LINK_F_HOSTS : 0);
		e.x_ifindex = l->x.ifindex;
		e.echo_id = PROBE_ECHO_ID(l->id);
	}
	if (l->conf.mss_clamp && l->mtu) {
		e.mss4 = link_mss(l, IP4_HDR_LEN);
		e.mss6 = link_mss(l, IP6_HDR_LEN);
	}
	load_link_set(d->load, l->id, &e);
}

/* Between which of its addresses echoes go. In transport mode no others than those of the path's family do. */
static const struct p2p *echo_ends(const struct link *l)
{
	const struct p2p *a = &l->conf.address, *a6 = &l->conf.address6;
	const struct in6_addr *remote = l->n_paths ? &l->paths[l->cur_path].remote : &in6addr_any;

	if (l->transport && a6->set && !IN6_IS_ADDR_UNSPECIFIED(remote) && !addr_is4(remote))
		return a6;
	return a->set ? a : a6;
}

static void fill_wlink(const struct link *l, struct wlink *w)
{
	const struct p2p *asked = echo_ends(l);

	w->id = l->id;
	w->gen = l->gen;
	w->admin_up = l->admin_up && l->dev_up; /* a far end that is shut is no far end: questions stay unanswered */
	w->kernel = link_by_kernel(l) && l->x.sa;
	w->kernel_out = w->kernel ? l->x.sa->ctr : NULL;
	w->mode = link_liveness(l);
	w->interval_ns = l->conf.live_ms * 1000000ull;
	w->keepalive_ns = l->conf.keepalive_ms * 1000000ull;
	w->cover_ns = l->conf.cover ? 1000000000ull / l->conf.cover : 0;
	atomic_store_explicit(&w->mtu, l->mtu, memory_order_relaxed);
	w->tfc = l->conf.tfc;
	w->outer = l->conf.outer;
	w->ping_src = asked->own;
	w->addr4 = l->conf.address;
	w->addr6 = l->conf.address6;
	w->ping_dst = asked->far;
}

int link_inner(const struct link *l, struct prefix **out, unsigned int *n)
{
	const struct link_conf *c = &l->conf;
	struct prefix *p;

	*out = NULL;
	*n = 0;
	if (!c->inner.n)
		return 0;
	p = calloc(c->inner.n + c->ike_pool.n + 3, sizeof *p);
	if (!p)
		return -ENOMEM;
	memcpy(p, c->inner.p, c->inner.n * sizeof *p);
	*n = c->inner.n;
	for (unsigned int i = 0; i < c->ike_pool.n; i++)
		p[(*n)++] = c->ike_pool.p[i];
	if (p2p_has_far(&c->address))
		p[(*n)++] = (struct prefix){.addr = c->address.far, .len = addr_is4(&c->address.far) ? 32 : 128,
					    .is4 = addr_is4(&c->address.far)};
	if (p2p_has_far(&c->address6))
		p[(*n)++] = (struct prefix){.addr = c->address6.far, .len = 128};
	prefix_parse("fe80::/64", &p[(*n)++]);
	*out = p;
	return 0;
}

struct refill {
	struct link *l;
	uint8_t carriers[WORKER_MAX];
	unsigned int n_carriers;
	struct prefix *inner;
	unsigned int n_inner;
};

/* The next workers after its own: so their number says which. */
static void choose_carriers(const struct daemon *d, struct refill *r)
{
	const struct link *l = r->l;
	unsigned int n = link_by_kernel(l) ? 1 : MIN(l->conf.cores, d->n_workers);

	for (unsigned int i = 1; i < n; i++) {
		unsigned int k = (l->worker + i) % d->n_workers;
		int err = carry_connect(d->workers[l->worker], d->workers[k]);

		if (err) {
			log_warnx("%s: cores = %u: worker %u: %s; it carries nothing for this link", l->conf.name, l->conf.cores, k,
				  strerror(-err));
			return;
		}
		r->carriers[r->n_carriers++] = (uint8_t)k;
	}
}

/* A flow that changes carriers must find nothing of its own with the old one. */
static void set_carriers(struct worker *w, const struct refill *r)
{
	struct wlink *l = r->l->w;

	if (l->n_carriers == r->n_carriers)
		return;
	if (w)
		carry_settle(w);
	memcpy(l->carriers, r->carriers, sizeof l->carriers);
	l->n_carriers = r->n_carriers;
}

static int refill_in_worker(struct worker *w, void *arg)
{
	struct refill *r = arg;
	struct prefix *old = r->l->w->inner;

	fill_wlink(r->l, r->l->w);
	set_carriers(w, r);
	r->l->w->inner = r->inner;
	r->l->w->n_inner = r->n_inner;
	free(old);
	return 0;
}

static int push_wlink(struct daemon *d, struct link *l)
{
	struct refill r = {.l = l};
	int err = link_inner(l, &r.inner, &r.n_inner);

	if (err)
		return err;
	choose_carriers(d, &r);
	return l->in_worker ? worker_call(d->workers[l->worker], refill_in_worker, &r) : refill_in_worker(NULL, &r);
}

/* An echo that comes before device, state and policy is one that nobody counts. */
static void push_kernel(struct daemon *d, struct link *l)
{
	const struct sa_ctr *out = link_by_kernel(l) && l->x.sa ? l->x.sa->ctr : NULL;

	if (l->w->kernel_out != out)
		push_wlink(d, l);
}

/* Somebody sets ipsecN itself up or down: the peer shall know, as at the two ends of a cable. */
static void follow_device(struct daemon *d, struct link *l, bool up)
{
	if (l->dev_up == up)
		return;
	l->dev_up = up;
	push_wlink(d, l);
	push_ent(d, l);
}

static int set_in_worker(struct worker *w, void *arg)
{
	worker_link_set(w, arg);
	worker_probe_soon(w, arg);
	return 0;
}

static int clear_in_worker(struct worker *w, void *arg)
{
	worker_link_clear(w, ((struct wlink *)arg)->id);
	return 0;
}

/* ---- ids ---- */

/*
 * A predecessor's books for this link: whatever it had taken in and not accounted for was lost
 * with it (I5).
 */
static void close_books(struct daemon *d, unsigned int id)
{
	struct wlink_ctr *c = &load_wctr(d->load)[id];
	uint64_t out = c->out_pkts, in = c->in_pkts + c->in_probes;
	struct link_ctr k;

	if (load_link_ctr(d->load, id, &k))
		return;
	if (k.tap_segs > c->out_tap_segs)
		c->out_tap_segs = k.tap_segs;
	if (k.xsk_segs > c->out_xsk_segs)
		c->out_xsk_segs = k.xsk_segs;
	if (k.wire_pkts > c->in_xsk_pkts)
		c->in_xsk_pkts = k.wire_pkts;
	for (unsigned int i = 0; i < DROP_MAX; i++) {
		out += c->drops_out[i];
		in += c->drops_in[i];
	}
	if (c->out_tap_segs + c->out_xsk_segs > out)
		c->drops_out[DROP_WORKER_GONE] += c->out_tap_segs + c->out_xsk_segs - out;
	if (c->in_xsk_pkts + c->in_sock_pkts > in)
		c->drops_in[DROP_WORKER_GONE] += c->in_xsk_pkts + c->in_sock_pkts - in;
}

static void lower_one(void *arg, const struct nl_link *l)
{
	struct daemon *d = arg;

	if (l->name[0] == 'b' && !strcmp(l->kind, "veth") && l->flags & IFF_UP)
		nl_link_set_up(d->nl_k, l->ifindex, false);
}

static int unplug(void *arg)
{
	struct daemon *d = arg;
	int err = 0;

	for (unsigned int i = 0; i < WORKER_MAX && !err; i++)
		err = load_wire_dev_set(d->load, i, 0) ?: load_raw_dev_set(d->load, i, 0);
	return err;
}

int links_init(struct daemon *d)
{
	struct link_ent e;

	/* nothing is handed to anybody until the new workers stand, so the old books can be closed exactly */
	nl_link_each(d->nl_k, lower_one, d);
	ns_call(d->backend_fd, unplug, d);

	d->adopt = calloc(d->max_links, sizeof *d->adopt);
	d->links = calloc(d->max_links, sizeof *d->links);
	d->sas = calloc(d->max_sas, sizeof *d->sas);
	if (!d->adopt || !d->links || !d->sas || chain_init(&d->by_number, d->max_links) ||
	    chain_init(&d->by_ifindex, d->max_links) || chain_init(&d->by_backend, d->max_links))
		return -ENOMEM;
	for (unsigned int i = 0; i < d->max_links; i++) {
		if (load_link_get(d->load, i, &e))
			continue;
		d->adopt[i].gen = e.gen;
		if (!(e.flags & LINK_F_USED))
			continue;
		d->adopt[i].b_ifindex = e.b_ifindex;
		close_books(d, i);
	}
	return sad_init(d);
}

/* The id under which a predecessor kept the books of this very device; else one nobody claims. */
static int take_id(struct daemon *d, int b_ifindex, bool *adopted)
{
	int fresh = -ENOSPC, claimed = -ENOSPC;

	for (unsigned int i = 0; i < d->max_links; i++) {
		if (d->links[i])
			continue;
		if (b_ifindex && d->adopt[i].b_ifindex == (uint32_t)b_ifindex) {
			*adopted = true;
			return i;
		}
		if (!d->adopt[i].b_ifindex && fresh < 0)
			fresh = i;
		else if (d->adopt[i].b_ifindex && claimed < 0)
			claimed = i;
	}
	*adopted = false;
	return fresh >= 0 ? fresh : claimed;
}

/* Before the device is made: which backend device would be adopted, if any. */
static int standing_b(struct daemon *d, const struct link_conf *c)
{
	char name[IFNAMSIZ];
	struct nl_link b;

	snprintf(name, sizeof name, "b%u", c->number);
	return roll_link(d->roll, d->nl_k, name, &b) ? 0 : b.ifindex;
}

/* ---- adding ---- */

static struct link *new_link(struct daemon *d, const struct link_conf *c, FILE *errs)
{
	struct link *l = calloc(1, sizeof *l);
	bool adopted;
	int id;

	if (!l)
		return NULL;
	l->w = calloc(1, sizeof *l->w);
	id = take_id(d, standing_b(d, c), &adopted);
	if (!l->w || id < 0 || link_conf_copy(&l->conf, c)) {
		fprintf(errs, "%s: %s\n", c->name, id < 0 ? "no link id left: raise max-links" : "out of memory");
		free(l->w);
		free(l);
		return NULL;
	}
	l->id = id;
	l->gen = adopted ? d->adopt[id].gen : d->adopt[id].gen + 1;
	l->adopted = adopted;
	l->worker = id % d->n_workers;
	l->admin_up = !c->down;
	l->reason = LINK_NO_DEVICE;
	l->since_ns = now_ns();
	pthread_mutex_init(&l->w->path_lock, NULL);
	l->w->ctr = &load_wctr(d->load)[id];
	if (!adopted) {
		memset(l->w->ctr, 0, sizeof *l->w->ctr);
		load_link_ctr_zero(d->load, id);
	}
	d->adopt[id].b_ifindex = 0;
	d->adopt[id].gen = l->gen;
	d->links[id] = l;
	d->n_links++;
	chain_add(&d->by_number, l->conf.number, id);
	path_init(l);
	path_recall(d, l);
	wish_recall(d, l);
	l->transport = sad_is_transport(l);
	device_find(d, l); /* the protection laid before it is made goes on to allow what stands */
	return l;
}

static void forget(struct daemon *d, struct link *l)
{
	links_place(d, l, 0, 0);
	chain_del(&d->by_number, l->conf.number, l->id);
	d->links[l->id] = NULL;
	d->n_links--;
	path_free(l);
	link_conf_free(&l->conf);
	free(l->w->inner);
	free(l->x.inner.p);
	pthread_mutex_destroy(&l->w->path_lock);
	free(l->w);
	device_workload_close(l);
	free(l);
}

/* @anew: the configuration said something else to the IKE daemon before */
static int bring_sas(struct daemon *d, struct link *l, bool anew, FILE *errs)
{
	char files[SA_FILE_MAX], file[SA_FILE_MAX];
	const char *at = NULL;
	bool there;
	int err = 0;

	ike_generation(d->ike, &there);
	if (l->conf.ike[0])
		return ike_conn_load(there ? d->ike_conn : NULL, &l->conf, NULL, anew, errs);
	strcpy(files, l->conf.sa_file); /* sad_use() writes there */
	while ((at = link_conf_sa(files, at, file)))
		err = sad_load_static(d, l, file, false, errs) ?: err;
	return err;
}

/* Everything of a link but its protection, which stands already. */
static int raise_link(struct daemon *d, struct link *l, FILE *errs)
{
	int nobody = choose_backend(d, l, errs);
	int err = device_workload(d, l, errs);

	links_beat(d);
	path_lookup(d, l); /* tells the MTU of the device that is made */
	if (!err)
		err = device_make(d, l, errs);
	if (err)
		return err;
	err = device_config(d, l, NULL, errs);
	l->dev_up = !err;
	push_wlink(d, l);
	path_push(d, l);
	worker_call(d->workers[l->worker], set_in_worker, l->w);
	l->in_worker = true;
	push_ent(d, l);
	if (err)
		return err;
	device_set_mtu(d, l, path_mtu(l));
	if (!nobody)
		nobody = backend_of(l)->link(d, l);
	push_ent(d, l);
	err = nobody ? nobody : bring_sas(d, l, false, errs);
	device_set_mtu(d, l, path_mtu(l)); /* now that the suite is known */
	push_ent(d, l);
	push_kernel(d, l);
	return err;
}

int link_add(struct daemon *d, const struct link_conf *c, FILE *errs)
{
	struct link *l = new_link(d, c, errs);
	int err;

	if (!l)
		return -ENOSPC;
	err = protect_apply(d); /* floors and blocks before the device */
	if (err)
		fprintf(errs, "%s: a layer of protection is missing: %s (ipsecctl doctor)\n", c->name, strerror(-err));
	err = raise_link(d, l, errs);
	protect_apply(d); /* allows, now that the device has an index */
	d->routes_dirty = d->underlay_dirty = true;
	event(d, l, "link-added");
	return err;
}

/* Do virtual addresses stand as they are? */
static bool keeps_vips(const struct link_conf *a, const struct link_conf *b)
{
	return a->metric == b->metric && !memcmp(&a->address, &b->address, sizeof a->address) &&
	       !memcmp(&a->address6, &b->address6, sizeof a->address6) && link_conf_ike_equal(a, b);
}

static void forget_ike(struct daemon *d, const struct link_conf *c)
{
	bool there;

	ike_generation(d->ike, &there);
	if (c->ike[0] && there && d->ike_conn)
		ike_conn_unload(d->ike_conn, c);
}

int link_del(struct daemon *d, struct link *l)
{
	int err;

	links_beat(d);
	device_set_carrier(d, l, false);
	sad_flush_link(d, l);
	wish_set(d, l, false);
	forget_ike(d, &l->conf);
	backend_of(l)->unlink(d, l);
	worker_call(d->workers[l->worker], clear_in_worker, l->w);
	load_link_del(d->load, l->id);
	err = device_del(d, l);
	l->up = false;
	event(d, l, "link-removed");
	forget(d, l);
	d->protect_dirty = true;
	return err;
}

/* Its SAs, with the numbers they have; whoever hands packets over is told when the new one can take them. */
static int move(struct daemon *d, struct link *l, enum link_backend b, FILE *errs)
{
	const struct backend *from = backend_of(l), *to = backend_by_id(b);
	int err = move_begin(d, l, to, errs);

	if (err) {
		l->conf.backend = l->backend; /* as it is, it works */
		return err;
	}
	links_beat(d);
	protect_apply(d); /* knows its device now */
	links_beat(d);
	l->backend = b;
	err = move_use(d, l, to);
	push_wlink(d, l);
	push_ent(d, l);
	move_end(d, l, from, to, errs);
	push_ent(d, l);
	log_info("%s (%s): moved from backend %s to %s", l->conf.name, l->conf.peer, backend_name(from->id), backend_name(b));
	event_backend(d, l);
	return err;
}

/* It holds them for installed: so it makes them anew. */
static void tell_ike_gone(struct daemon *d, const struct link *l)
{
	for (const struct sa *sa = l->sas; sa && d->on_life; sa = sa->next)
		if (sa->owner && sa->dir == SA_IN) /* it stands for its pair */
			d->on_life(d, sa, true);
}

int link_set(struct daemon *d, struct link *l, const struct link_conf *c, FILE *errs)
{
	bool other = strcmp(l->conf.sa_file, c->sa_file) || strcmp(l->conf.ike, c->ike); /* source of keys */
	bool reload = other || (c->sa_file[0] && link_conf_equal(&l->conf, c));
	bool moved = strcmp(l->conf.netns, c->netns), moves;
	struct link_conf old = l->conf;
	enum link_backend b;
	char why[sizeof l->backend_why];
	int err = backend_choose(d, c, &b, why, sizeof why, errs);

	if (err) /* and the link stays as it is */
		return err;
	if (moved) { /* a veth that changes namespace loses addresses and routes anyway: make it anew */
		err = link_del(d, l);
		return err ? err : link_add(d, c, errs);
	}
	if (!keeps_vips(&old, c))
		vip_clear(d, l);
	memset(&l->conf, 0, sizeof l->conf);
	err = link_conf_copy(&l->conf, c);
	if (err) {
		l->conf = old;
		return err;
	}
	moves = l->backend != b && !reload && !l->no_backend && move_can(l);
	reload |= l->no_backend || (l->backend != b && !moves);
	if (l->backend != b && !moves) {
		tell_ike_gone(d, l);
		sad_flush_link(d, l);
		backend_of(l)->unlink(d, l);
	}
	if (!moves && (l->no_backend || l->backend != b || old.backend != c->backend))
		choose_backend(d, l, errs);
	l->admin_up = !c->down;
	l->transport = sad_is_transport(l);
	protect_apply(d);
	path_init(l);
	path_recall(d, l);
	path_lookup(d, l);
	path_push(d, l);
	push_wlink(d, l);
	err = backend_of(l)->link(d, l);
	if (l->ifindex)
		err = device_config(d, l, &old, errs);
	if (moves) {
		snprintf(l->backend_why, sizeof l->backend_why, "%s", why);
		err = move(d, l, b, errs) ?: err;
	}
	if (reload)
		sad_flush_link(d, l);
	if (other) {
		wish_set(d, l, false);
		forget_ike(d, &old);
	}
	if (reload || l->conf.ike[0])
		err = bring_sas(d, l, !link_conf_ike_equal(&old, c), errs);
	l->ike_try_ns = 0;
	device_set_mtu(d, l, path_mtu(l));
	sad_remote_changed(d, l);
	push_ent(d, l);
	push_kernel(d, l);
	link_conf_free(&old);
	d->routes_dirty = d->underlay_dirty = true;
	event(d, l, "link-changed");
	return err;
}

void link_follow_sa(struct daemon *d, struct link *l)
{
	vip_follow(d, l);
	device_set_mtu(d, l, path_mtu(l));
	push_ent(d, l);
	push_kernel(d, l);
}

void link_admin(struct daemon *d, struct link *l, bool up)
{
	l->admin_up = up;
	push_wlink(d, l);
	push_ent(d, l);
	link_tick(d, l);
}

/* ---- reconcile ---- */

/* Those links of ours that a configuration does not name. Return: array, NULL-terminated; NULL = no memory */
static struct link **not_in_conf(struct daemon *d, const struct conf *c)
{
	struct link **left = calloc(d->n_links + 1, sizeof *left);
	struct chain named;
	unsigned int n = 0;

	if (chain_init(&named, c->n_links)) {
		free(left);
		left = NULL;
	}
	for (unsigned int i = 0; left && i < c->n_links; i++)
		chain_add(&named, c->links[i].number, i);
	for (unsigned int i = 0; left && i < d->max_links; i++) {
		struct link *l = d->links[i];
		bool there = !l;

		if (l)
			chain_each(&named, l->conf.number, k)
				there |= !strcmp(c->links[k].name, l->conf.name);
		if (!there)
			left[n++] = l;
	}
	chain_free(&named);
	return left;
}

static void tell(json_t *report, const char *link, const char *action)
{
	if (report)
		json_array_append_new(report, json_pack("{s:s s:s}", "link", link, "action", action));
}

static struct link *by_device(struct daemon *d, const struct link_conf *c)
{
	chain_each(&d->by_number, c->number, i)
		if (!strcmp(d->links[i]->conf.name, c->name))
			return d->links[i];
	return NULL;
}

json_t *links_diff(struct daemon *d, const struct conf *c)
{
	struct link **gone = not_in_conf(d, c);
	json_t *report = json_array();
	struct link *l;

	for (unsigned int i = 0; gone && gone[i]; i++)
		tell(report, gone[i]->conf.name, "remove");
	free(gone);
	for (unsigned int i = 0; i < c->n_links; i++) {
		l = by_device(d, &c->links[i]);
		tell(report, c->links[i].name,
		     !l ? "add" : link_conf_equal(&l->conf, &c->links[i]) ? "keep" : "change");
	}
	return report;
}

static int remove_missing(struct daemon *d, const struct conf *c, json_t *report)
{
	struct link **gone = not_in_conf(d, c);
	int n = gone ? 0 : 1;

	for (unsigned int i = 0; gone && gone[i]; i++) {
		tell(report, gone[i]->conf.name, "remove");
		n += link_del(d, gone[i]) ? 1 : 0;
	}
	free(gone);
	return n;
}

/* Return: how many could not be made */
static int new_links(struct daemon *d, const struct conf *c, struct link **fresh, unsigned int *n, FILE *errs, json_t *report)
{
	int errors = 0;

	for (unsigned int i = 0; i < c->n_links; i++) {
		if (by_device(d, &c->links[i]))
			continue;
		early_says(d->early, "reading links", i, c->n_links);
		fresh[*n] = new_link(d, &c->links[i], errs);
		if (!fresh[*n]) {
			errors++;
			continue;
		}
		tell(report, c->links[i].name, "add");
		(*n)++;
	}
	return errors;
}

enum { FEW = 16 /* links that are asked for one by one */ };

/* New links in three strokes, so that protection is applied twice and not twice per link; once if all their devices stand. */
static int add_new(struct daemon *d, const struct conf *c, FILE *errs, json_t *report)
{
	struct link **fresh = calloc(c->n_links + 1, sizeof *fresh);
	unsigned int n = 0, stood = 0;
	int errors;

	if (!fresh)
		return 1;
	if (c->n_links > d->n_links + FEW)
		d->roll = roll_call(d->nl_u, d->nl_k);
	errors = new_links(d, c, fresh, &n, errs, report);
	for (unsigned int i = 0; i < n; i++)
		stood += fresh[i]->ifindex != 0;
	ahead_begin(d, fresh, n); /* its hands wait for the disk, we for nftables */
	early_says(d->early, "protection", 0, 0);
	if (n && protect_apply(d))
		fprintf(errs, "a layer of protection is missing: ipsecctl doctor names it\n");
	nl_hold(d->nl_u);
	for (unsigned int i = 0; i < n; i++) {
		early_says(d->early, "links", i, n);
		errors += raise_link(d, fresh[i], errs) ? 1 : 0;
	}
	early_says(d->early, "protection and routes", 0, 0);
	nl_let_go(d->nl_u);
	ahead_end(d);
	roll_free(d->roll);
	d->roll = NULL;
	if (stood < n)
		protect_apply(d);
	for (unsigned int i = 0; i < n; i++)
		event(d, fresh[i], "link-added");
	free(fresh);
	return errors;
}

int links_apply(struct daemon *d, const struct conf *c, FILE *errs, json_t *report)
{
	int errors = remove_missing(d, c, report);

	for (unsigned int i = 0; i < c->n_links; i++) {
		struct link *l = by_device(d, &c->links[i]);

		if (!l)
			continue;
		if (link_conf_equal(&l->conf, &c->links[i])) {
			tell(report, c->links[i].name, "keep");
			continue;
		}
		tell(report, c->links[i].name, "change");
		errors += link_set(d, l, &c->links[i], errs) ? 1 : 0;
	}
	errors += add_new(d, c, errs, report);
	links_routes_changed(d);
	if (underlay_refresh(d))
		errors++;
	return errors;
}

/* ---- state ---- */

static uint64_t relaxed(const _Atomic uint64_t *v)
{
	return atomic_load_explicit(v, memory_order_relaxed);
}

static bool any_refused(const struct link *l)
{
	for (const struct sa *sa = l->sas; sa; sa = sa->next)
		if (sa->refused[0])
			return true;
	return false;
}

/* Without an SA to use: has its life ended, was it refused, or was there none? */
static enum link_reason why_no_sa(const struct daemon *d, const struct link *l)
{
	bool there;

	for (const struct sa *sa = l->sas; sa; sa = sa->next)
		if (sa->ended)
			return sa->ended == LIFE_SEQUENCE ? LINK_SA_EXHAUSTED : LINK_SA_EXPIRED;
	ike_generation(d->ike, &there);
	if (l->conf.ike[0] && !there)
		return LINK_NO_IKE;
	return any_refused(l) ? LINK_SA_REFUSED : LINK_NO_SA;
}

/* The worker's clock readings may be newer than ours: compare sums, never differences. */
static enum link_reason by_liveness(const struct link *l, uint64_t now)
{
	uint64_t window = (l->conf.live_ms * (uint64_t)l->conf.live_count + SLACK_MS) * 1000000u;
	uint64_t round = relaxed(&l->w->live.roundtrip_ns), heard = relaxed(&l->w->live.heard_ns);
	bool waited = now > l->since_ns + window;

	if (l->conf.liveness == LIVE_OFF || (round && now < round + window))
		return LINK_OK;
	if (l->dormant && now < l->switched_ns + window)
		return LINK_STARTING;
	if (heard && now < heard + window)
		return round || now > heard + window / 2 || waited ? LINK_ONE_WAY : LINK_STARTING;
	return round || heard || waited ? LINK_NO_ANSWER : LINK_STARTING;
}

/* The whole truth about a link, from what is the case now (I7). */
static enum link_reason compute(const struct daemon *d, const struct link *l, uint64_t now)
{
	const struct sa *out = sad_out(l), *in = sad_in(l);
	const struct link_path *p = &l->paths[l->cur_path];
	bool any = out && in;
	enum link_reason none;
	uint64_t seq, iv;

	if (!l->ifindex)
		return LINK_NO_DEVICE;
	if (!l->admin_up || !l->dev_up)
		return LINK_ADMIN_DOWN;
	if (l->no_backend)
		return LINK_NO_BACKEND;
	none = any ? LINK_OK : why_no_sa(d, l);
	if (!any && (none != LINK_NO_SA || l->conf.auth.start != IKE_START_DEMAND || now < l->hold_ns))
		return none;
	if (!l->n_paths || IN6_IS_ADDR_UNSPECIFIED(&p->remote))
		return LINK_NO_ENDPOINT;
	if (p->loop)
		return LINK_ROUTE_LOOP;
	if (p->error)
		return LINK_NO_ROUTE;
	if (!any)
		return LINK_ON_DEMAND;
	out->backend->used(out, &seq, &iv);
	if (seq >= out->seq_limit)
		return LINK_SA_EXHAUSTED;
	return by_liveness(l, now);
}

/* Dormant before there is a carrier, and no carrier before it is not dormant: never up in between. */
static void show_state(struct daemon *d, struct link *l)
{
	if (l->dormant)
		device_set_dormant(d, l, true);
	device_set_carrier(d, l, l->up || l->dormant);
	if (!l->dormant)
		device_set_dormant(d, l, false);
}

static void update_state(struct daemon *d, struct link *l, uint64_t now)
{
	enum link_reason r = compute(d, l, now);
	bool up = r == LINK_OK, dormant = r == LINK_ON_DEMAND || (l->dormant && r == LINK_STARTING);
	bool other = up != l->up || dormant != l->dormant;

	if (other) {
		l->flaps += l->up && !dormant; /* that is an end, not a failure */
		l->since_ns = now;
	}
	if (other || r != l->reason) {
		l->up = up;
		l->dormant = dormant;
		l->reason = r;
		log_info("%s (%s): %s, %s", l->conf.name, l->conf.peer, link_state_name(l), link_reason_name(r));
		show_state(d, l);
		event(d, l, "link-state");
	}
	show_state(d, l); /* also when the guardian lowered it meanwhile */
}

static void tell_moved(struct daemon *d, const struct link *l, unsigned int i)
{
	const struct link_path *p = &l->paths[i];
	char buf[INET6_ADDRSTRLEN];

	if (d->endpoints && p->conf.any)
		endpoints_note(d->endpoints, l->conf.peer, i, &p->remote, p->conf.encap == ENCAP_UDP ? p->port : 0);
	log_info("%s (%s): the peer is now at %s port %u%s", l->conf.name, l->conf.peer, addr_str(&p->remote, buf),
		 p->port, l->n_paths > 1 ? ", by one of its paths" : "");
}

/* The worker learned where the peer is now. */
static bool take_endpoint(struct daemon *d, struct link *l)
{
	uint32_t moved = atomic_load(&l->w->live.moved);

	if (moved == l->moved_seen)
		return false;
	l->moved_seen = moved;
	for (unsigned int i = 0; i < l->n_paths; i++)
		if (path_take_endpoint(l, i))
			tell_moved(d, l, i);
	l->moved_ns = now_ns();
	event(d, l, "endpoint-moved");
	return true;
}

/* Its backend learns of every change; one that failed, or whose device was deleted, is tried again each tick. */
static void follow_backend(struct daemon *d, struct link *l)
{
	if (!l->no_backend)
		l->backend_stale = backend_of(l)->link(d, l);
	push_kernel(d, l);
}

static void path_changed(struct daemon *d, struct link *l)
{
	sad_remote_changed(d, l);
	follow_backend(d, l);
	device_set_mtu(d, l, path_mtu(l));
	push_ent(d, l);
	if (l->conf.protect.n || l->transport || d->protect_dirty)
		d->protect_dirty = true;
	for (unsigned int i = 0; !d->protect_dirty && i < l->n_paths; i++)
		if (!IN6_IS_ADDR_UNSPECIFIED(&l->paths[i].remote))
			load_peer_set(d->load, &l->paths[i].remote);
	d->underlay_dirty = true;
}

void link_follow_path(struct daemon *d, struct link *l)
{
	path_lookup(d, l);
	path_push(d, l);
	path_changed(d, l);
}

void link_peer_moved(struct daemon *d, struct link *l, unsigned int path)
{
	tell_moved(d, l, path);
	l->moved_ns = now_ns();
	event(d, l, "endpoint-moved");
	link_follow_path(d, l);
	if (d->on_moved)
		d->on_moved(d, l);
}

static void follow_paths(struct daemon *d, struct link *l)
{
	bool named = path_tick(d, l), moved = take_endpoint(d, l);

	if (path_told(d, l)) {
		device_set_mtu(d, l, path_mtu(l));
		push_ent(d, l);
	}
	if (named || moved)
		path_lookup(d, l);
	if (path_pick(d, l) || named || moved)
		path_changed(d, l);
	if (named || moved || l->paths_stale)
		path_push(d, l);
	if (moved && d->on_moved)
		d->on_moved(d, l);
}

void links_routes_changed(struct daemon *d)
{
	uint64_t start = now_ns();

	d->routes_dirty = d->own_moved = false;
	nl_hold(d->nl_u);
	for (unsigned int i = 0; i < d->max_links; i++)
		if (d->links[i])
			path_lookup(d, d->links[i]);
	nl_let_go(d->nl_u);
	path_loops(d);
	for (unsigned int i = 0; i < d->max_links; i++) {
		struct link *l = d->links[i];

		if (!l)
			continue;
		path_pick(d, l);
		sad_remote_changed(d, l);
		follow_backend(d, l);
		if (l->paths_stale)
			path_push(d, l);
		device_set_mtu(d, l, path_mtu(l));
		push_ent(d, l);
	}
	d->routes_done_ns = now_ns();
	d->routes_took_ns = d->routes_done_ns - start;
}

/*
 * Routes over a device of ours come and go with its carrier, and nobody tells: envelopes of others may be routed
 * into it from now on. At most a tenth of the time goes into looking, however many links come up one after the other.
 */
static bool look_again(const struct daemon *d, uint64_t now)
{
	if (d->loops_due_ns && now >= d->loops_due_ns)
		return true;
	return d->own_moved && now - d->routes_done_ns >= 10 * d->routes_took_ns;
}

static void remake(struct daemon *d, struct link *l)
{
	if (!l->lost)
		return;
	l->lost = false;
	log_warnx("%s: the device was deleted; making it again (ipsecctl link del removes a link)", l->conf.name);
	if (device_make(d, l, stderr) || device_config(d, l, NULL, stderr))
		return;
	follow_device(d, l, true);
	push_ent(d, l);
	d->protect_dirty = d->underlay_dirty = true;
}

/* Links in namespaces of their own: no notification reaches us from there, so look, once a second. */
static void look_at_workloads(struct daemon *d, uint64_t now)
{
	static uint64_t next;
	struct nl_link w;

	if (now < next)
		return;
	next = now + 1000000000u;
	for (unsigned int i = 0; i < d->max_links; i++) {
		struct link *l = d->links[i];

		if (!l || !l->own_nl || !l->ifindex)
			continue;
		if (nl_link_get_index(l->nl, l->ifindex, &w))
			w = (struct nl_link){.ifindex = l->ifindex, .deleted = true};
		links_on_link(d, l->nl, &w);
	}
}

enum { TICK_SLICE_MS = 200 };

static void tick_one(struct daemon *d, struct link *l, uint64_t now)
{
	links_beat(d);
	follow_paths(d, l);
	if (l->backend_stale) {
		follow_backend(d, l);
		push_ent(d, l);
	}
	sad_tick(d, l);
	if (rekey_tick(d, l, now))
		link_follow_sa(d, l);
	vip_follow(d, l);
	update_state(d, l, now);
}

/* Thousands of carriers that rise at once are seconds of work for the kernel: a slice at a time. */
static bool tick_all(struct daemon *d, uint64_t now)
{
	uint64_t end = now_ns() + TICK_SLICE_MS * 1000000ull;

	for (unsigned int n = 0; n < d->max_links; n++) {
		struct link *l = d->links[d->tick_next];

		d->tick_next = (d->tick_next + 1) % d->max_links;
		if (!l)
			continue;
		tick_one(d, l, now);
		if (now_ns() > end)
			return n + 1 == d->max_links;
	}
	return true;
}

bool links_tick(struct daemon *d)
{
	uint64_t now = now_ns();

	look_at_workloads(d, now);
	for (unsigned int i = 0; i < d->max_links; i++)
		if (d->links[i])
			remake(d, d->links[i]);
	if (d->routes_dirty || look_again(d, now))
		links_routes_changed(d);
	if (d->underlay_dirty) {
		d->underlay_dirty = false;
		underlay_refresh(d);
	}
	underlay_intake(d, now);
	protect_tick(d, now);
	backend_xfrm_tick(d, now);
	audit_tick(d);
	if (d->endpoints)
		endpoints_sync(d->endpoints, false);
	muster_tick(d, now);
	return tick_all(d, now);
}

void link_tick(struct daemon *d, struct link *l)
{
	d->tick_next = l->id;
	links_tick(d);
}

/*
 * Deleted: made again, unless that was another of its number before it: the probe's. Lowered by somebody, and its IPv6
 * route gone with that: up again.
 */
static void on_xfrm_device(struct daemon *d, const struct nl_link *ev)
{
	struct nl_link now;

	for (unsigned int i = 0; i < d->max_links; i++) {
		struct link *l = d->links[i];

		if (!l || l->x.ifindex != ev->ifindex)
			continue;
		if (ev->deleted && !nl_link_get_index(d->nl_k, ev->ifindex, &now))
			return;
		if (ev->deleted) {
			log_warnx("%s: its xfrm device was deleted; making it again", l->conf.name);
			l->x.ifindex = 0;
			l->backend_stale = true;
			l->x.ready = false;
		} else if (!(ev->flags & IFF_UP)) {
			l->x.ready = false;
			l->backend_stale = true;
		}
		return;
	}
}

/* The guardian may have lowered a carrier while we hung: what is counts, not what we last said. */
void links_on_backend(struct daemon *d, const struct nl_link *ev)
{
	struct link *l = links_behind(d, ev->ifindex);

	if (l && !ev->deleted)
		l->carrier = ev->flags & IFF_UP;
	else if (!l && !strcmp(ev->kind, "xfrm"))
		on_xfrm_device(d, ev);
}

void links_on_link(struct daemon *d, const struct nl *nl, const struct nl_link *ev)
{
	bool mine = false;

	chain_each(&d->by_ifindex, ev->ifindex, i) {
		struct link *l = d->links[i];

		if (l->nl != nl || l->ifindex != ev->ifindex)
			continue;
		mine = true;
		if (ev->deleted) {
			links_place(d, l, 0, 0);
			l->carrier = false;
			follow_device(d, l, false);
			l->lost = true;
			continue;
		}
		if (!l->dev_up && ev->flags & IFF_UP)
			device_restore(d, l);
		follow_device(d, l, ev->flags & IFF_UP);
	}
	if (mine)
		d->own_moved = true;
	else
		d->underlay_dirty = d->routes_dirty = true;
}

void links_resync(struct daemon *d)
{
	struct nl_link w, b;

	d->routes_dirty = d->underlay_dirty = true;
	for (unsigned int i = 0; i < d->max_links; i++) {
		struct link *l = d->links[i];

		if (!l || !l->ifindex)
			continue;
		if (nl_link_get_index(l->nl, l->ifindex, &w))
			w = (struct nl_link){.ifindex = l->ifindex, .deleted = true};
		links_on_link(d, l->nl, &w);
		if (!nl_link_get_index(d->nl_k, l->b_ifindex, &b))
			links_on_backend(d, &b);
	}
}

void links_all_down(struct daemon *d)
{
	for (unsigned int i = 0; i < d->max_links; i++)
		if (d->links[i])
			device_set_carrier(d, d->links[i], false);
}

void links_free(struct daemon *d)
{
	for (unsigned int i = 0; d->links && i < d->max_links; i++) {
		struct link *l = d->links[i];
		struct sa *sa;

		if (!l)
			continue;
		while ((sa = l->sas)) { /* slots keep their windows for the successor */
			l->sas = sa->next;
			sad_close(d, sa);
		}
		forget(d, l);
	}
	backend_xfrm_fini(d);
	free(d->links);
	chain_free(&d->by_number);
	chain_free(&d->by_ifindex);
	chain_free(&d->by_backend);
	sad_fini(d);
	free(d->sas);
	free(d->adopt);
	free(d->underlay);
	free(d->locals);
}
