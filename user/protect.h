/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * protect - turns the links' `protect =` lines into the layers of fail-closed (I1, I1b): what
 * guard.h needs per namespace and what the BPF guard needs on underlay devices. Control thread only.
 *
 * Prefixes and peers are only ever added here before they are removed there; a daemon that stops
 * or dies leaves everything standing.
 */
#ifndef PROTECT_H
#define PROTECT_H

#include "links.h"

/**
 * protect_apply() - make all layers say what the links say; idempotent
 * Called before devices exist (blocks and floors first) and again after (allows by device).
 * Return: 0 or the first -errno; d->guard_missing counts layers that could not be installed.
 */
int protect_apply(struct daemon *d);
/**
 * protect_watch() - sockets that speak up when somebody changes nftables or XFRM policies here
 * A firewall reload often begins with `nft flush ruleset`: what is ours has to come back.
 * Return: number of fds put into fds[2]; read them with protect_changed().
 */
unsigned int protect_watch(int fds[2]);
/** protect_changed() - drain such a socket; the layers are looked at again within a second */
void protect_changed(struct daemon *d, int fd);
/** protect_tick() - apply what is due: our own changes at once, other people's at most once a second */
void protect_tick(struct daemon *d, uint64_t now);
/** protect_audit() - GUARD_* layers that stand in the underlay namespace */
int protect_audit(struct daemon *d);

#endif
