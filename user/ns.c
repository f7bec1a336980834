// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ns - see ns.h. Everything that touches a path under /run/netns runs through hostns_call(): the
 * daemon may live in a private mount namespace, the backend namespace must not (I9).
 *
 * /run/netns is prepared the way iproute2 does it (a shared mount of itself) and locked with the
 * same flock on the directory, so that `ip netns add` and two starters of ours exclude each other.
 */
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "hostns.h"
#include "log.h"
#include "ns.h"

#define RUN_DIR "/run/netns"
#define SELF_NS "/proc/thread-self/ns/net"

enum { NS_PATH_MAX = 4096 };

struct backend {
	char path[NS_PATH_MAX];
	int fd;
	int created;
};

/* ---- moving and calling ---- */

int ns_enter(int netns_fd)
{
	int saved = open(SELF_NS, O_RDONLY | O_CLOEXEC);
	int err;

	if (saved < 0)
		return -errno;
	if (netns_fd < 0 || !setns(netns_fd, CLONE_NEWNET))
		return saved;
	err = -errno;
	close(saved);
	return err;
}

void ns_restore(int saved_fd)
{
	/* going on in a foreign namespace would route envelopes where nobody asked for them */
	if (setns(saved_fd, CLONE_NEWNET))
		fatal("cannot return to our own network namespace");
	close(saved_fd);
}

struct call {
	int netns_fd;
	int (*fn)(void *arg);
	void *arg;
	int ret;
};

static void *call_thread(void *p)
{
	struct call *c = p;

	c->ret = setns(c->netns_fd, CLONE_NEWNET) ? -errno : c->fn(c->arg);
	return NULL;
}

int ns_call(int netns_fd, int (*fn)(void *arg), void *arg)
{
	struct call c = {.netns_fd = netns_fd, .fn = fn, .arg = arg};
	sigset_t all, old;
	pthread_t t;
	int err;

	if (netns_fd < 0)
		return fn(arg);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all,
			&old); /* signals stay with the threads that expect them */
	err = pthread_create(&t, NULL, call_thread, &c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err)
		return -err;
	pthread_join(t, NULL);
	return c.ret;
}

int ns_sysctl(const char *path, const char *value)
{
	char file[256];
	int fd, err = 0;

	if (strstr(path, "..") ||
	    snprintf(file, sizeof file, "/proc/sys/%s", path) >= (int)sizeof file)
		return -EINVAL;
	fd = open(file, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, value, strlen(value)) < 0)
		err = -errno;
	close(fd);
	return err;
}

int ns_sysctl_get(const char *path, long *value)
{
	char file[256];
	FILE *f;
	int n;

	if (strstr(path, "..") || snprintf(file, sizeof file, "/proc/sys/%s", path) >= (int)sizeof file)
		return -EINVAL;
	f = fopen(file, "re");
	if (!f)
		return -errno;
	n = fscanf(f, "%ld", value);
	fclose(f);
	return n == 1 ? 0 : -EINVAL;
}

/* ---- opening ---- */

static bool is_netns(int fd)
{
	return ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET;
}

/* A network namespace, or nothing: a stale file under /run/netns opens as well. */
static int open_netns(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	if (is_netns(fd))
		return fd;
	close(fd);
	return -EINVAL;
}

static int open_fn(void *arg)
{
	return open_netns(arg);
}

int ns_open(const char *name)
{
	char path[NS_PATH_MAX];
	int n, fd;

	n = snprintf(path, sizeof path, strchr(name, '/') ? "%s" : RUN_DIR "/%s", name);
	if (!*name || n >= (int)sizeof path)
		return -EINVAL;
	fd = hostns_call(open_fn, path);
	/* a path may also mean the caller's view (containers, /proc/self/...) */
	return fd < 0 ? open_netns(path) : fd;
}

struct naming {
	struct stat self;
	char *buf;
	unsigned int len;
};

static int find_name(void *arg)
{
	struct naming *nm = arg;
	int err = -ENOENT;
	struct dirent *e;
	struct stat st;
	DIR *d = opendir(RUN_DIR);

	if (!d)
		return -ENOENT;
	while (err && (e = readdir(d))) {
		if (fstatat(dirfd(d), e->d_name, &st, 0))
			continue;
		if (st.st_dev != nm->self.st_dev || st.st_ino != nm->self.st_ino)
			continue;
		if (snprintf(nm->buf, nm->len, "%s", e->d_name) < (int)nm->len)
			err = 0;
	}
	closedir(d);
	return err;
}

int ns_name(char *buf, unsigned int len)
{
	struct naming nm = {.buf = buf, .len = len};

	if (stat(SELF_NS, &nm.self))
		return -errno;
	return hostns_call(find_name, &nm);
}

/* ---- the backend namespace ---- */

static int share_run_dir(void)
{
	if (!mount("", RUN_DIR, "none", MS_SHARED | MS_REC, NULL))
		return 0;
	if (errno != EINVAL) /* EINVAL: not a mount point yet */
		return -errno;
	if (mount(RUN_DIR, RUN_DIR, "none", MS_BIND | MS_REC, NULL))
		return -errno;
	return mount("", RUN_DIR, "none", MS_SHARED | MS_REC, NULL) ? -errno : 0;
}

/* Return: the directory, locked until it is closed. */
static int lock_run_dir(void)
{
	int fd, err;

	if (mkdir(RUN_DIR, 0755) && errno != EEXIST)
		return -errno;
	fd = open(RUN_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (flock(fd, LOCK_EX)) {
		if (errno == EINTR)
			continue;
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/* The bind of the directory on itself is the same inode: one lock serves before and after. */
static int prepare_run_dir(void)
{
	int lock = lock_run_dir(), err;

	if (lock < 0)
		return lock;
	err = share_run_dir();
	if (!err)
		return lock;
	close(lock);
	return err;
}

/* A new namespace inherits forwarding from the first one: state every value. */
static int quieten(void *arg)
{
	static const struct {
		const char *path, *value;
	} set[] = {
		{"net/ipv4/ip_forward", "0"},
		{"net/ipv4/conf/default/forwarding", "0"},
		{"net/ipv6/conf/all/forwarding", "0"},
		{"net/ipv6/conf/default/forwarding", "0"},
		{"net/ipv6/conf/all/disable_ipv6", "1"},
		{"net/ipv6/conf/default/disable_ipv6", "1"},
	};
	const int *n = arg;
	int err;

	for (int i = 0; i < (n ? *n : (int)(sizeof set / sizeof *set)); i++) {
		err = ns_sysctl(set[i].path, set[i].value);
		if (err && err != -ENOENT) /* a kernel without IPv6 */
			return err;
	}
	return 0;
}

/* An empty file to mount on. Return: 1 made, 0 a stale one stands there, or -errno. */
static int mount_point(const char *path)
{
	int fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);
	struct stat st;

	if (fd >= 0) {
		close(fd);
		return 1;
	}
	if (errno != EEXIST || lstat(path, &st))
		return -errno;
	return S_ISREG(st.st_mode) && !st.st_size ? 0 : -EEXIST;
}

static int fill_mount_point(const char *path)
{
	int err = unshare(CLONE_NEWNET) ? -errno : quieten(NULL);

	if (!err && mount(SELF_NS, path, "none", MS_BIND, NULL))
		err = -errno;
	return err;
}

/* It is bound only when it is configured: whoever finds it finds it quiet. */
static int make_backend(struct backend *b)
{
	int made = mount_point(b->path), saved, err;

	if (made < 0)
		return made;
	saved = ns_enter(-1); /* hostns_call() may have left us in the caller's own thread */
	if (saved < 0)
		return saved;
	err = fill_mount_point(b->path);
	ns_restore(saved);
	if (err) {
		if (made)
			unlink(b->path);
		return err;
	}
	b->created = 1;
	return open_netns(b->path);
}

static int open_backend(void *arg)
{
	struct backend *b = arg;
	int lock = prepare_run_dir();

	if (lock < 0)
		return lock;
	b->fd = open_netns(b->path);
	if (b->fd == -ENOENT || b->fd == -EINVAL || b->fd == -EACCES)
		b->fd = make_backend(b);
	close(lock);
	return b->fd;
}

static int backend_path(const char *instance, struct backend *b)
{
	if (!*instance || strchr(instance, '/') || strstr(instance, ".."))
		return -EINVAL;
	return snprintf(b->path, sizeof b->path, RUN_DIR "/espwire-%s", instance) >= 256 ? -EINVAL
											 : 0;
}

int ns_backend_open(const char *instance, int *created)
{
	struct backend b = {.fd = -1};
	int forwarding_only =
		4; /* adopted: IPv6 may have been switched on for single devices since */
	int fd = backend_path(instance, &b), err;

	if (fd)
		return fd;
	fd = hostns_call(open_backend, &b);
	if (created)
		*created = fd >= 0 && b.created;
	if (fd < 0 || b.created)
		return fd;
	err = ns_call(fd, quieten, &forwarding_only);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

static int remove_backend(void *arg)
{
	struct backend *b = arg;
	int lock = lock_run_dir(), err = 0;

	if (lock < 0)
		return lock;
	if (umount2(b->path, MNT_DETACH) && errno != EINVAL && errno != ENOENT)
		err = -errno;
	if (!err && unlink(b->path) && errno != ENOENT)
		err = -errno;
	close(lock);
	return err;
}

int ns_backend_remove(const char *instance)
{
	struct backend b = {.fd = -1};
	int err = backend_path(instance, &b);

	return err ? err : hostns_call(remove_backend, &b);
}
