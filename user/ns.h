/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ns - network namespaces: the private backend namespace and running code inside another one.
 *
 * The backend namespace of an instance is a bind mount /run/netns/espwire-<instance>, made in the
 * host's mount namespace (I9): it outlives the unit, its sandbox and SIGKILL. forwarding is 0, no
 * routes, no addresses, IPv6 disabled on its devices.
 */
#ifndef NS_H
#define NS_H

/**
 * ns_backend_open() - open, or create, the backend namespace; one of several starters creates it
 * A stale empty file of that name is mounted over; anything else there is -EEXIST. When the
 * namespace is adopted only forwarding = 0 is stated again. @created: may be NULL.
 * Return: fd (CLOEXEC) or -errno
 */
int ns_backend_open(const char *instance, int *created);
/** ns_backend_remove() - unmount and unlink (release); nothing there is success */
int ns_backend_remove(const char *instance);
/** ns_open() - by name under /run/netns, or a path. Return: fd or -errno */
int ns_open(const char *name);
/** ns_name() - name of the calling thread's namespace as under /run/netns (same inode). Return: 0 or -ENOENT */
int ns_name(char *buf, unsigned int len);
/** ns_call() - run fn(arg) in a short-lived thread inside the namespace (-1: at once, here). Return: fn's value or -errno */
int ns_call(int netns_fd, int (*fn)(void *arg), void *arg);
/** ns_sysctl() - write /proc/sys/PATH of the calling thread's namespace. Return: 0 or -errno */
int ns_sysctl(const char *path, const char *value);
/** ns_sysctl_get() - read a number there. Return: 0 or -errno */
int ns_sysctl_get(const char *path, long *value);
/** ns_enter() / ns_restore() - move the calling thread (-1: stay); returns an fd to give back to ns_restore(), or -errno */
int ns_enter(int netns_fd);
void ns_restore(int saved_fd);

#endif
