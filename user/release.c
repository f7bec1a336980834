/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>
#include "device.h"
#include "guard.h"
#include "guardian.h"
#include "load.h"
#include "ns.h"
#include "paths.h"
#include "release.h"
#include "xfrm.h"

static void note(int *first, int err, FILE *errs, const char *what)
{
	if (!err || err == -ENOENT)
		return;
	fprintf(errs, "%s: %s\n", what, strerror(-err));
	if (!*first)
		*first = err;
}

static void del_b(void *arg, const struct nl_link *l)
{
	if (l->name[0] == 'b' && !strcmp(l->kind, "veth"))
		nl_link_del(arg, l->ifindex);
}

/* Deleting the backend ends takes the links with them, whichever namespace they live in. */
static int delete_links(const char *instance)
{
	int created, fd = ns_backend_open(instance, &created), err;
	struct nl *nl;

	if (fd < 0)
		return fd;
	err = nl_open(&nl, fd);
	if (!err) {
		for (unsigned int i = 0; i < LINK_MAX / DEVICE_GROUP_LINKS; i++)
			nl_group_del(nl, DEVICE_GROUP + i); /* most have none */
		err = nl_link_each(nl, del_b, nl); /* what was made before there were groups */
		nl_close(nl);
	}
	close(fd);
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

/* States and policies of ours; a kernel without XFRM has none. */
static int release_kernel(const char *instance)
{
	struct nl *bus;
	int err = nl_open_bus(&bus, -1, NETLINK_XFRM);

	if (err)
		return 0;
	err = xfrm_sweep(bus, XFRM_IF_ID_MASK, xfrm_if_id(instance), NULL, NULL);
	nl_close(bus);
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
	note(&first, delete_links(instance), errs, "links");
	note(&first, release_kernel(instance), errs, "the kernel's states");
	note(&first, release_guards(instance), errs, "guards");
	note(&first, load_release(pin), errs, pin);
	note(&first, guardian_quit(run), errs, "guardian");
	note(&first, ns_backend_remove(instance), errs, "backend namespace");
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
