/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include "ahead.h"
#include "safile.h"

enum { HANDS = 16, FEW = 8, BEAT_NS = 100000000 };

enum state { WAITING, BUSY, DONE };

/* struct begun - one ledger, and what ledger_begin() said of it; no key in it */
struct begun {
	struct ledger *ledger; /* NULL = none, or taken */
	uint64_t fingerprint, seq_start, iv_start, seq_limit, iv_limit;
	enum sa_dir dir;
	uint64_t age_ms, used_pkts, used_bytes;
	unsigned int job;
};

/* struct job - one link's SA file */
struct job {
	char file[SA_FILE_MAX];
	enum state state;
};

/* Everything but the arrays' places and dir is under lock. */
struct ahead {
	const char *dir;
	struct job *jobs;
	struct begun *begun; /* two of each job */
	uint32_t *job_of;    /* by link id, CHAIN_END = none */
	struct chain claims; /* over begun, by fingerprint: one key may stand in two files */
	unsigned int n, next, hands;
	pthread_t hand[HANDS];
	pthread_mutex_t lock;
	pthread_cond_t done;
};

static struct begun *claimed(struct ahead *a, const struct sa_conf *c)
{
	chain_each(&a->claims, c->fingerprint, i)
		if (a->begun[i].fingerprint == c->fingerprint && a->begun[i].dir == c->dir)
			return &a->begun[i];
	return NULL;
}

/* Under lock. Return: NULL when another file has this key already */
static struct begun *claim(struct ahead *a, unsigned int job, const struct sa_conf *c, bool second)
{
	struct begun *b = &a->begun[2 * job + second];

	if (claimed(a, c))
		return NULL;
	b->fingerprint = c->fingerprint;
	b->dir = c->dir;
	b->job = job;
	chain_add(&a->claims, c->fingerprint, 2 * job + second);
	return b;
}

static void begin(const struct ahead *a, struct begun *b, struct sa_conf *c, FILE *errs)
{
	struct ledger *l;

	if (!b)
		return;
	if (ledger_begin(&l, a->dir, c, &b->seq_limit, &b->iv_limit, errs)) {
		ledger_close(l);
		return;
	}
	/* the first mark of a new one: sad_tick() would wait for the disk thousands of times in one tick */
	if (c->dir == SA_IN && !ledger_mark(l) && ledger_mark_in(l, LEDGER_MARK_STEP))
		fprintf(errs, "first mark\n"); /* the tick tries again, and tells */
	b->ledger = l;
	b->seq_start = c->seq_start;
	b->iv_start = c->iv_start;
	b->age_ms = c->life.age_ms;
	b->used_pkts = c->life.used_pkts;
	b->used_bytes = c->life.used_bytes;
}

/* Whatever is wrong is told by the control thread, when it finds the same. */
static void work(struct ahead *a, unsigned int job, FILE *silent)
{
	struct sa_conf out, in;
	struct begun *b[2];

	if (safile_load(a->jobs[job].file, &out, &in, silent))
		return;
	pthread_mutex_lock(&a->lock);
	b[0] = claim(a, job, &in, false);
	b[1] = claim(a, job, &out, true);
	pthread_mutex_unlock(&a->lock);
	begin(a, b[0], &in, silent);
	begin(a, b[1], &out, silent);
	sa_conf_wipe(&out);
	sa_conf_wipe(&in);
}

static void *hand(void *arg)
{
	struct ahead *a = arg;
	char *text = NULL;
	size_t len;
	FILE *silent = open_memstream(&text, &len);

	pthread_mutex_lock(&a->lock);
	while (silent && a->next < a->n) {
		unsigned int job = a->next++;

		if (a->jobs[job].state != WAITING)
			continue;
		a->jobs[job].state = BUSY;
		pthread_mutex_unlock(&a->lock);
		work(a, job, silent);
		pthread_mutex_lock(&a->lock);
		a->jobs[job].state = DONE;
		pthread_cond_broadcast(&a->done);
	}
	pthread_mutex_unlock(&a->lock);
	if (silent)
		fclose(silent);
	free(text);
	return NULL;
}

static void drop(struct ahead *a)
{
	chain_free(&a->claims);
	free(a->jobs);
	free(a->begun);
	free(a->job_of);
	free(a);
}

static struct ahead *plan(struct daemon *d, struct link *const *links, unsigned int n)
{
	struct ahead *a = calloc(1, sizeof *a);

	if (!a)
		return NULL;
	a->dir = d->state_dir;
	a->jobs = calloc(n, sizeof *a->jobs);
	a->begun = calloc(2 * n, sizeof *a->begun);
	a->job_of = malloc(d->max_links * sizeof *a->job_of);
	if (!a->jobs || !a->begun || !a->job_of || chain_init(&a->claims, 2 * n)) {
		drop(a);
		return NULL;
	}
	memset(a->job_of, 0xff, d->max_links * sizeof *a->job_of);
	for (unsigned int i = 0; i < n; i++) {
		if (!link_conf_sa(links[i]->conf.sa_file, NULL, a->jobs[a->n].file)) /* of several the first: others are rare */
			continue;
		a->job_of[links[i]->id] = a->n++;
	}
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->done, NULL);
	return a;
}

void ahead_begin(struct daemon *d, struct link *const *links, unsigned int n)
{
	struct ahead *a = n > FEW ? plan(d, links, n) : NULL;
	sigset_t all, old;

	d->ahead = a;
	if (!a)
		return;
	sigfillset(&all); /* signals are the control thread's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (a->hands < HANDS && !pthread_create(&a->hand[a->hands], NULL, hand, a))
		a->hands++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* Under lock: until nobody is at this job. */
static void await(struct daemon *d, struct ahead *a, const struct job *job)
{
	struct timespec ts;

	while (job->state == BUSY) {
		clock_gettime(CLOCK_REALTIME, &ts);
		ts.tv_nsec += BEAT_NS;
		ts.tv_sec += ts.tv_nsec / 1000000000;
		ts.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&a->done, &a->lock, &ts);
		links_beat(d);
	}
}

bool ahead_take(struct daemon *d, const struct link *l, struct sa_conf *c, struct ledger **lp, uint64_t *seq_limit,
		uint64_t *iv_limit)
{
	struct ahead *a = d->ahead;
	uint32_t job = a ? a->job_of[l->id] : CHAIN_END;
	struct begun *b;

	if (job == CHAIN_END)
		return false;
	pthread_mutex_lock(&a->lock);
	await(d, a, &a->jobs[job]);
	a->jobs[job].state = DONE; /* nobody got so far: it is ours */
	b = claimed(a, c);
	if (b)
		await(d, a, &a->jobs[b->job]);
	*lp = b ? b->ledger : NULL;
	if (*lp) {
		b->ledger = NULL;
		c->seq_start = b->seq_start;
		c->iv_start = b->iv_start;
		c->life.age_ms = b->age_ms;
		c->life.used_pkts = b->used_pkts;
		c->life.used_bytes = b->used_bytes;
		if (c->dir == SA_OUT) {
			*seq_limit = b->seq_limit;
			*iv_limit = b->iv_limit;
		}
	}
	pthread_mutex_unlock(&a->lock);
	return *lp;
}

void ahead_end(struct daemon *d)
{
	struct ahead *a = d->ahead;

	if (!a)
		return;
	d->ahead = NULL;
	pthread_mutex_lock(&a->lock);
	a->next = a->n;
	pthread_mutex_unlock(&a->lock);
	for (unsigned int i = 0; i < a->hands; i++)
		pthread_join(a->hand[i], NULL);
	for (unsigned int i = 0; i < 2 * a->n; i++)
		ledger_close(a->begun[i].ledger);
	drop(a);
}
