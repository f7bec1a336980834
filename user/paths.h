/* SPDX-License-Identifier: GPL-2.0-or-later */
/* paths - where an instance keeps its things, and which instance a process belongs to. */
#ifndef PATHS_H
#define PATHS_H

#include <stddef.h>

enum { PATHS_LEN = 4096 };

/**
 * paths_instance() - the instance of the calling process
 * The environment's IPSEC_INSTANCE, else the name of the caller's network namespace under
 * /run/netns, else "default". Return: 0, -EINVAL when IPSEC_INSTANCE is no valid name.
 */
int paths_instance(char *buf, size_t len);
/** paths_instance_ok() - letters, digits, '-', '_'; not starting with '-'; bpffs refuses dots */
int paths_instance_ok(const char *instance);

/* Each fills buf[PATHS_LEN] and returns it. */

/** paths_conf() - /etc/ipsec/<instance>.conf when there is one, else /etc/ipsec/ipsecd.conf */
const char *paths_conf(char *buf, const char *instance);
/** paths_state() - /var/lib/ipsec/<instance>: the ledgers of static keys */
const char *paths_state(char *buf, const char *instance);
/** paths_run() - /run/ipsec/<instance>: sockets, lock */
const char *paths_run(char *buf, const char *instance);
/** paths_sock() - the control socket in it */
const char *paths_sock(char *buf, const char *instance);
/** paths_pin() - /sys/fs/bpf/ipsec/<instance>: maps, programs, links */
const char *paths_pin(char *buf, const char *instance);

#endif
