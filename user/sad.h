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
/**
 * sad_load_static() - read an SA file and install both SAs, the inbound one first
 * The outbound one is used at once where there is none, else it stands by (sad_use()). What is refused
 * stays in the link's list, with the sentence.
 * Return: 0, or -errno with sentences in errs
 */
int sad_load_static(struct daemon *d, struct link *l, const char *file, FILE *errs);
/** sad_use() - packets of its link leave on this outbound SA from now on; event `sa-in-use`. Return: 0 or -errno */
int sad_use(struct daemon *d, struct sa *sa);
/** sad_ask() - send probes on this outbound SA, beside the one in use: has the peer got it? */
void sad_ask(struct daemon *d, struct sa *sa);
/** sad_heard() - has the peer used this inbound SA since it was installed? */
bool sad_heard(const struct sa *sa);
/** sad_remove() - out of service, wiped and freed */
void sad_remove(struct daemon *d, struct sa *sa);
/** sad_event() - tell the monitors something about an installed SA; cause LIFE_NONE: null */
void sad_event(struct daemon *d, const struct sa *sa, const char *what, enum life_cause cause);
/** sad_flush_link() - take every SA of the link out of service and wipe it */
void sad_flush_link(struct daemon *d, struct link *l);
/** sad_close() - at exit, workers stopped: wipe keys, release the ledger; the slot keeps its window for the successor */
void sad_close(struct daemon *d, struct sa *sa);
/** sad_out() - the outbound SA in use, NULL if none may be used */
struct sa *sad_out(const struct link *l);
struct sa *sad_in(const struct link *l);
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
