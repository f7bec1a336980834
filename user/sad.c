/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "ahead.h"
#include "backend.h"
#include "esp.h"
#include "load.h"
#include "log.h"
#include "safile.h"
#include "sad.h"
#include "saset.h"

enum { MARK_JUMP = 1 << 18, USED_MIN_BYTES = 1 << 20 };

/* ---- events ---- */

static const char *dir_name(const struct sa *sa)
{
	return sa->dir == SA_OUT ? "out" : "in";
}

static uint64_t relaxed(const __u64 *v)
{
	return __atomic_load_n(v, __ATOMIC_RELAXED);
}

void sad_event(struct daemon *d, const struct sa *sa, const char *what, enum life_cause cause)
{
	const struct sa_ctr *c = sa->ctr;
	char spi[16], fp[20];
	json_t *ev;

	if (!d->on_event)
		return;
	snprintf(spi, sizeof spi, "0x%08x", sa->spi);
	snprintf(fp, sizeof fp, "%016llx", (unsigned long long)sa->fingerprint);
	ev = json_pack("{s:i s:s s:s s:s s:s s:s s:s s:s? s:I s:I s:I}", "schema", 1, "event", what, "link",
		       sa->link->conf.name, "peer", sa->link->conf.peer, "dir", dir_name(sa), "spi", spi,
		       "fingerprint", fp, "cause", life_name(cause), "packets", (json_int_t)relaxed(&c->pkts),
		       "bytes", (json_int_t)relaxed(&c->bytes), "seq", (json_int_t)relaxed(&c->top));
	if (!ev)
		return;
	d->on_event(d, ev);
	json_decref(ev);
}

/* ---- slots in the pinned maps ---- */

static bool same_identity(const struct sa_ctr *c, const struct sa_conf *s)
{
	return c->dir == s->dir && ntohl(c->spi_be) == s->spi && c->fingerprint == s->fingerprint;
}

/* A predecessor's slot for this very SA, else a free one. Return: slot or -ENOSPC */
static int slot_take(struct daemon *d, const struct sa_conf *s, bool *adopted)
{
	struct sa_ctr *ctr = load_sactr(d->load);

	chain_each(&d->sa_by_key, s->fingerprint, i) {
		if (d->sas[i] || !same_identity(&ctr[i], s))
			continue;
		*adopted = true;
		return i;
	}
	*adopted = false;
	while (d->free_hint < d->max_sas && (d->sas[d->free_hint] || ctr[d->free_hint].dir))
		d->free_hint++;
	return d->free_hint < d->max_sas ? (int)d->free_hint : -ENOSPC;
}

/* Nobody's any more, its counters with it. */
static void slot_clear(struct daemon *d, uint32_t slot)
{
	struct sa_ctr *ctr = &load_sactr(d->load)[slot];

	if (ctr->dir)
		chain_del(&d->sa_by_key, ctr->fingerprint, slot);
	memset(ctr, 0, sizeof *ctr);
	d->free_hint = MIN(d->free_hint, slot);
}

/* struct span - words of the replay pool that are taken */
struct span {
	uint64_t from, to;
};

static int cmp_span(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return x->from < y->from ? -1 : x->from > y->from;
}

static int64_t first_gap(struct daemon *d, uint32_t n)
{
	const struct sa_ctr *ctr = load_sactr(d->load);
	struct span *taken = calloc(d->max_sas + 1, sizeof *taken);
	unsigned int k = 0;
	uint64_t at = 0;

	if (!taken)
		return -ENOMEM;
	for (unsigned int i = 0; i < d->max_sas; i++)
		if (ctr[i].n_words)
			taken[k++] = (struct span){ctr[i].word_off, (uint64_t)ctr[i].word_off + ctr[i].n_words};
	qsort(taken, k, sizeof *taken, cmp_span);
	for (unsigned int i = 0; i < k && at + n > taken[i].from; i++)
		at = MAX(at, taken[i].to);
	free(taken);
	return at + n <= (uint64_t)d->max_sas * SA_REPLAY_WORDS ? (int64_t)at : -ENOSPC;
}

/* n words of the pool: at its end, when that is reached in the first gap. Return: offset or -ENOSPC */
static int64_t words_take(struct daemon *d, uint32_t n)
{
	uint64_t pool = (uint64_t)d->max_sas * SA_REPLAY_WORDS, at = d->words_hint;

	if (at + n > pool)
		return first_gap(d, n);
	d->words_hint = at + n;
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
		chain_add(&d->sa_by_key, c->fingerprint, slot);
	}
	sa->adopted = adopted;
	sa->slot = slot;
	sa->sgen = ++d->next_sgen;
	d->sas[slot] = sa;
	if (c->dir == SA_IN)
		chain_add(&d->sa_by_spi, c->spi, slot);
	return 0;
}

/* ---- what envelopes are called ---- */

static void env_forget(struct daemon *d, struct sa *sa)
{
	for (unsigned int i = 0; i < PATHS_MAX; i++)
		if (!IN6_IS_ADDR_UNSPECIFIED(&sa->env_dst[i]))
			load_env_del(d->load, htonl(sa->spi), &sa->env_dst[i]);
	memset(sa->env_dst, 0, sizeof sa->env_dst);
}

/* Paths may share a remote: all are forgotten before any is set. */
static void env_follow(struct daemon *d, struct sa *sa, const struct in6_addr remote[PATHS_MAX])
{
	if (!memcmp(remote, sa->env_dst, sizeof sa->env_dst))
		return;
	env_forget(d, sa);
	for (unsigned int i = 0; i < PATHS_MAX; i++)
		if (!IN6_IS_ADDR_UNSPECIFIED(&remote[i]))
			load_env_set(d->load, htonl(sa->spi), &remote[i], sa->link->id);
	memcpy(sa->env_dst, remote, sizeof sa->env_dst);
}

void sad_remote_changed(struct daemon *d, struct link *l)
{
	struct in6_addr remote[PATHS_MAX] = {0};

	for (unsigned int i = 0; i < l->n_paths; i++)
		remote[i] = l->paths[i].remote;
	for (struct sa *sa = l->sas; sa; sa = sa->next)
		if (sa->dir == SA_OUT)
			env_follow(d, sa, remote);
}

/* ---- in service ---- */

/* What it takes the place of: also a file that was refused. */
static const char *file_before(const struct sa *sa)
{
	const struct sa *old = sa->set->out;

	for (const struct sa *o = sa->link->sas; o && !old; o = o->next)
		if (o->set == sa->set && o->file && strcmp(o->file, sa->file))
			old = o;
	return old ? old->file : NULL;
}

int sad_use(struct daemon *d, struct sa *sa)
{
	struct sa_set *s = sa->set;
	struct sa *was = s->out;
	const char *before = sa->file ? file_before(sa) : NULL;
	int err;

	s->out = sa;
	s->asked = NULL;
	saset_choose(sa->link);
	err = sa->backend->use(d, sa);
	if (err) {
		s->out = was;
		saset_choose(sa->link);
		return err;
	}
	if (sa->file && link_conf_sa_swap(&sa->link->conf, before, sa->file))
		log_warnx("%s: no room for %s in its sa line: a restart of ipsecd does not load it", sa->link->conf.name, sa->file);
	s->switched_ns = sa->link->switched_ns = now_ns();
	sad_event(d, sa, "sa-in-use", LIFE_NONE);
	return 0;
}

void sad_ask(struct daemon *d, struct sa *sa)
{
	sa->set->asked = sa;
	sa->backend->ask(d, sa);
}

static void sa_uninstall(struct daemon *d, struct sa *sa)
{
	if (sa->dir == SA_OUT)
		env_forget(d, sa);
	saset_retire(d, sa);
	if (sa->installed)
		sa->backend->uninstall(d, sa);
	sa->installed = false;
	saset_leave(sa);
	ledger_close(sa->ledger);
}

/* ---- adding ---- */

static void sa_free(struct sa *sa)
{
	free(sa->file);
	free(sa);
}

static struct sa *sa_new(struct daemon *d, struct link *l, const struct sa_spec *s)
{
	const struct sa_conf *c = &s->conf;
	struct sa *sa = calloc(1, sizeof *sa);

	if (!sa)
		return NULL;
	sa->link = l;
	sa->epoch = s->epoch ? s->epoch : ++d->next_epoch;
	sa->file = s->file ? strdup(s->file) : NULL;
	sa->owner = s->owner;
	sa->initiated = s->initiated;
	sa->dst = s->dst;
	sa->dir = c->dir;
	sa->spi = c->spi;
	sa->alg = c->alg;
	sa->mode = c->mode;
	sa->esn = c->esn;
	sa->window = c->window;
	sa->fingerprint = c->fingerprint;
	sa->created_ns = now_ns();
	if ((s->file && !sa->file) || saset_join(sa, &c->sels)) {
		sa_free(sa);
		return NULL;
	}
	sa->next = l->sas;
	l->sas = sa;
	return sa;
}

/* Refusals of files stay visible: the SA is listed with the sentence, and the link says sa-refused. */
static int refuse(struct sa *sa, int err, const char *text, FILE *errs)
{
	snprintf(sa->refused, sizeof sa->refused, "%.*s", (int)strcspn(text, "\n"), text);
	fprintf(errs, "%s: %s sa 0x%08x: %s\n", sa->link->conf.name, dir_name(sa), sa->spi, sa->refused);
	log_warnx("%s: %s sa 0x%08x refused: %s", sa->link->conf.name, dir_name(sa), sa->spi, sa->refused);
	return err;
}

static bool key_in_use(struct daemon *d, const struct sa_conf *c)
{
	chain_each(&d->sa_by_key, c->fingerprint, i)
		if (d->sas[i] && d->sas[i]->fingerprint == c->fingerprint)
			return true;
	return false;
}

bool sad_spi_free(const struct daemon *d, uint32_t spi)
{
	chain_each(&d->sa_by_spi, spi, i)
		if (d->sas[i]->spi == spi)
			return false;
	return true;
}

static bool used_up(const struct life_conf *c)
{
	return (c->hard.pkts && c->used_pkts >= c->hard.pkts) || (c->hard.bytes && c->used_bytes >= c->hard.bytes);
}

/* What is used: exactly, by a predecessor's counters; else what is durable. A life that ended has ended. */
static void bind_life(struct daemon *d, struct sa *sa, struct sa_conf *c)
{
	struct sa_ctr *ctr = &load_sactr(d->load)[sa->slot];

	if (!sa->adopted) {
		ctr->pkts = c->life.used_pkts;
		ctr->bytes = c->life.used_bytes;
	} else if (!used_up(&c->life)) {
		c->life.used_pkts = ctr->pkts;
		c->life.used_bytes = ctr->bytes;
	}
	sa->life = c->life;
	sa->soft_ns = life_at(c->life.soft.time_s, c->life.age_ms, now_ns());
}

/* What may be used of the numbers: of a file what the ledger says, which fills the rest of c, too. */
static int bind_ledger(struct daemon *d, struct sa *sa, struct sa_conf *c, FILE *errs)
{
	char *text = NULL;
	size_t len;
	FILE *why = open_memstream(&text, &len);
	int err = 0;

	if (!why)
		return refuse(sa, -ENOMEM, strerror(ENOMEM), errs);
	links_beat(d); /* a disk may take its time */
	if (!ahead_take(d, sa->link, c, &sa->ledger, &sa->seq_limit, &sa->iv_limit))
		err = ledger_begin(&sa->ledger, d->state_dir, c, &sa->seq_limit, &sa->iv_limit, why);
	links_beat(d);
	fclose(why);
	if (err)
		refuse(sa, err, len ? text : strerror(-err), errs);
	free(text);
	return err;
}

/*
 * An IKE daemon's key is new, and every number is free. Should it hand one over twice all the same, the
 * IVs of the second start above any the first can have used, as a ledger's do (I2).
 */
static void bind_fresh(struct sa *sa, struct sa_conf *c)
{
	if (c->dir == SA_OUT)
		c->iv_start = ledger_clock_ms() << LEDGER_IV_SHIFT;
	sa->seq_limit = c->esn ? UINT64_MAX : UINT32_MAX;
	sa->iv_limit = UINT64_MAX;
}

/* Everything between the record and the worker. c: our copy, with what is durable filled in. */
static int install(struct daemon *d, struct sa *sa, const struct sa_spec *s, struct sa_conf *c, FILE *errs)
{
	int err;

	if (sa->link->no_backend)
		return refuse(sa, -EOPNOTSUPP, sa->link->backend_why, errs);
	if (key_in_use(d, c))
		return refuse(sa, -EEXIST,
			      "this key is loaded already: every SA needs a key of its own (ipsecctl static pair)", errs);
	if (c->dir == SA_IN && !sad_spi_free(d, c->spi))
		return refuse(sa, -EEXIST, "another inbound SA has this SPI: make a new pair (ipsecctl static pair)", errs);
	if (!s->file)
		bind_fresh(sa, c);
	err = s->file ? bind_ledger(d, sa, c, errs) : 0;
	if (err)
		return err;
	sa->iv_used = c->iv_start ? c->iv_start - 1 : 0;
	err = slot_bind(d, sa, c);
	if (!err) {
		sa->ctr = &load_sactr(d->load)[sa->slot];
		bind_life(d, sa, c);
		sa->backend = backend_of(sa->link);
		err = sa->backend->install(d, sa, s, c);
	}
	if (!sa->installed)
		sa->ctr = NULL;
	if (err)
		return refuse(sa, err, err == -ENOSPC ? "no SA slot left: raise max-links" : strerror(-err), errs);
	sa->live = true;
	if (sa->dir == SA_OUT)
		sad_remote_changed(d, sa->link);
	sad_event(d, sa, "sa-added", LIFE_NONE);
	if (sa->dir == SA_OUT && !aead_encrypts(aead_by_alg(sa->alg)->kind))
		log_warnx("%s: out sa 0x%08x: %s: this suite does not encrypt: whoever taps the wire reads every packet",
			  sa->link->conf.name, sa->spi, aead_by_alg(sa->alg)->name);
	if (sa->dir == SA_OUT && ((s->owner && !s->standby) || (!sa->set->out && !(s->standby && saset_covered(sa)))))
		return sad_use(d, sa);
	return 0;
}

int sad_add(struct daemon *d, struct link *l, const struct sa_spec *s, struct sa **sap, FILE *errs)
{
	struct sa_conf c = s->conf;
	struct sa *sa = sa_new(d, l, s);
	int err = sa ? install(d, sa, s, &c, errs) : -ENOMEM;

	sa_conf_wipe(&c);
	if (err && sa && !s->file) {
		sad_remove(d, sa);
		sa = NULL;
	}
	if (sap)
		*sap = sa;
	return err;
}

struct sa *sad_find(const struct link *l, enum sa_dir dir, uint32_t spi)
{
	for (struct sa *sa = l->sas; sa; sa = sa->next)
		if (sa->dir == dir && sa->spi == spi)
			return sa;
	return NULL;
}

void sad_query(const struct sa *sa, struct sa_use *u)
{
	const struct sa_ctr *c;

	*u = (struct sa_use){0};
	if (!sa->ctr)
		return;
	c = sa->ctr;
	*u = (struct sa_use){relaxed(&c->pkts), relaxed(&c->bytes), relaxed(&c->last_used_ns)};
}

/* ---- static SAs ---- */

bool sad_is_transport(const struct link *l)
{
	char file[SA_FILE_MAX];
	enum sa_mode mode;

	return link_conf_sa(l->conf.sa_file, NULL, file) && !safile_peek(file, &mode, NULL) && mode == SA_TRANSPORT;
}

/* What file and configuration want of each other. */
static int check_mode(const struct link *l, const char *file, const struct sa_conf *c, FILE *errs)
{
	if (l->out && l->out->mode != c->mode) {
		fprintf(errs, "%s: %s is for %s mode, the link is in %s mode: ipsecctl link set %s sa file:%s\n",
			l->conf.name, file, c->mode == SA_TRANSPORT ? "transport" : "tunnel",
			c->mode == SA_TRANSPORT ? "tunnel" : "transport", l->conf.name, file);
		return -EINVAL;
	}
	if (c->mode != SA_TRANSPORT || !l->conf.tfc)
		return 0;
	fprintf(errs, "%s: tfc needs tunnel mode (RFC 4303 2.7), %s says transport\n", l->conf.name, file);
	return -EINVAL;
}

int sad_load_static(struct daemon *d, struct link *l, const char *file, bool standby, FILE *errs)
{
	struct sa_spec out = {.file = file, .standby = standby}, in = {.file = file};
	int err = safile_load(file, &out.conf, &in.conf, errs);

	if (err)
		return err;
	err = check_mode(l, file, &out.conf, errs);
	in.epoch = out.epoch = ++d->next_epoch;
	if (err)
		goto wipe;
	/* receive before send (I6); what is refused is listed, and no error of ours */
	err = sad_add(d, l, &in, NULL, errs) == -ENOMEM || sad_add(d, l, &out, NULL, errs) == -ENOMEM ? -ENOMEM : 0;
wipe:
	sa_conf_wipe(&out.conf);
	sa_conf_wipe(&in.conf);
	return err;
}

static void slot_free(struct daemon *d, struct sa *sa)
{
	if (d->sas[sa->slot] != sa)
		return;
	if (sa->dir == SA_IN)
		chain_del(&d->sa_by_spi, sa->spi, sa->slot);
	d->sas[sa->slot] = NULL;
	slot_clear(d, sa->slot);
}

void sad_remove(struct daemon *d, struct sa *sa)
{
	struct sa **at = &sa->link->sas;

	while (*at != sa)
		at = &(*at)->next;
	*at = sa->next;
	/* the window goes with the slot: from now on the durable mark guards what was received */
	if (sa->dir == SA_IN && sa->ctr && sa->ledger)
		ledger_mark_in(sa->ledger, sa->ctr->top);
	if (sa->installed)
		sad_event(d, sa, "sa-removed", LIFE_NONE);
	sa_uninstall(d, sa);
	slot_free(d, sa);
	sa_free(sa);
}

void sad_flush_link(struct daemon *d, struct link *l)
{
	while (l->sas)
		sad_remove(d, l->sas);
}

void sad_close(struct daemon *d, struct sa *sa)
{
	if (sa->dir == SA_IN && sa->ctr && sa->ledger)
		ledger_mark_in(sa->ledger, sa->ctr->top);
	if (sa->installed)
		sa->backend->close(d, sa);
	saset_leave(sa);
	ledger_close(sa->ledger);
	sa_free(sa);
}

int sad_init(struct daemon *d)
{
	const struct sa_ctr *ctr = load_sactr(d->load);

	if (chain_init(&d->sa_by_key, d->max_sas) || chain_init(&d->sa_by_spi, d->max_sas))
		return -ENOMEM;
	for (unsigned int i = d->max_sas; i-- > 0;) {
		if (ctr[i].dir)
			chain_add(&d->sa_by_key, ctr[i].fingerprint, i);
		if (ctr[i].n_words)
			d->words_hint = MAX(d->words_hint, (uint64_t)ctr[i].word_off + ctr[i].n_words);
	}
	return 0;
}

void sad_fini(struct daemon *d)
{
	chain_free(&d->sa_by_key);
	chain_free(&d->sa_by_spi);
}

void sad_sweep(struct daemon *d)
{
	const struct sa_ctr *ctr = load_sactr(d->load);

	for (unsigned int i = 0; i < d->max_sas; i++)
		if (!d->sas[i] && ctr[i].dir)
			slot_clear(d, i);
}

struct sa *sad_out(const struct link *l)
{
	return l->out && l->out->live ? l->out : NULL;
}

struct sa *sad_in(const struct link *l)
{
	for (struct sa *sa = l->sas; sa; sa = sa->next)
		if (sa->dir == SA_IN && sa->live)
			return sa;
	return NULL;
}

bool sad_heard(const struct sa *sa)
{
	return sa->dir == SA_IN && sa->live && relaxed(&sa->ctr->pkts) > sa->first_pkts;
}

/* At most, of any packet. */
static uint32_t overhead(struct esp_layout l)
{
	return esp_headroom(l) + l.align - 1u + ESP_TRAILER_LEN + l.icv_len;
}

struct esp_layout sad_layout(const struct link *l)
{
	struct esp_layout most = ESP_LAYOUT_AEAD;
	bool found = false;

	for (const struct sa_set *s = l->sets; s; s = s->next) {
		struct esp_layout o = s->out && s->out->live ? sa_layout(s->out->alg) : most;

		if (s->out && s->out->live && (!found || overhead(o) > overhead(most))) {
			most = o;
			found = true;
		}
	}
	return most;
}

/* ---- durable marks ---- */

static void reserve(struct daemon *d, struct sa *sa)
{
	uint64_t seq, iv;
	uint64_t step = sa->esn ? LEDGER_SEQ_STEP : LEDGER_SEQ_STEP_NO_ESN;
	int err;

	sa->backend->used(sa, &seq, &iv);
	if (sa->seq_limit - seq > step / 2 && sa->iv_limit - iv > LEDGER_IV_STEP / 2)
		return;
	err = ledger_reserve(sa->ledger, seq, iv, &sa->seq_limit, &sa->iv_limit);
	if (!err) {
		sa->backend->limits(d, sa);
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
	uint64_t top = relaxed(&sa->ctr->top);
	uint64_t moved = top - sa->last_top;
	uint64_t step = LEDGER_MARK_STEP;

	if (moved < MARK_JUMP) /* more is a sender that restarted, not a rate */
		step = MAX(moved * 40, step);

	sa->last_top = top;
	if (top + step / 2 < ledger_mark(sa->ledger))
		return;
	if (ledger_mark_in(sa->ledger, top + step))
		log_rl("%s: in sa 0x%08x: cannot store the receive mark", sa->link->conf.name, sa->spi);
}

/* ---- lifetimes ---- */

static bool counts_use(const struct life_conf *c)
{
	return c->soft.pkts || c->soft.bytes || c->hard.pkts || c->hard.bytes;
}

/* Ahead of what is used, like the receive mark; at a hard limit only once that has ended the SA. */
static uint64_t ahead(uint64_t used, uint64_t durable, uint64_t moved, uint64_t least, uint64_t hard)
{
	uint64_t step = MAX(moved * 40, least);

	if (used + step / 2 < durable)
		return 0;
	return hard ? MIN(used + step, hard - 1) : used + step;
}

static void store_use(struct sa *sa)
{
	const struct sa_ctr *c = sa->ctr;
	uint64_t pkts = relaxed(&c->pkts), bytes = relaxed(&c->bytes), had_pkts, had_bytes;
	uint64_t to_pkts, to_bytes;

	if (!counts_use(&sa->life))
		return;
	ledger_used(sa->ledger, &had_pkts, &had_bytes);
	to_pkts = ahead(pkts, had_pkts, pkts - sa->last_pkts, LEDGER_MARK_STEP, sa->life.hard.pkts);
	to_bytes = ahead(bytes, had_bytes, bytes - sa->last_bytes, USED_MIN_BYTES, sa->life.hard.bytes);
	sa->last_pkts = pkts;
	sa->last_bytes = bytes;
	if (ledger_use(sa->ledger, to_pkts, to_bytes))
		log_rl("%s: %s sa 0x%08x: cannot store what is used of its lifetime", sa->link->conf.name,
		       dir_name(sa), sa->spi);
}

static uint64_t last_number(const struct sa *sa)
{
	return sa->esn ? UINT64_MAX : UINT32_MAX;
}

/* The numbers of RFC 4303 3.3.3 are a lifetime, too; soft when seven eighths are used. */
static enum life_cause soft_reached(const struct sa *sa, uint64_t now)
{
	const struct sa_ctr *c = sa->ctr;
	enum life_cause cause = life_soft(&sa->life.soft, sa->soft_ns, now, relaxed(&c->bytes), relaxed(&c->pkts));

	if (!cause && relaxed(&c->top) > last_number(sa) / 8 * 7)
		cause = LIFE_SEQUENCE;
	return cause;
}

static enum life_cause hard_reached(const struct sa *sa, uint64_t now)
{
	enum life_cause cause = sa->backend->over(sa, now);

	/* inbound ones may still get what was late */
	if (!cause && sa->dir == SA_OUT && relaxed(&sa->ctr->top) == last_number(sa))
		cause = LIFE_SEQUENCE;
	return cause;
}

static void end_sa(struct daemon *d, struct sa *sa, enum life_cause cause)
{
	sa->ended = cause;
	sa->live = false;
	if (sa->dir == SA_OUT) { /* another set may live on */
		saset_choose(sa->link);
		saset_push(d, sa->link);
	}
	sa->backend->end(d, sa);
	if (sa->ledger && (cause == LIFE_PACKETS || cause == LIFE_BYTES))
		ledger_use(sa->ledger, cause == LIFE_PACKETS ? sa->life.hard.pkts : 0,
			   cause == LIFE_BYTES ? sa->life.hard.bytes : 0);
	log_warnx("%s: %s sa 0x%08x: its hard lifetime is over (%s)", sa->link->conf.name, dir_name(sa), sa->spi,
		  life_name(cause));
	sad_event(d, sa, "sa-hard", cause);
	if (sa->owner && d->on_life)
		d->on_life(d, sa, true);
}

static void watch_life(struct daemon *d, struct sa *sa, uint64_t now)
{
	enum life_cause cause = hard_reached(sa, now);

	if (cause) {
		end_sa(d, sa, cause);
		return;
	}
	cause = sa->soft ? LIFE_NONE : soft_reached(sa, now);
	if (!cause)
		return;
	sa->soft = cause;
	log_info("%s: %s sa 0x%08x: its soft lifetime is over (%s): renew it", sa->link->conf.name, dir_name(sa),
		 sa->spi, life_name(cause));
	sad_event(d, sa, "sa-soft", cause);
	if (sa->owner && d->on_life)
		d->on_life(d, sa, false);
}

void sad_look(struct daemon *d, struct link *l)
{
	for (struct sa *sa = l->sas; sa; sa = sa->next)
		if (sa->installed)
			sa->backend->look(d, sa);
}

void sad_tick(struct daemon *d, struct link *l)
{
	uint64_t now = now_ns();

	for (struct sa *sa = l->sas; sa; sa = sa->next) {
		if (!sa->live)
			continue;
		links_beat(d); /* what is made durable waits for a disk */
		sa->backend->look(d, sa);
		if (sa->ledger && sa->dir == SA_OUT)
			reserve(d, sa);
		else if (sa->ledger)
			raise_mark(sa);
		if (sa->ledger)
			store_use(sa);
		watch_life(d, sa, now);
	}
}
