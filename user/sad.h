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

/**
 * struct sa_spec - an SA that somebody wants installed
 *
 * Two kinds of owners. A file's SA is durable: it has a ledger, waits for the peer before it sends
 * (rekey.h), and what is refused stays listed. An IKE daemon's has a fresh key that dies with this
 * process, so it needs no ledger; outbound ones send at once, because the daemon says when; nothing of
 * a refused one stays.
 */
struct sa_spec {
	struct sa_conf conf; /* secret: the caller wipes it */
	const char *file;    /* SA file, or NULL */
	uint64_t owner;      /* without a file: generation of the IKE daemon, not 0 */
	uint32_t epoch;      /* the two of a pair share it; 0 = a new one */
	bool udp;            /* in, without a file: it arrives in UDP */
	bool initiated;      /* the IKE daemon began the exchange that made it */
	bool standby;        /* out: not to be used at once where another one is for its packets */
	struct in6_addr dst; /* the outer destination by which its IKE daemon knows it */
};

/** struct sa_use - what an SA has carried, for its IKE daemon */
struct sa_use {
	uint64_t pkts, bytes;
	uint64_t last_ns; /* of the last packet, CLOCK_BOOTTIME; 0 = none yet */
};

/** sad_init() - look at what a predecessor left; before the first SA. Return: 0 or -ENOMEM */
int sad_init(struct daemon *d);
void sad_fini(struct daemon *d);
/** sad_sweep() - free the slots nobody adopted; once the configuration is applied */
void sad_sweep(struct daemon *d);
/**
 * sad_add() - install one SA; when it returns, its worker has it
 * An outbound one is used at once where its set has none or an IKE daemon asks, else it stands by (sad_use()). The caller calls link_follow_sa().
 * @sap: NULL, or receives it, also a refused one of a file; NULL when there is none
 * Return: 0, or with the sentence in errs: -EEXIST key or SPI in use, -ENOSPC no slot, -EOPNOTSUPP suite,
 * -errno
 */
int sad_add(struct daemon *d, struct link *l, const struct sa_spec *s, struct sa **sap, FILE *errs);
/** sad_find() - by direction and SPI on its link; SPIs of one link may be equal both ways. Return: NULL = none */
struct sa *sad_find(const struct link *l, enum sa_dir dir, uint32_t spi);
/** sad_spi_free() - may the SPI be given to a new inbound SA? */
bool sad_spi_free(const struct daemon *d, uint32_t spi);
/** sad_query() - what it has carried so far; all 0 for one that was refused */
void sad_query(const struct sa *sa, struct sa_use *u);
/**
 * sad_load_static() - read an SA file and install both SAs, the inbound one first
 * @standby: see sa_spec. What is refused stays in the link's list, with the sentence.
 * Return: 0, or -errno with sentences in errs
 */
int sad_load_static(struct daemon *d, struct link *l, const char *file, bool standby, FILE *errs);
/** sad_look() - what its SAs have counted, as of now; sad_tick() does that, too */
void sad_look(struct daemon *d, struct link *l);
/** sad_use() - what its set is for leaves on this outbound SA from now on; event `sa-in-use`. Return: 0 or -errno */
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
/** sad_layout() - what the suite in use adds to an envelope, of several the one that adds most; the common one while there is none */
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
