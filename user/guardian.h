/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guardian - the small process that outlives ipsecd (I7, I9, I4).
 *
 * One per instance, `ipsecd --guardian`, started by the daemon and found again by its successors
 * through <run_dir>/guardian.sock (SOCK_SEQPACKET). The daemon hands it its pidfd, the backend
 * namespace, the heartbeat map and duplicates of its sockets. When the daemon dies, or its
 * heartbeat stops for BEAT_STALE_MS (BEAT_KERNEL_MS more while it waits for the kernel), the
 * guardian sets every backend end down: the carriers of all links fall. The duplicated sockets
 * stay open meanwhile, so that envelopes to a dead daemon draw no ICMP error from the kernel.
 */
#ifndef GUARDIAN_H
#define GUARDIAN_H

#include "links.h"

/*
 * The kernel's network lock is one for all: with thousands of links its own work after a change of
 * carriers holds it for seconds, and lowering them for that would only make more of it.
 */
enum { BEAT_STALE_MS = 700, BEAT_KERNEL_MS = 5000, GUARDIAN_POLL_MS = 100, GUARDIAN_FDS_MAX = 250 };

/** guardian_main() - the process itself; @run_dir exists. Return: exit status */
int guardian_main(const char *run_dir);

/**
 * guardian_attach() - find or start the guardian and hand everything over
 * @beat_fd: fd of the pinned beat map (mmapable). Return: connected fd to watch for its death, or -errno.
 */
int guardian_attach(struct daemon *d, int beat_fd, const int *socks, unsigned int n_socks);

/** guardian_quit() - tell the guardian of run_dir to go away (release). Return: 0, -ENOENT when there is none */
int guardian_quit(const char *run_dir);

#endif
