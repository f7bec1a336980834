/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rekey - an SA is renewed without losing a packet (I6): the new inbound one is there first, then
 * transmission switches, then the old inbound one drains. Control thread only; state is computed at
 * every tick from what is the case, never counted from events (I7).
 *
 * When to switch: the peer must have its half. It installs its inbound SA before it sends on its
 * outbound one, so a packet of its that arrives on the new inbound SA is proof. While we wait, probes
 * leave on the new outbound SA (sad_ask()); a peer that has the pair, hears one and switches. Whoever
 * comes second starts it, so the order in which two operators do it does not matter. For peers that
 * cannot tell: rekey_start() with now.
 */
#ifndef REKEY_H
#define REKEY_H

#include "links.h"

/**
 * rekey_add() - install another pair beside the one in use; it receives, and stands by to send
 * A file that is loaded already is fine. Refusals leave nothing behind.
 * Return: 0, or -errno with sentences in errs; -EBUSY while a renewal is under way
 */
int rekey_add(struct daemon *d, struct link *l, const char *file, FILE *errs);
/**
 * rekey_start() - rekey_add(), and switch to it as soon as the peer has it; at once with @now
 * rekey_tick() does it.
 */
int rekey_start(struct daemon *d, struct link *l, const char *file, bool now, FILE *errs);
/** rekey_tick() - switch, drain, remove what is drained. Return: is another outbound SA in use now? */
bool rekey_tick(struct daemon *d, struct link *l, uint64_t now);

#endif
