/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include "log.h"
#include "move.h"
#include "safile.h"

static bool goes(const struct sa *sa, enum sa_dir dir)
{
	return sa->live && sa->dir == dir;
}

bool move_can(const struct link *l)
{
	for (const struct sa *sa = l->sas; sa; sa = sa->next)
		if (sa->live && !sa->file)
			return false;
	return l->sas;
}

/* What is left of its life now. */
static struct life_conf rest(const struct sa *sa)
{
	struct life_conf l = sa->life;

	l.age_ms += (now_ns() - sa->created_ns) / 1000000;
	l.used_pkts = sa->ctr->pkts;
	l.used_bytes = sa->ctr->bytes;
	return l;
}

/* Its key once more. c: secret, the caller wipes it */
static int conf_of(const struct sa *sa, struct sa_conf *c, FILE *errs)
{
	bool out = sa->dir == SA_OUT;
	struct sa_conf twin;
	int err = safile_load(sa->file, out ? c : &twin, out ? &twin : c, errs);

	sa_conf_wipe(&twin);
	if (err)
		return err;
	c->life = rest(sa);
	if (c->fingerprint == sa->fingerprint)
		return 0;
	sa_conf_wipe(c);
	fprintf(errs, "%s: %s holds another key than the SA 0x%08x that is to move: ipsecctl sa rekey %s %s takes it first\n",
		sa->link->conf.name, sa->file, sa->spi, sa->link->conf.name, sa->file);
	return -ESTALE;
}

/* No number above last for the old one. */
static void stop_at(struct daemon *d, struct sa *sa, uint64_t last)
{
	uint64_t limit = sa->seq_limit;

	sa->seq_limit = last;
	sa->backend->limits(d, sa);
	sa->seq_limit = limit;
}

static int begin_out(struct daemon *d, struct sa *sa, const struct backend *to, FILE *errs)
{
	struct sa_spec s = {.file = sa->file};
	uint64_t seq, iv;
	struct sa_conf c;
	int err = conf_of(sa, &c, errs);

	links_beat(d);
	if (err)
		return err;
	sa->backend->look(d, sa);
	sa->backend->used(sa, &seq, &iv);
	c.seq_start = seq + MOVE_SKIP + 1;
	c.iv_start = MAX(sa->iv_used, iv) + 1;
	if (c.seq_start > sa->seq_limit) {
		fprintf(errs, "%s: out sa 0x%08x: no numbers are left to skip: renew it first, ipsecctl sa rekey\n",
			sa->link->conf.name, sa->spi);
		err = -EDQUOT;
	} else {
		stop_at(d, sa, seq + MOVE_SKIP);
		sa->adopted = false;
		err = to->install(d, sa, &s, &c);
		if (err)
			fprintf(errs, "%s: out sa 0x%08x: %s takes it not: %s\n", sa->link->conf.name, sa->spi,
				backend_name(to->id), strerror(-err));
	}
	sa_conf_wipe(&c);
	return err;
}

static int check_in(const struct sa *sa, FILE *errs)
{
	struct sa_conf c;
	int err = conf_of(sa, &c, errs);

	sa_conf_wipe(&c);
	return err;
}

static int begin(struct daemon *d, struct link *l, const struct backend *to, FILE *errs)
{
	int err;

	links_beat(d);
	err = to->link(d, l);

	if (err)
		fprintf(errs, "%s: backend %s: %s\n", l->conf.name, backend_name(to->id), strerror(-err));
	for (struct sa *sa = l->sas; sa && !err; sa = sa->next)
		if (goes(sa, SA_IN))
			err = check_in(sa, errs);
	for (struct sa *sa = l->sas; sa && !err; sa = sa->next)
		if (goes(sa, SA_OUT))
			err = begin_out(d, sa, to, errs);
	return err;
}

int move_begin(struct daemon *d, struct link *l, const struct backend *to, FILE *errs)
{
	int err = begin(d, l, to, errs);

	for (struct sa *sa = l->sas; sa && err; sa = sa->next) {
		if (!goes(sa, SA_OUT))
			continue;
		to->uninstall(d, sa);
		sa->backend->limits(d, sa);
	}
	if (err)
		to->unlink(d, l);
	return err;
}

int move_use(struct daemon *d, struct link *l, const struct backend *to)
{
	int err = 0;

	for (struct sa *sa = l->sas; sa; sa = sa->next) {
		if (!goes(sa, SA_OUT))
			continue;
		sa->backend = to;
		if (sa->set->out == sa)
			err = to->use(d, sa) ?: err;
	}
	return err;
}

/* The slot, its counters and what it knows of the window stay. */
static int pass_in(struct daemon *d, struct sa *sa, const struct backend *from, const struct backend *to, FILE *errs)
{
	struct sa_spec s = {.file = sa->file};
	uint64_t first = sa->first_pkts;
	struct sa_conf c;
	int err = conf_of(sa, &c, errs);

	if (err)
		return err;
	from->uninstall(d, sa);
	c.seq_start = 0; /* the slot knows */
	sa->adopted = false;
	sa->backend = to;
	err = to->install(d, sa, &s, &c);
	sa->first_pkts = first;
	sa_conf_wipe(&c);
	return err;
}

void move_end(struct daemon *d, struct link *l, const struct backend *from, const struct backend *to, FILE *errs)
{
	int err;

	for (struct sa *sa = l->sas; sa; sa = sa->next) {
		links_beat(d);
		err = goes(sa, SA_IN) ? pass_in(d, sa, from, to, errs) : 0;
		if (!err)
			continue;
		sa->live = false;
		snprintf(sa->refused, sizeof sa->refused, "%s takes it not: %s", backend_name(to->id), strerror(-err));
		log_warnx("%s: in sa 0x%08x: %s", l->conf.name, sa->spi, sa->refused);
	}
	for (struct sa *sa = l->sas; sa; sa = sa->next)
		if (goes(sa, SA_OUT)) {
			from->uninstall(d, sa);
			to->look(d, sa); /* the old one wrote where it was until now */
		}
	links_beat(d);
	from->unlink(d, l);
	links_beat(d);
}
