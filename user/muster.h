/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * muster - after a start: which peers were known, how soon each had been asked, how soon each answered.
 * Time to the last peer is what a restart costs. Control thread only.
 */
#ifndef MUSTER_H
#define MUSTER_H

#include "links.h"

/** struct muster - counts of one start; a peer counts when its link had an SA, a remote address and liveness then */
struct muster {
	unsigned int known;  /* peers */
	unsigned int asked, heard;
	uint64_t asked_ns;   /* when the last of them was asked, 0 = not all were */
	uint64_t heard_ns;   /* when the last of them was heard, 0 = not all were */
	char last[PEER_NAME_MAX]; /* heard so far */
	bool told;           /* that some were not heard */
	bool *done;          /* [max_links], heard */
};

/** muster_begin() - once, when the configuration is applied */
void muster_begin(struct daemon *d);
void muster_tick(struct daemon *d, uint64_t now);
void muster_free(struct daemon *d);

#endif
