/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * saset - sets of SAs: those of one link that are for the same packets. Inside a set the newer follows the
 * older (rekey.c); between sets a packet goes by the narrowest one that is for it (RFC 4301 4.4.1, seed 3.5).
 * An SA of another link or with other selectors never takes anything away. Control thread only.
 */
#ifndef SASET_H
#define SASET_H

#include "links.h"

/** saset_join() - the set of its link for sa, whose direction and link are set; made if there is none. Return: 0 or -ENOMEM */
int saset_join(struct sa *sa, const struct sels *sels);
/** saset_retire() - sa is to go: nothing is sent by it any more */
void saset_retire(struct daemon *d, struct sa *sa);
/** saset_leave() - it has gone, also from its worker; the last one takes the set along */
void saset_leave(struct sa *sa);
/** saset_sels() - what may travel by this SA; *n 0 = everything */
const struct sel *saset_sels(const struct sa *sa, unsigned int *n);
/** saset_choose() - sets l->out, what probes go by, from what is in use; its only writer */
void saset_choose(struct link *l);
/** saset_push() - the worker sends by what is in use now */
void saset_push(struct daemon *d, struct link *l);
/** saset_find() - the set for these, as outbound SAs have them. Return: NULL = none */
struct sa_set *saset_find(const struct link *l, const struct sels *out);
/** saset_covered() - does another, wider set with a live outbound SA carry all that this one is for? */
bool saset_covered(const struct sa *sa);
/** saset_out() - the outbound SA that such a packet meets. Return: NULL = none is for it */
struct sa *saset_out(const struct link *l, const struct sel_flow *f);

#endif
