/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ike_conn - a link's [link] section as a strongSwan connection, and telling strongSwan by vici.
 *
 * ike_conn_tell() makes the messages, reading the files they need, in the control thread; a thread of
 * its own sends them, because an IKE daemon may take its time. Jobs are done in order. What strongSwan
 * refuses is logged with its own words, and never with ours, which may be a secret.
 *
 * The connection is route-based: child and connection are called like the link's `ike`, if_id is the
 * link's number, everything is allowed in (`inner` and routes decide), `policies = no`.
 */
#ifndef IKE_CONN_H
#define IKE_CONN_H

#include <stdio.h>
#include "conf.h"
#include "vici.h"

struct ike_conn;

/** struct ike_heard - where a peer that may call from anywhere was heard last, to call it back */
struct ike_heard {
	struct in6_addr at;
	uint16_t port; /* of its envelopes in UDP, which IKE shares; 0 = they come without */
};

/** struct ike_call - one command to strongSwan */
struct ike_call {
	struct ike_call *next;
	const char *cmd;
	char name[64]; /* which connection, for messages */
	struct vici msg;
	bool quiet;    /* a refusal is no news */
	uint32_t spi;  /* only, and of, the IKE SA whose child sends by it; 0 = no matter */
	bool if_none;  /* only where there is no IKE SA of that name, not even one being made */
	bool halves;   /* of, each, the IKE SAs of that name that are still being made, and by what was said before */
};

/** enum ike_told - does strongSwan know a link as its section has it? */
enum ike_told { IKE_TOLD_YES, IKE_TOLD_NOT_YET, IKE_TOLD_REFUSED };

/** ike_conn_open() - @vici: path of strongSwan's socket, copied. Return: 0 or -errno */
int ike_conn_open(struct ike_conn **cp, const char *vici);
/** ike_conn_close() - waits for the call at hand, drops the rest; NULL is fine */
void ike_conn_close(struct ike_conn *c);
/**
 * ike_conn_load() - (re)load what a link says; running SAs go on. One without ike-psk and ike-cert: nothing
 * @c: NULL = nobody is told, the files are looked at
 * @heard: NULL, or where to call a peer that the configuration gives no address of
 * @anew: it says something else than before: attempts by what was said are given up
 * What cannot be loaded, for whatever reason, does not leave an older one of that name with strongSwan.
 * Return: 0, or -errno with sentences in errs (a file that cannot be read, or is open to others)
 */
int ike_conn_load(struct ike_conn *c, const struct link_conf *l, const struct ike_heard *heard, bool anew, FILE *errs);
/** ike_conn_told() - @why: of IKE_TOLD_REFUSED, a sentence; else "" */
enum ike_told ike_conn_told(struct ike_conn *c, const char *name, char *why, size_t len);
/** ike_conn_start() - have SAs made, unless it is at it; nobody waits. Where no address is known, it is refused */
void ike_conn_start(struct ike_conn *c, const struct link_conf *l);
/** ike_conn_begins() - is it for ipsecd to see that the link comes up? Who gives an address waits to be asked for it */
bool ike_conn_begins(const struct link_conf *l);
/** ike_conn_knows_peer() - does its section say where the peer is? */
bool ike_conn_knows_peer(const struct link_conf *l);
/** ike_conn_end() - of several IKE SAs of the link the one whose child sends by this SPI is ended */
void ike_conn_end(struct ike_conn *c, const struct link_conf *l, uint32_t spi_out);
/** ike_conn_end_all() - its IKE SAs are ended; the connection stays */
void ike_conn_end_all(struct ike_conn *c, const struct link_conf *l);
/** ike_conn_unload() - the connection is removed, and ended */
void ike_conn_unload(struct ike_conn *c, const struct link_conf *l);

/** ike_conn_calls() - pure but for reading files: the messages of ike_conn_load(), a list to be freed */
int ike_conn_calls(const struct link_conf *l, const struct ike_heard *heard, struct ike_call **list, FILE *errs);
void ike_call_free(struct ike_call *list);

#endif
