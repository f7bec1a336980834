/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hostns - run a function in the host's mount namespace.
 *
 * `ip netns exec` and systemd sandboxing give a process a mount namespace of its own, where
 * /sys/fs/bpf and /run/netns are somebody else's or missing. What must outlive the process (pins,
 * the bind mount of the backend namespace: I9) is therefore made by a short-lived thread that
 * joins pid 1's mount namespace. Where pid 1 may not be looked at, the nearest ancestor with a
 * different mount namespace serves; where there is none, the current one. When joining is
 * refused the function runs in the current one, with one warning per process.
 */
#ifndef HOSTNS_H
#define HOSTNS_H

/**
 * hostns_call() - run fn(arg) there and wait for it
 * The thread keeps the caller's network namespace; its root and working directory are the host's.
 * Any thread. Return: fn's value, or -errno when the thread could not be made.
 */
int hostns_call(int (*fn)(void *arg), void *arg);

#endif
