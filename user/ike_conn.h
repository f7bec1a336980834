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

enum ike_conn_how { IKE_CONN_LOOK, IKE_CONN_TELL, IKE_CONN_START };

/** struct ike_call - one command to strongSwan */
struct ike_call {
	struct ike_call *next;
	const char *cmd;
	char name[64]; /* which connection, for messages */
	struct vici msg;
	bool quiet;    /* a refusal is no news */
	bool if_none;  /* only where there is no IKE SA of that name, not even one being made */
};

/** ike_conn_open() - @vici: path of strongSwan's socket, copied. Return: 0 or -errno */
int ike_conn_open(struct ike_conn **cp, const char *vici);
/** ike_conn_close() - waits for the call at hand, drops the rest; NULL is fine */
void ike_conn_close(struct ike_conn *c);
/**
 * ike_conn_load() - (re)load what a link says; running SAs go on. One without ike-psk and ike-cert: nothing
 * @how: whether strongSwan is told at all, and whether it shall make SAs at once also where ike-start = no: a link
 * whose SAs an IKE daemon that died has left will not be missed by the peer, who still has them
 * Return: 0, or -errno with sentences in errs (a file that cannot be read, or is open to others)
 */
int ike_conn_load(struct ike_conn *c, const struct link_conf *l, enum ike_conn_how how, FILE *errs);
/** ike_conn_start() - have SAs made, unless it is at it; nobody waits. One that cannot begin by itself: nothing */
void ike_conn_start(struct ike_conn *c, const struct link_conf *l);
/** ike_conn_begins() - is it for ipsecd to see that the link comes up? */
bool ike_conn_begins(const struct link_conf *l);
/** ike_conn_unload() - the connection is removed, and ended */
void ike_conn_unload(struct ike_conn *c, const struct link_conf *l);

/** ike_conn_calls() - pure but for reading files: the messages of ike_conn_load(), a list to be freed */
int ike_conn_calls(const struct link_conf *l, struct ike_call **list, FILE *errs);
void ike_call_free(struct ike_call *list);

#endif
