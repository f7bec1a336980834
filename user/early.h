/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * early - who asks while ipsecd starts is told how far it is, and does not hang.
 *
 * A thread of its own on the listening control socket, as the control thread is busy with the very start: one
 * request, one answer {"ok":false,"exit":5,"code":"starting",...,"doing":"links","done":812,"of":5000}, and the
 * connection is closed. Connections that are not accepted when it ends wait for control_serve().
 */
#ifndef EARLY_H
#define EARLY_H

struct early;

/** early_begin() - answer on a listening socket, which stays the caller's. Return: 0 or -errno */
int early_begin(struct early **ep, int listen_fd);
/** early_says() - control thread: at work on the done-th of so many; doing: a constant string. NULL is fine */
void early_says(struct early *e, const char *doing, unsigned int done, unsigned int of);
/** early_end() - ask, join, free; NULL is fine */
void early_end(struct early *e);

#endif
