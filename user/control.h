/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * control - the Unix socket between ipsecctl and ipsecd.
 *
 * SOCK_STREAM at <run_dir>/ctl.sock, one JSON object per line. Request
 *   {"schema":1,"verb":"link-add","args":{...}}
 * reply {"schema":1,"ok":true,...} or
 * {"schema":1,"ok":false,"exit":3,"code":"no-such-link","error":"sentence","hint":"next step"}.
 * `monitor` keeps the connection and sends one event object per line.
 *
 * Who may connect: root, and members of the group "ipsec" when there is one (the socket is 0660).
 * Who may change anything: root, by SO_PEERCRED; the verbs are in verbs.c. A slow monitor is
 * dropped, never waited for; a request line is at most CONTROL_LINE_MAX bytes. Everything runs in
 * the control thread's event loop, below the priority of timers and netlink.
 */
#ifndef CONTROL_H
#define CONTROL_H

#include <systemd/sd-event.h>
#include "links.h"

#ifndef ESPWIRE_VERSION
#define ESPWIRE_VERSION "0.1.0"
#endif

/* exit codes of ipsecctl, "exit" in replies */
enum {
	EXIT_OK_ = 0,
	EXIT_RUNTIME = 1,
	EXIT_USAGE = 2,
	EXIT_NOT_FOUND = 3,
	EXIT_IS_DOWN = 4,
	EXIT_NO_DAEMON = 5,
	EXIT_POLICY = 6, /* not permitted, not confirmed, daemon in the way */
};

enum {
	CONTROL_LINE_MAX = 1 << 20,    /* one request */
	CONTROL_MONITOR_MAX = 1 << 20, /* unsent bytes after which a monitor is dropped */
	CONTROL_CLIENTS_MAX = 64,
};

struct control;

/**
 * control_listen() - make <d->run_dir>/ctl.sock, and serve nobody yet
 * Replaces the socket of a dead predecessor; a live one is -EADDRINUSE. Return: 0 or -errno with the reason logged.
 */
int control_listen(struct control **cp, struct daemon *d);
int control_fd(const struct control *c); /**< the listening socket */
/** control_serve() - from ev, from now on. The caller points d->on_event at control_event(). Return: 0 or -errno */
int control_serve(struct control *c, sd_event *ev);
/** control_close() - drop every client, remove the socket; NULL is fine */
void control_close(struct control *c);
/** control_event() - to every monitor; adds "schema" and "time" when missing; steals nothing */
void control_event(struct control *c, json_t *ev);

#endif
