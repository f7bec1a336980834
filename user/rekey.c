/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include "log.h"
#include "rekey.h"
#include "sad.h"
#include "safile.h"
#include "saset.h"

#define DRAIN_NS UINT64_C(2000000000) /* the last packets of the old SA are no longer than that on their way */

static struct sa *of_file(const struct link *l, const char *file, enum sa_dir dir)
{
	for (struct sa *sa = l->sas; sa; sa = sa->next)
		if (sa->dir == dir && sa->file && !strcmp(sa->file, file))
			return sa;
	return NULL;
}

static struct sa *twin(const struct link *l, const struct sa *out)
{
	for (struct sa *sa = l->sas; sa; sa = sa->next)
		if (sa->dir == SA_IN && sa->epoch == out->epoch)
			return sa;
	return NULL;
}

/* The newest outbound SA that could follow the one in use: on the same link, with the same selectors (I6). */
static struct sa *successor(const struct link *l, const struct sa_set *s)
{
	struct sa *best = NULL;

	for (struct sa *sa = l->sas; sa; sa = sa->next) {
		if (sa->set != s || sa->dir != SA_OUT || !sa->live || sa == s->out)
			continue;
		if (s->out && s->out->live && sa->epoch < s->out->epoch)
			continue;
		if (!best || sa->epoch > best->epoch)
			best = sa;
	}
	return best;
}

static unsigned int count(const struct link *l, const struct sa_set *s, enum sa_dir dir)
{
	unsigned int n = 0;

	for (const struct sa *sa = l->sas; sa; sa = sa->next)
		n += sa->set == s && sa->dir == dir && !sa->refused[0];
	return n;
}

/* Has the one before not been replaced yet? A file that cannot be read is sad_load_static()'s to complain about. */
static bool under_way(const struct link *l, const char *file)
{
	const struct sa_set *s;
	struct sels sels;

	if (safile_peek(file, NULL, &sels))
		return false;
	s = saset_find(l, &sels);
	return s && (count(l, s, SA_IN) > 1 || count(l, s, SA_OUT) > 1);
}

/* Of a pair that was not taken whole, nothing stays. */
static int undo(struct daemon *d, struct link *l, uint32_t epoch, int err)
{
	struct sa *sa = l->sas;

	while (sa) {
		struct sa *next = sa->next;

		if (sa->epoch == epoch)
			sad_remove(d, sa);
		sa = next;
	}
	return err ? err : -EINVAL;
}

int rekey_add(struct daemon *d, struct link *l, const char *file, FILE *errs)
{
	const struct sa *in = of_file(l, file, SA_IN), *out = of_file(l, file, SA_OUT);
	uint32_t epoch = d->next_epoch + 1;
	int err;

	if (in && out && !in->refused[0] && !out->refused[0])
		return 0;
	if (under_way(l, file)) {
		fprintf(errs, "%s: a renewal is under way: ipsecctl sa list %s, and sa del takes one back\n",
			l->conf.name, l->conf.name);
		return -EBUSY;
	}
	err = sad_load_static(d, l, file, true, errs);
	in = of_file(l, file, SA_IN);
	out = of_file(l, file, SA_OUT);
	if (err || !in || !out || in->refused[0] || out->refused[0])
		return undo(d, l, epoch, err);
	log_info("%s: SAs of %s are ready", l->conf.name, file);
	return 0;
}

int rekey_start(struct daemon *d, struct link *l, const char *file, bool now, FILE *errs)
{
	int err = rekey_add(d, l, file, errs);
	struct sa_set *s;
	struct sa *next;

	if (err)
		return err;
	s = of_file(l, file, SA_OUT)->set;
	next = successor(l, s);
	s->switch_now |= now && next;
	if (!next || s->rekeying)
		return 0;
	s->rekeying = true;
	sad_ask(d, next);
	return 0;
}

static bool may_switch(const struct link *l, const struct sa_set *s, const struct sa *next)
{
	const struct sa *in = twin(l, next);
	bool hurry = s->out ? !s->out->live : !saset_covered(next);

	return hurry || s->switch_now || (in && sad_heard(in));
}

static void drop_old(struct daemon *d, struct link *l, const struct sa_set *s, uint64_t now)
{
	const struct sa *in = twin(l, s->out);
	bool drained = in && sad_heard(in) && now > s->switched_ns + DRAIN_NS;
	struct sa *sa = l->sas, *next;

	for (; sa; sa = next) {
		next = sa->next;
		if (sa->set != s || sa->epoch >= s->out->epoch || sa->owner) /* an IKE daemon says when its own go */
			continue;
		if (sa->dir == SA_OUT ||
		    (drained && (!sa->ctr || now > sa->ctr->last_used_ns + DRAIN_NS)))
			sad_remove(d, sa);
	}
}

static bool tick(struct daemon *d, struct link *l, struct sa_set *s, uint64_t now)
{
	struct sa *next = successor(l, s);
	bool switched = next && may_switch(l, s, next) && !sad_use(d, next);

	if (switched) {
		log_info("%s: sends on SA 0x%08x now", l->conf.name, next->spi);
		s->rekeying = s->switch_now = false;
	}
	if (s->out && s->out->live) /* which keeps the set */
		drop_old(d, l, s, now);
	return switched;
}

bool rekey_tick(struct daemon *d, struct link *l, uint64_t now)
{
	bool switched = false;

	for (struct sa_set *s = l->sets, *next; s; s = next) {
		next = s->next;
		if (s->n_sas > 1 || !s->out)
			switched |= tick(d, l, s, now);
	}
	return switched;
}
