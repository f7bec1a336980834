/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * endpoint - where each peer was last heard (seed, section 6, "address inertia"), on disk, so that a
 * restarted gateway calls its road warriors instead of waiting for them.
 *
 * One file per instance, appended to: a line per move, "PEER PATH ADDRESS PORT UNIX_MS CRC", the last whole
 * line of a peer and path counts. A line that was torn or damaged is not believed and costs that one move; the
 * file is written anew (beside, fsync, rename) when it is much longer than what it says. Moves are gathered and
 * synced once a second at most. What is lost with the machine is a second of moves, and what is
 * believed wrongly costs an envelope to a stranger, which he cannot read: so nothing here is a secret or a proof.
 * Control thread only.
 */
#ifndef ENDPOINT_H
#define ENDPOINT_H

#include <stdio.h>
#include "conf.h"

enum { ENDPOINT_LINE_MAX = PEER_NAME_MAX + 96, ENDPOINT_KEEP_DAYS = 90 };

/** struct endpoint - one line */
struct endpoint {
	char peer[PEER_NAME_MAX];
	unsigned int path;      /* index of the link's path */
	struct in6_addr remote; /* v4-mapped */
	uint16_t port;          /* host order; 0 = none, plain ESP */
	uint64_t clock_ms;      /* when it was heard there */
};

/** endpoint_print() - as a line, newline included. Return: its length */
int endpoint_print(const struct endpoint *e, char buf[ENDPOINT_LINE_MAX]);
/** endpoint_parse() - a line without its newline; only what endpoint_print() makes is taken. Return: true when it is whole */
bool endpoint_parse(const char *line, size_t len, struct endpoint *e);

struct endpoints;

/**
 * endpoints_open() - read dir/endpoints; a missing file is an empty one
 * Return: never NULL unless out of memory. What cannot be read or written is told, once, and then there is
 * memory without a disk.
 */
struct endpoints *endpoints_open(const char *dir);
/** endpoints_find() - NULL = never heard, or not for ENDPOINT_KEEP_DAYS */
const struct endpoint *endpoints_find(const struct endpoints *s, const char *peer, unsigned int path);
/** endpoints_note() - the peer was heard there; on disk after the next endpoints_sync() */
void endpoints_note(struct endpoints *s, const char *peer, unsigned int path, const struct in6_addr *remote, uint16_t port);
/** endpoints_sync() - write what is new, at most once a second unless now_or_never. Return: 0 or -errno (told already) */
int endpoints_sync(struct endpoints *s, bool now_or_never);
/** endpoints_close() - sync and free; NULL is fine */
void endpoints_close(struct endpoints *s);

#endif
