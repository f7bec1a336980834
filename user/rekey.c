/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include "log.h"
#include "rekey.h"
#include "sad.h"

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

/* The newest outbound SA that could follow the one in use. */
static struct sa *successor(const struct link *l)
{
	struct sa *best = NULL;

	for (struct sa *sa = l->sas; sa; sa = sa->next) {
		if (sa->dir != SA_OUT || !sa->live || sa == l->out)
			continue;
		if (l->out && l->out->live && sa->epoch < l->out->epoch)
			continue;
		if (!best || sa->epoch > best->epoch)
			best = sa;
	}
	return best;
}

static unsigned int count(const struct link *l, enum sa_dir dir)
{
	unsigned int n = 0;

	for (const struct sa *sa = l->sas; sa; sa = sa->next)
		n += sa->dir == dir && !sa->refused[0];
	return n;
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
	if (count(l, SA_IN) > 1 || count(l, SA_OUT) > 1) {
		fprintf(errs, "%s: a renewal is under way: ipsecctl sa list %s, and sa del takes one back\n",
			l->conf.name, l->conf.name);
		return -EBUSY;
	}
	err = sad_load_static(d, l, file, errs);
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
	struct sa *next;

	if (err)
		return err;
	next = successor(l);
	l->switch_now |= now && next;
	if (!next || l->rekeying)
		return 0;
	l->rekeying = true;
	sad_ask(d, next);
	return 0;
}

static bool may_switch(const struct link *l, const struct sa *next)
{
	const struct sa *in = twin(l, next);

	return !l->out || !l->out->live || l->switch_now || (in && sad_heard(in));
}

static void drop_old(struct daemon *d, struct link *l, uint64_t now)
{
	const struct sa *in = twin(l, l->out);
	bool drained = in && sad_heard(in) && now > l->switched_ns + DRAIN_NS;
	struct sa *sa = l->sas, *next;

	for (; sa; sa = next) {
		next = sa->next;
		if (sa->epoch >= l->out->epoch || sa->owner) /* an IKE daemon says when its own go */
			continue;
		if (sa->dir == SA_OUT ||
		    (drained && (!sa->ctr || now > sa->ctr->last_used_ns + DRAIN_NS)))
			sad_remove(d, sa);
	}
}

bool rekey_tick(struct daemon *d, struct link *l, uint64_t now)
{
	struct sa *next;
	bool switched = false;

	if (!l->sas || (!l->sas->next && l->out == l->sas))
		return false;
	next = successor(l);
	if (next && may_switch(l, next) && !sad_use(d, next)) {
		log_info("%s: sends on SA 0x%08x now", l->conf.name, next->spi);
		l->rekeying = l->switch_now = false;
		switched = true;
	}
	if (l->out && l->out->live)
		drop_old(d, l, now);
	return switched;
}
