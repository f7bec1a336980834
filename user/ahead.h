/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ahead - ledgers of many links, opened by many hands while the links are made.
 *
 * A ledger that begins waits for its disk twice, some milliseconds each; a restarted gateway has
 * thousands, and the disk serves sixteen who wait almost as fast as one. What is opened here is what
 * ledger_begin() would open, and a receiver's first mark is durable; the control thread takes it when it
 * comes to the SA.
 */
#ifndef AHEAD_H
#define AHEAD_H

#include "links.h"

/** ahead_begin() - of links with SA files, in the order in which they will be asked for; few are left alone */
void ahead_begin(struct daemon *d, struct link *const *links, unsigned int n);
/**
 * ahead_take() - as ledger_begin(), if it was done ahead; may wait for who is at it
 * Return: false = it was not, or it failed: do it now
 */
bool ahead_take(struct daemon *d, const struct link *l, struct sa_conf *c, struct ledger **lp, uint64_t *seq_limit,
		uint64_t *iv_limit);
/** ahead_end() - waits for the hands; what nobody took is closed */
void ahead_end(struct daemon *d);

#endif
