/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * door - the IKE daemon's side of the socket that user/ike.c serves. No header of strongSwan in here.
 *
 * Connections are made when they are needed and made again when they break, so a struct door exists
 * whether ipsecd does or not. door_call() may be called by any thread, one request is on its way at a
 * time; door_event() belongs to one thread.
 */
#ifndef DOOR_H
#define DOOR_H

#include "ike_wire.h"

struct door;

/** door_new() - connects to nothing yet. @generation: not 0, another one in every process. Return: NULL = no memory */
struct door *door_new(const char *path, uint64_t generation);
/** door_free() - nobody may be in a call; NULL is fine */
void door_free(struct door *d);
/**
 * door_call() - one request, one reply
 * @m: the request; then the reply, when 0 is returned. The request's bytes are wiped on the way.
 * A request that could not be sent because ipsecd was replaced is sent to its successor, once.
 * Return: 0, -ETIMEDOUT after IKE_TIMEOUT_MS, -errno; after an error the connection is closed
 */
int door_call(struct door *d, struct ike_msg *m);
/**
 * door_event() - wait for the next event
 * Return: 1 = m holds one; 0 = none within @ms, also while there is no ipsecd; 2 = connected to an ipsecd that
 * has none of our SAs (the first one of all does not count)
 */
int door_event(struct door *d, struct ike_msg *m, int ms);

#endif
