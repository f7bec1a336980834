/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "hostns.h"
#include "log.h"

enum { ANCESTORS_MAX = 32 };

struct call {
	int (*fn)(void *arg);
	void *arg;
	int ns_fd;
	int ret;
};

static int mnt_open(const char *who)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%s/ns/mnt", who);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static bool same_file(int a, int b)
{
	struct stat sa, sb;

	return !fstat(a, &sa) && !fstat(b, &sb) && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

static long parent_of(const char *who)
{
	char path[64], line[128];
	long ppid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/status", who);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "PPid: %ld", &ppid) == 1)
			break;
	fclose(f);
	return ppid;
}

/* Nearest ancestor in another mount namespace. Return: fd, or -1 */
static int ancestor_mnt(int own)
{
	char who[32] = "self";

	for (int i = 0; i < ANCESTORS_MAX; i++) {
		long pid = parent_of(who);
		int fd;

		if (pid <= 1)
			return -1;
		snprintf(who, sizeof(who), "%ld", pid);
		fd = mnt_open(who);
		if (fd < 0)
			return -1;
		if (!same_file(fd, own))
			return fd;
		close(fd);
	}
	return -1;
}

static void warn_once(int err)
{
	static atomic_flag warned = ATOMIC_FLAG_INIT;

	if (atomic_flag_test_and_set(&warned))
		return;
	errno = err;
	log_warn("cannot enter the host's mount namespace, pins stay in this one");
}

/* The namespace to join, or -1 to stay. */
static int host_mnt(void)
{
	int own = mnt_open("thread-self"), fd = mnt_open("1");
	int err = errno;

	if (own < 0) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	if (fd < 0) {
		fd = ancestor_mnt(own);
		if (fd < 0) /* everybody we can see lives where we do: that is the host's, then */
			log_debug("pid 1's mount namespace: %s; staying in this one",
				  strerror(err));
	} else if (same_file(fd, own)) {
		close(fd);
		fd = -1;
	}
	close(own);
	return fd;
}

static void *run(void *p)
{
	struct call *c = p;

	/* a mount namespace can only be joined by a task that shares its root with nobody */
	if (unshare(CLONE_FS) || setns(c->ns_fd, CLONE_NEWNS))
		warn_once(errno);
	c->ret = c->fn(c->arg);
	return NULL;
}

int hostns_call(int (*fn)(void *arg), void *arg)
{
	struct call c = {.fn = fn, .arg = arg, .ns_fd = host_mnt()};
	pthread_t t;
	int err;

	if (c.ns_fd < 0)
		return fn(arg);
	err = pthread_create(&t, NULL, run, &c);
	if (!err)
		err = pthread_join(t, NULL);
	close(c.ns_fd);
	return err ? -err : c.ret;
}
