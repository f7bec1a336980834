/* SPDX-License-Identifier: GPL-2.0-or-later */
/* backend_afxdp - SAs whose halves the link's worker has: by worker_call(), for only it writes there. */
#include <errno.h>
#include <stdlib.h>
#include "backend.h"
#include "load.h"
#include "log.h"
#include "saset.h"

static struct worker *worker_of(struct daemon *d, const struct sa *sa)
{
	return d->workers[sa->link->worker];
}

/* ---- installation ---- */

static int in_to_worker(struct worker *w, void *arg)
{
	return worker_sa_in_set(w, arg);
}

static int in_from_worker(struct worker *w, void *arg)
{
	worker_sa_in_clear(w, arg);
	return 0;
}

static bool by_udp(const struct link *l, const struct sa_spec *s)
{
	bool udp = !s->file && s->udp;

	for (unsigned int i = 0; s->file && i < l->n_paths; i++)
		udp |= l->paths[i].conf.encap == ENCAP_UDP;
	return udp;
}

static int install_in(struct daemon *d, struct sa *sa, const struct sa_spec *s, const struct sa_conf *conf)
{
	struct sa_ctr *ctr = &load_sactr(d->load)[sa->slot];
	struct sa_conf copy = *conf, *c = &copy;
	struct link *l = sa->link;
	struct sa_in_ent e = {.slot = sa->slot, .sgen = sa->sgen, .link = l->id, .worker = l->worker};
	struct wsa_in *w = calloc(1, sizeof *w);
	int err;

	if (!w)
		return -ENOMEM;
	w->slot = sa->slot;
	w->sgen = sa->sgen;
	w->link = l->id;
	w->ctr = ctr;
	w->set = &sa->set->w;
	life_init(&w->life, &c->life, now_ns());
	if (sa->adopted) /* the window itself survived: exact, where the durable mark is only safe */
		c->seq_start = 0;
	err = sa_in_init(&w->sa, c, (uint64_t *)&ctr->top, load_replay(d->load) + ctr->word_off);
	sa_conf_wipe(&copy);
	if (err) {
		free(w);
		return err;
	}
	replay_trim(&w->sa.replay);
	sa->last_top = ctr->top;
	sa->first_pkts = ctr->pkts;
	log_debug("%s: in sa 0x%08x: window %s at %llu, durable mark %llu", l->conf.name, conf->spi,
		  sa->adopted ? "adopted" : "new", (unsigned long long)ctr->top, (unsigned long long)conf->seq_start);
	sa->win = w;
	sa->installed = true;
	e.window = sa->window;
	if (sa->esn)
		e.flags |= SA_IN_F_ESN;
	if (by_udp(l, s))
		e.flags |= SA_IN_F_UDP;
	if (l->conf.input == INPUT_SOCKET)
		e.flags |= SA_IN_F_SOCKET;
	err = worker_call(worker_of(d, sa), in_to_worker, w);
	return err ? err : load_sa_in_set(d->load, htonl(conf->spi), &e);
}

static int install_out(struct daemon *d, struct sa *sa, const struct sa_conf *c)
{
	struct wsa_out *w = calloc(1, sizeof *w);
	int err;

	if (!w)
		return -ENOMEM;
	w->slot = sa->slot;
	w->sgen = sa->sgen;
	w->ctr = &load_sactr(d->load)[sa->slot];
	life_init(&w->life, &c->life, now_ns());
	err = sa_out_init(&w->sa, c);
	if (err) {
		free(w);
		return err;
	}
	w->sa.seq_limit = sa->seq_limit;
	w->sa.iv_limit = sa->iv_limit;
	sa->wout = w;
	sa->installed = true;
	return 0;
}

static int install(struct daemon *d, struct sa *sa, const struct sa_spec *s, const struct sa_conf *c)
{
	return c->dir == SA_IN ? install_in(d, sa, s, c) : install_out(d, sa, c);
}

static void forget(struct sa *sa)
{
	if (sa->win) {
		sa_in_fini(&sa->win->sa);
		free(sa->win);
	}
	if (sa->wout) {
		sa_out_fini(&sa->wout->sa);
		free(sa->wout);
	}
}

static void close_sa(struct daemon *d, struct sa *sa)
{
	(void)d;
	forget(sa);
}

static void out_from_worker(struct daemon *d, struct sa *sa)
{
	struct wsa_out *w = sa->wout;

	if (sa->set->out == sa || sa->set->asked == sa) { /* it goes on elsewhere: move.h */
		sa->wout = NULL;
		saset_push(d, sa->link);
		sa->wout = w;
	}
	sa->iv_used = MAX(sa->iv_used, w->sa.iv);
}

static void uninstall(struct daemon *d, struct sa *sa)
{
	if (sa->win) {
		load_sa_in_del(d->load, htonl(sa->spi));
		worker_call(worker_of(d, sa), in_from_worker, sa->win);
	}
	if (sa->wout)
		out_from_worker(d, sa);
	forget(sa);
	sa->win = NULL;
	sa->wout = NULL;
}

/* ---- in service ---- */

static int use(struct daemon *d, struct sa *sa)
{
	saset_push(d, sa->link);
	return 0;
}

static void ask(struct daemon *d, struct sa *sa)
{
	saset_push(d, sa->link);
}

/* The worker's counters are sa->ctr itself. */
static void look(struct daemon *d, struct sa *sa)
{
	(void)d;
	(void)sa;
}

static int limits_to_worker(struct worker *w, void *arg)
{
	struct sa *sa = arg;

	(void)w;
	sa->wout->sa.seq_limit = sa->seq_limit;
	sa->wout->sa.iv_limit = sa->iv_limit;
	return 0;
}

static void limits(struct daemon *d, struct sa *sa)
{
	worker_call(worker_of(d, sa), limits_to_worker, sa);
}

/* Read without asking the worker: they only grow, so a stale value reserves early. */
static void used(const struct sa *sa, uint64_t *seq, uint64_t *iv)
{
	*seq = __atomic_load_n(&sa->wout->sa.seq, __ATOMIC_RELAXED);
	*iv = __atomic_load_n(&sa->wout->sa.iv, __ATOMIC_RELAXED);
}

static const struct life *life_of(const struct sa *sa)
{
	return sa->dir == SA_OUT ? &sa->wout->life : &sa->win->life;
}

static enum life_cause over(const struct sa *sa, uint64_t now)
{
	return life_over(life_of(sa), now);
}

static uint64_t end_ns(const struct sa *sa)
{
	return sa->win || sa->wout ? life_of(sa)->end_ns : 0;
}

/* From here on every packet is refused with the reason; the key is not needed for that. */
static int end_in_worker(struct worker *w, void *arg)
{
	struct sa *sa = arg;
	struct life *life = sa->dir == SA_OUT ? &sa->wout->life : &sa->win->life;

	(void)w;
	atomic_store_explicit(&life->over, sa->ended, memory_order_relaxed);
	if (sa->dir == SA_OUT)
		sa_out_end(&sa->wout->sa);
	else
		sa_in_end(&sa->win->sa);
	return 0;
}

static void end(struct daemon *d, struct sa *sa)
{
	worker_call(worker_of(d, sa), end_in_worker, sa);
}

static int link_follow(struct daemon *d, struct link *l)
{
	(void)d;
	(void)l;
	return 0;
}

static void link_leave(struct daemon *d, struct link *l)
{
	(void)d;
	(void)l;
}

const struct backend backend_afxdp = {
	.id = BACKEND_AFXDP, .install = install, .use = use, .ask = ask, .look = look, .limits = limits, .used = used,
	.over = over, .end_ns = end_ns, .end = end, .uninstall = uninstall, .close = close_sa, .link = link_follow,
	.unlink = link_leave,
};
