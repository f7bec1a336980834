/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>
#include "guard.h"
#include "guardian.h"
#include "load.h"
#include "ns.h"
#include "paths.h"
#include "release.h"

static void note(int *first, int err, FILE *errs, const char *what)
{
	if (!err || err == -ENOENT)
		return;
	fprintf(errs, "%s: %s\n", what, strerror(-err));
	if (!*first)
		*first = err;
}

/* struct names - the links of the instance, as their backend ends tell */
struct names {
	char (*v)[IFNAMSIZ];
	unsigned int n;
};

static void note_b(void *arg, const struct nl_link *l)
{
	struct names *names = arg;
	void *p;

	if (l->name[0] != 'b' || strcmp(l->kind, "veth"))
		return;
	p = realloc(names->v, (names->n + 1) * sizeof *names->v);
	if (!p)
		return;
	names->v = p;
	snprintf(names->v[names->n++], IFNAMSIZ, "ipsec%.9s", l->name + 1);
}

static int list_links(const char *instance, struct names *names)
{
	int created, fd = ns_backend_open(instance, &created), err;
	struct nl *nl;

	if (fd < 0)
		return fd;
	err = nl_open(&nl, fd);
	if (!err) {
		err = nl_link_each(nl, note_b, names);
		nl_close(nl);
	}
	close(fd);
	return err;
}

static bool any_left(struct nl *nl, const struct names *names)
{
	struct nl_link l;

	for (unsigned int i = 0; i < names->n; i++)
		if (!nl_link_get(nl, names->v[i], &l) && !strcmp(l.kind, "veth"))
			return true;
	return false;
}

/*
 * With the last holder of the backend namespace gone the kernel takes every link in one go,
 * whichever namespace it lives in; a thousand single deletions would take a minute. It does so
 * in its own time: wait.
 */
static int delete_links(const char *instance, const char *run)
{
	struct timespec nap = {0, 20 * 1000 * 1000};
	struct names names = {0};
	struct nl *nl;
	int err = list_links(instance, &names), e = guardian_quit(run);

	if (!err && e != -ENOENT)
		err = e;
	e = ns_backend_remove(instance);
	if (!err && e != -ENOENT)
		err = e;
	if (!err && !nl_open(&nl, -1)) {
		for (int i = 0; i < 1500 && any_left(nl, &names); i++)
			nanosleep(&nap, NULL);
		nl_close(nl);
	}
	free(names.v);
	return err;
}

/* Workload namespaces are not recorded: guards of this instance are looked for in every named one. */
static int release_guards(const char *instance)
{
	DIR *dir = opendir("/run/netns");
	struct dirent *e;
	struct nl *nl;
	int err, fd;

	err = nl_open(&nl, -1);
	if (!err) {
		err = guard_release(nl, -1, instance);
		nl_close(nl);
	}
	while (dir && (e = readdir(dir))) {
		if (e->d_name[0] == '.' || !strncmp(e->d_name, "espwire-", 8))
			continue;
		fd = ns_open(e->d_name);
		if (fd < 0)
			continue;
		if (!nl_open(&nl, fd)) {
			guard_release(nl, fd, instance);
			nl_close(nl);
		}
		close(fd);
	}
	if (dir)
		closedir(dir);
	return err;
}

int release_instance(const char *instance, FILE *errs)
{
	char run[PATHS_LEN], pin[PATHS_LEN], path[PATHS_LEN + 32];
	int lock, first = 0;

	paths_run(run, instance);
	paths_pin(pin, instance);
	snprintf(path, sizeof path, "%s/lock", run);
	lock = open(path, O_RDWR | O_CLOEXEC);
	if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB)) {
		close(lock);
		fprintf(errs, "ipsecd of instance '%s' is running: stop it first\n", instance);
		return -EBUSY;
	}
	note(&first, delete_links(instance, run), errs, "links and backend namespace");
	note(&first, release_guards(instance), errs, "guards");
	note(&first, load_release(pin), errs, pin);
	unlink(path);
	snprintf(path, sizeof path, "%s/guardian.sock", run);
	unlink(path);
	snprintf(path, sizeof path, "%s/ctl.sock", run);
	unlink(path);
	rmdir(run);
	if (lock >= 0)
		close(lock);
	return first;
}
