/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "log.h"
#include "wish.h"

enum { WISH_PATH = sizeof(((struct daemon *)0)->state_dir) + IFNAMSIZ + 8 };

static void name_it(const struct daemon *d, const char *link, char path[WISH_PATH])
{
	snprintf(path, WISH_PATH, "%s/ike%s%s", d->state_dir, *link ? "/" : "", link);
}

void wish_recall(const struct daemon *d, struct link *l)
{
	char path[WISH_PATH];

	name_it(d, l->conf.name, path);
	l->ike_want = l->conf.ike[0] && !access(path, F_OK);
}

static int make(const struct daemon *d, const char *path)
{
	char dir[WISH_PATH];
	int fd;

	name_it(d, "", dir);
	if (mkdir(dir, 0700) && errno != EEXIST)
		return -errno;
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

void wish_set(const struct daemon *d, struct link *l, bool want)
{
	char path[WISH_PATH];
	int err;

	if (l->ike_want == want)
		return;
	l->ike_want = want;
	name_it(d, l->conf.name, path);
	err = want ? make(d, path) : unlink(path) && errno != ENOENT ? -errno : 0;
	if (err)
		log_rl("%s: %s: whether it has SAs will not be known after a restart", path, strerror(-err));
}
