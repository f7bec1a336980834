/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "esp.h"
#include "load.h"
#include "log.h"
#include "safile.h"
#include "sad.h"

enum { MARK_MIN_STEP = 1024, MARK_JUMP = 1 << 18 };

/* ---- slots in the pinned maps ---- */

static bool same_identity(const struct sa_ctr *c, const struct sa_conf *s)
{
	return c->dir == s->dir && ntohl(c->spi_be) == s->spi && c->fingerprint == s->fingerprint;
}

/* A predecessor's slot for this very SA, else a free one. Return: slot or -ENOSPC */
static int slot_take(struct daemon *d, const struct sa_conf *s, bool *adopted)
{
	struct sa_ctr *ctr = load_sactr(d->load);
	int free_slot = -ENOSPC;

	for (unsigned int i = 0; i < d->max_sas; i++) {
		if (!d->sas[i] && same_identity(&ctr[i], s)) {
			*adopted = true;
			return i;
		}
		if (!d->sas[i] && !ctr[i].dir && free_slot < 0)
			free_slot = i;
	}
	*adopted = false;
	return free_slot;
}

/* First gap in the word pool that holds n words. Return: offset or -ENOSPC */
static int64_t words_take(struct daemon *d, uint32_t n)
{
	struct sa_ctr *ctr = load_sactr(d->load);
	uint64_t pool = (uint64_t)d->max_sas * SA_REPLAY_WORDS, at = d->words_hint;

	if (at + n <= pool) {
		d->words_hint = at + n;
		return at;
	}
	at = 0;
	for (unsigned int i = 0; i < d->max_sas; i++) {
		if (!ctr[i].n_words || at + n <= ctr[i].word_off || at >= ctr[i].word_off + ctr[i].n_words)
			continue;
		at = ctr[i].word_off + ctr[i].n_words;
		if (at + n > pool)
			return -ENOSPC;
		i = -1; /* moved: look at everybody again */
	}
	return at;
}

static int slot_bind(struct daemon *d, struct sa *sa, const struct sa_conf *c)
{
	struct sa_ctr *ctr = load_sactr(d->load);
	uint32_t n = c->dir == SA_IN ? replay_words(c->window) : 0;
	bool adopted;
	int64_t at = 0;
	int slot = slot_take(d, c, &adopted);

	if (slot < 0)
		return slot;
	if (adopted && ctr[slot].n_words != n)
		ctr[slot].n_words = 0; /* another window size: only top is kept */
	if (n && !ctr[slot].n_words) {
		at = words_take(d, n);
		if (at < 0)
			return at;
		memset(load_replay(d->load) + at, adopted ? 0xff : 0, n * sizeof(uint64_t));
		ctr[slot].word_off = at;
		ctr[slot].n_words = n;
	}
	if (!adopted) {
		uint32_t off = ctr[slot].word_off;

		memset(&ctr[slot], 0, sizeof ctr[slot]);
		ctr[slot].word_off = off;
		ctr[slot].n_words = n;
		ctr[slot].spi_be = htonl(c->spi);
		ctr[slot].fingerprint = c->fingerprint;
		ctr[slot].dir = c->dir;
	}
	sa->adopted = adopted;
	sa->slot = slot;
	sa->sgen = ++d->next_sgen;
	d->sas[slot] = sa;
	return 0;
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

static int out_to_worker(struct worker *w, void *arg)
{
	struct sa *sa = arg;

	sa->link->w->out = sa->wout;
	if (sa->window < WINDOW_NARROW)
		worker_stay(w);
	return 0;
}

static int out_from_worker(struct worker *w, void *arg)
{
	struct sa *sa = arg;

	if (sa->link->w->out == sa->wout)
		sa->link->w->out = NULL;
	return 0;
}

static int install_in(struct daemon *d, struct sa *sa, const struct sa_conf *conf)
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
	if (sa->adopted) /* the window itself survived: exact, where the durable mark is only safe */
		c->seq_start = 0;
	err = sa_in_init(&w->sa, c, (uint64_t *)&ctr->top, load_replay(d->load) + ctr->word_off);
	sa_conf_wipe(&copy);
	if (err) {
		free(w);
		return err;
	}
	sa->last_top = ctr->top;
	log_debug("%s: in sa 0x%08x: window %s at %llu, durable mark %llu", l->conf.name, conf->spi,
		  sa->adopted ? "adopted" : "new", (unsigned long long)ctr->top, (unsigned long long)conf->seq_start);
	sa->win = w;
	for (unsigned int i = 0; i < l->n_paths; i++)
		e.flags |= l->paths[i].conf.encap == ENCAP_UDP ? SA_IN_F_UDP : 0;
	if (l->conf.input == INPUT_SOCKET)
		e.flags |= SA_IN_F_SOCKET;
	err = worker_call(d->workers[l->worker], in_to_worker, w);
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
	err = sa_out_init(&w->sa, c);
	if (err) {
		free(w);
		return err;
	}
	w->sa.seq_limit = sa->seq_limit;
	w->sa.iv_limit = sa->iv_limit;
	sa->wout = w;
	sad_remote_changed(d, sa->link);
	return worker_call(d->workers[sa->link->worker], out_to_worker, sa);
}

static void env_forget(struct daemon *d, struct sa *sa)
{
	if (!IN6_IS_ADDR_UNSPECIFIED(&sa->env_dst))
		load_env_del(d->load, htonl(sa->spi), &sa->env_dst);
	sa->env_dst = (struct in6_addr)IN6ADDR_ANY_INIT;
}

void sad_remote_changed(struct daemon *d, struct link *l)
{
	const struct in6_addr *remote = l->n_paths ? &l->paths[l->cur_path].remote : &in6addr_any;

	for (struct sa *sa = l->sas; sa; sa = sa->next) {
		if (sa->dir != SA_OUT || !memcmp(remote, &sa->env_dst, sizeof *remote))
			continue;
		env_forget(d, sa);
		if (IN6_IS_ADDR_UNSPECIFIED(remote))
			continue;
		load_env_set(d->load, htonl(sa->spi), remote, l->id);
		sa->env_dst = *remote;
	}
}

static void sa_uninstall(struct daemon *d, struct sa *sa)
{
	struct worker *w = d->workers[sa->link->worker];

	if (sa->dir == SA_IN && sa->win) {
		load_sa_in_del(d->load, htonl(sa->spi));
		worker_call(w, in_from_worker, sa->win);
		sa_in_fini(&sa->win->sa);
		free(sa->win);
	} else if (sa->wout) {
		env_forget(d, sa);
		worker_call(w, out_from_worker, sa);
		sa_out_fini(&sa->wout->sa);
		free(sa->wout);
	}
	ledger_close(sa->ledger);
}

/* ---- static SAs ---- */

static struct sa *sa_new(struct link *l, const struct sa_conf *c)
{
	struct sa *sa = calloc(1, sizeof *sa);

	if (!sa)
		return NULL;
	sa->link = l;
	sa->dir = c->dir;
	sa->spi = c->spi;
	sa->alg = c->alg;
	sa->mode = c->mode;
	sa->esn = c->esn;
	sa->window = c->window;
	sa->fingerprint = c->fingerprint;
	sa->created_ns = now_ns();
	sa->next = l->sas;
	l->sas = sa;
	return sa;
}

/* Refusals stay visible: the SA is listed with the sentence, and the link says sa-refused. */
static int refuse(struct sa *sa, const char *text, FILE *errs)
{
	snprintf(sa->refused, sizeof sa->refused, "%.*s", (int)strcspn(text, "\n"), text);
	fprintf(errs, "%s: %s sa 0x%08x: %s\n", sa->link->conf.name, sa->dir == SA_OUT ? "out" : "in", sa->spi,
		sa->refused);
	log_warnx("%s: %s sa 0x%08x refused: %s", sa->link->conf.name, sa->dir == SA_OUT ? "out" : "in", sa->spi,
		  sa->refused);
	return 0;
}

static bool key_in_use(struct daemon *d, const struct sa_conf *c)
{
	for (unsigned int i = 0; i < d->max_sas; i++)
		if (d->sas[i] && d->sas[i]->fingerprint == c->fingerprint)
			return true;
	return false;
}

static bool spi_in_use(struct daemon *d, const struct sa_conf *c)
{
	for (unsigned int i = 0; i < d->max_sas; i++)
		if (d->sas[i] && d->sas[i]->dir == SA_IN && c->dir == SA_IN && d->sas[i]->spi == c->spi)
			return true;
	return false;
}

static int install_static(struct daemon *d, struct link *l, struct sa_conf *c, FILE *errs)
{
	struct sa *sa = sa_new(l, c);
	char *text = NULL;
	size_t len;
	FILE *why;
	int err;

	if (!sa)
		return -ENOMEM;
	if (key_in_use(d, c))
		return refuse(sa, "this key is loaded already: every SA needs a key of its own (ipsecctl static pair)", errs);
	if (spi_in_use(d, c))
		return refuse(sa, "another inbound SA has this SPI: make a new pair (ipsecctl static pair)", errs);
	why = open_memstream(&text, &len);
	if (!why)
		return -ENOMEM;
	err = ledger_open(&sa->ledger, d->state_dir, c, why);
	if (!err)
		err = ledger_start(sa->ledger, c, &sa->seq_limit, &sa->iv_limit);
	fclose(why);
	if (err) {
		refuse(sa, len ? text : strerror(-err), errs);
		free(text);
		return 0;
	}
	free(text);
	err = slot_bind(d, sa, c);
	if (!err)
		err = c->dir == SA_IN ? install_in(d, sa, c) : install_out(d, sa, c);
	if (err)
		return refuse(sa, err == -ENOSPC ? "no SA slot left: raise max-links" : strerror(-err), errs);
	sa->live = true;
	return 0;
}

bool sad_is_transport(const struct link *l)
{
	enum sa_mode mode;

	return l->conf.sa_file[0] && !safile_mode(l->conf.sa_file, &mode) && mode == SA_TRANSPORT;
}

/* What file and configuration want of each other. */
static int check_mode(const struct link *l, const struct sa_conf *c, FILE *errs)
{
	if (c->mode != SA_TRANSPORT || !l->conf.tfc)
		return 0;
	fprintf(errs, "%s: tfc needs tunnel mode (RFC 4303 2.7), %s says transport\n", l->conf.name,
		l->conf.sa_file);
	return -EINVAL;
}

int sad_load_static(struct daemon *d, struct link *l, FILE *errs)
{
	struct sa_conf out, in;
	int err = safile_load(l->conf.sa_file, &out, &in, errs);

	if (err)
		return err;
	err = check_mode(l, &out, errs);
	if (!err)
		err = install_static(d, l, &in, errs); /* receive before send (I6) */
	if (!err)
		err = install_static(d, l, &out, errs);
	sa_conf_wipe(&out);
	sa_conf_wipe(&in);
	return err;
}

static void slot_free(struct daemon *d, struct sa *sa)
{
	if (d->sas[sa->slot] != sa)
		return;
	d->sas[sa->slot] = NULL;
	memset(&load_sactr(d->load)[sa->slot], 0, sizeof(struct sa_ctr));
}

void sad_flush_link(struct daemon *d, struct link *l)
{
	struct sa *sa;

	while ((sa = l->sas)) {
		l->sas = sa->next;
		/* the window goes with the slot: from now on the durable mark guards what was received */
		if (sa->live && sa->dir == SA_IN && sa->ledger)
			ledger_mark_in(sa->ledger, sa->win->ctr->top);
		sa_uninstall(d, sa);
		slot_free(d, sa);
		free(sa);
	}
}

void sad_close(struct daemon *d, struct sa *sa)
{
	if (sa->live && sa->dir == SA_IN && sa->ledger)
		ledger_mark_in(sa->ledger, sa->win->ctr->top);
	if (sa->win) {
		sa_in_fini(&sa->win->sa);
		free(sa->win);
	}
	if (sa->wout) {
		sa_out_fini(&sa->wout->sa);
		free(sa->wout);
	}
	ledger_close(sa->ledger);
	free(sa);
}

void sad_init(struct daemon *d)
{
	const struct sa_ctr *ctr = load_sactr(d->load);

	for (unsigned int i = 0; i < d->max_sas; i++)
		if (ctr[i].n_words)
			d->words_hint = MAX(d->words_hint, (uint64_t)ctr[i].word_off + ctr[i].n_words);
}

void sad_sweep(struct daemon *d)
{
	struct sa_ctr *ctr = load_sactr(d->load);

	for (unsigned int i = 0; i < d->max_sas; i++)
		if (!d->sas[i] && ctr[i].dir)
			memset(&ctr[i], 0, sizeof ctr[i]);
}

static struct sa *find(const struct link *l, enum sa_dir dir)
{
	for (struct sa *sa = l->sas; sa; sa = sa->next)
		if (sa->dir == dir && sa->live)
			return sa;
	return NULL;
}

struct sa *sad_out(const struct link *l)
{
	return find(l, SA_OUT);
}

struct sa *sad_in(const struct link *l)
{
	return find(l, SA_IN);
}

struct esp_layout sad_layout(const struct link *l)
{
	const struct sa *out = sad_out(l);

	return out ? sa_layout(out->alg) : ESP_LAYOUT_AEAD;
}

/* ---- durable marks ---- */

static int limits_to_worker(struct worker *w, void *arg)
{
	struct sa *sa = arg;

	sa->wout->sa.seq_limit = sa->seq_limit;
	sa->wout->sa.iv_limit = sa->iv_limit;
	return 0;
}

/* The worker's counters, read without asking it: they only grow, so a stale value reserves early. */
static void reserve(struct daemon *d, struct sa *sa)
{
	uint64_t seq = __atomic_load_n(&sa->wout->sa.seq, __ATOMIC_RELAXED);
	uint64_t iv = __atomic_load_n(&sa->wout->sa.iv, __ATOMIC_RELAXED);
	uint64_t step = sa->esn ? LEDGER_SEQ_STEP : LEDGER_SEQ_STEP_NO_ESN;
	int err;

	if (sa->seq_limit - seq > step / 2 && sa->iv_limit - iv > LEDGER_IV_STEP / 2)
		return;
	err = ledger_reserve(sa->ledger, seq, iv, &sa->seq_limit, &sa->iv_limit);
	if (!err) {
		worker_call(d->workers[sa->link->worker], limits_to_worker, sa);
		return;
	}
	if (!sa->refused[0])
		log_warnx("%s: out sa 0x%08x: cannot reserve sequence numbers: %s; sending stops at the last reserved one",
			  sa->link->conf.name, sa->spi, strerror(-err));
	snprintf(sa->refused, sizeof sa->refused, "cannot reserve sequence numbers: %s", strerror(-err));
}

/*
 * The durable mark stays ahead of the window by some seconds of the present rate. It only matters
 * when the machine lost its memory; a restart of the daemon finds the window itself in the map.
 */
static void raise_mark(struct sa *sa)
{
	uint64_t top = __atomic_load_n(&sa->win->ctr->top, __ATOMIC_RELAXED);
	uint64_t moved = top - sa->last_top;
	uint64_t step = MARK_MIN_STEP;

	if (moved < MARK_JUMP) /* more is a sender that restarted, not a rate */
		step = MAX(moved * 40, step);

	sa->last_top = top;
	if (top + step / 2 < ledger_mark(sa->ledger))
		return;
	if (ledger_mark_in(sa->ledger, top + step))
		log_rl("%s: in sa 0x%08x: cannot store the receive mark", sa->link->conf.name, sa->spi);
}

void sad_tick(struct daemon *d, struct link *l)
{
	for (struct sa *sa = l->sas; sa; sa = sa->next) {
		if (!sa->live || !sa->ledger)
			continue;
		if (sa->dir == SA_OUT)
			reserve(d, sa);
		else
			raise_mark(sa);
	}
}
