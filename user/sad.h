/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sad - the security association database, RFC 4301 4.4.2: the authoritative list of SAs, their
 * slots in the pinned maps, their installation in workers and BPF maps, and the durable marks of
 * static ones. Control thread only; the only writer of `sa_in` and `env_out`.
 *
 * A slot that a predecessor left with the same SPI, direction and key fingerprint is adopted with
 * its replay window, so that a restart accepts nothing twice (I2).
 */
#ifndef SAD_H
#define SAD_H

#include <stdio.h>
#include "links.h"

/** sad_init() - look at what a predecessor left; before the first SA */
void sad_init(struct daemon *d);
/** sad_sweep() - free the slots nobody adopted; once the configuration is applied */
void sad_sweep(struct daemon *d);
/** sad_load_static() - read the link's SA file and install both SAs. Return: 0, or -errno with sentences in errs */
int sad_load_static(struct daemon *d, struct link *l, FILE *errs);
/** sad_flush_link() - take every SA of the link out of service and wipe it */
void sad_flush_link(struct daemon *d, struct link *l);
/** sad_close() - at exit, workers stopped: wipe keys, release the ledger; the slot keeps its window for the successor */
void sad_close(struct daemon *d, struct sa *sa);
/** sad_out() - the outbound SA in use, NULL if none may be used */
struct sa *sad_out(const struct link *l);
struct sa *sad_in(const struct link *l);
/** sad_current() - the outbound SA that packets meet, also one whose life is over; NULL = none */
struct sa *sad_current(const struct link *l);
/** sad_layout() - what the suite in use adds to an envelope; the common layout while there is none */
struct esp_layout sad_layout(const struct link *l);
/** sad_is_transport() - does the link's SA file say transport mode? One that cannot be read: no */
bool sad_is_transport(const struct link *l);
/**
 * sad_tick() - reserve ahead, raise receive marks, watch lifetimes
 * Events `sa-soft` and `sa-hard`, each once per SA: what an IKE daemon renews and deletes by.
 */
void sad_tick(struct daemon *d, struct link *l);
/** sad_remote_changed() - the route-loop table follows the path's remote address */
void sad_remote_changed(struct daemon *d, struct link *l);

#endif
