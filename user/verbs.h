/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * verbs - what ipsecd answers: one request object in, one reply object out.
 *
 * Control thread only. Reads struct daemon and the workers' counters (relaxed loads), changes
 * things only through links.h. No key material is reachable from here (I3): struct sa has none.
 * Shapes: docs/json.md. Every field is always present, null when there is nothing to say.
 */
#ifndef VERBS_H
#define VERBS_H

#include <systemd/sd-event.h>
#include "links.h"

struct verbs;

/** verbs_open() - @ev: for the timer of `apply --confirm`; NULL = that option is refused. Return: 0
 * or -errno */
int verbs_open(struct verbs **vp, struct daemon *d, sd_event *ev);
/** verbs_close() - an unconfirmed configuration stays as it is; NULL is fine */
void verbs_close(struct verbs *v);

/**
 * verbs_line() - parse and run one request line
 * @root: the peer may change things. @monitor: set when the connection becomes a monitor.
 * Return: the reply, never NULL unless memory is out; caller owns it.
 */
json_t *verbs_line(struct verbs *v, const char *line, size_t len, bool root, bool *monitor);

/** verbs_error() - the reply {"ok":false,...}; hint may be NULL */
json_t *verbs_error(int exit_code, const char *code, const char *hint, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/** verbs_time() - now as RFC 3339 UTC with ms, minus age_ns; buf of 32 bytes. Return: buf */
const char *verbs_time(char *buf, uint64_t age_ns);

#endif
