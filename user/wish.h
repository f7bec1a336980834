/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wish - which links had SAs of an IKE daemon, where a restart finds it: an empty file state_dir/ike/NAME for each.
 *
 * When a gateway comes back from its death, the peer still has an IKE SA with it and waits for nobody; so who
 * died begins anew, also where `ike-start = no`. No proof of anything and no secret: what is lost with the
 * machine costs a wait for the peer's own look (DPD). Control thread only.
 */
#ifndef WISH_H
#define WISH_H

#include "links.h"

/** wish_recall() - l->ike_want of a new link, as it stood when ipsecd ended */
void wish_recall(const struct daemon *d, struct link *l);
/** wish_set() - l->ike_want from now on and for the next ipsecd; what cannot be written is told and is memory alone */
void wish_set(const struct daemon *d, struct link *l, bool want);

#endif
