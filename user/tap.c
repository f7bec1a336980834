/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>
#include "feature.h"
#include "ns.h"
#include "tap.h"
#include "util.h"

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

/* How long the kernel waits for the next datagram of a flow: some writes' worth, little beside a round trip. */
#define GATHER_NS "20000"

struct open_args {
	struct tap *t;
	unsigned int index;
	uint32_t queue;
};

static int set_up(struct open_args *a, const char *name)
{
	struct ifreq ifr = {0};
	int s, err = 0;

	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s < 0)
		return -errno;
	strcpy(ifr.ifr_name, name);
	if (ioctl(s, SIOCGIFINDEX, &ifr))
		goto out;
	a->t->ifindex = ifr.ifr_ifindex;
	ifr.ifr_qlen = a->queue;
	if (ioctl(s, SIOCSIFTXQLEN, &ifr))
		goto out;
	ifr.ifr_mtu = 65521; /* raw jumbo packets arrive too; the link's own MTU decides */
	if (ioctl(s, SIOCSIFMTU, &ifr))
		goto out;
	if (ioctl(s, SIOCGIFFLAGS, &ifr))
		goto out;
	ifr.ifr_flags |= IFF_UP | IFF_NOARP;
	if (ioctl(s, SIOCSIFFLAGS, &ifr))
		goto out;
	close(s);
	return 0;
out:
	err = -errno;
	close(s);
	return err;
}

/* ---- a kernel without USO in a TAP: let it gather ---- */

/* sysfs as this thread's namespace has it, mounted nowhere: what a device's timer waits has no other name there. */
static int write_sysfs(const char *path, const char *value)
{
	int fs = fsopen("sysfs", FSOPEN_CLOEXEC), mnt = -1, fd = -1, err = 0;

	if (fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) || (mnt = fsmount(fs, FSMOUNT_CLOEXEC, 0)) < 0 ||
	    (fd = openat(mnt, path, O_WRONLY | O_CLOEXEC)) < 0 || write(fd, value, strlen(value)) < 0)
		err = -errno;
	if (fd >= 0)
		close(fd);
	if (mnt >= 0)
		close(mnt);
	if (fs >= 0)
		close(fs);
	return err;
}

/*
 * Datagrams written one by one run through the stack one by one, and that is most of what they cost. The TAP's own
 * NAPI looks at each first: GRO holds it for the few microseconds in which the next of its flow is written, and
 * what goes on is the super-packet that we may not write ourselves. It verifies checksums before.
 */
static int gather(const char *name)
{
	static const char *const forwards[] = {"rx-udp-gro-forwarding", NULL};
	char path[64];
	int err = feature_set(name, forwards, true);

	snprintf(path, sizeof path, "class/net/%s/gro_flush_timeout", name);
	return err ? err : write_sysfs(path, GATHER_NS);
}

/* ---- open ---- */

static int open_as(struct open_args *a, short flags)
{
	const unsigned int base = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	struct ifreq ifr = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags)};
	int fd, err, sz = TAP_VNET_LEN;

	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "tap%u", a->index);
	if (ioctl(fd, TUNSETIFF, &ifr) || ioctl(fd, TUNSETVNETHDRSZ, &sz))
		goto fail;
	a->t->uso = !ioctl(fd, TUNSETOFFLOAD, base | TUN_F_USO4 | TUN_F_USO6);
	if (!a->t->uso && ioctl(fd, TUNSETOFFLOAD, base))
		goto fail;
	a->t->fd = fd;
	err = flags & IFF_NAPI ? gather(ifr.ifr_name) : 0;
	if (!err)
		err = set_up(a, ifr.ifr_name);
	if (err)
		tap_close(a->t);
	return err;
fail:
	err = -errno;
	close(fd);
	return err;
}

/* The device lands in the namespace of the thread that opens /dev/net/tun. */
static int open_inside(void *arg)
{
	struct open_args *a = arg;
	int err = open_as(a, 0);

	if (err || a->t->uso)
		return err;
	tap_close(a->t);
	a->t->gathers = !open_as(a, IFF_NAPI);
	return a->t->gathers ? 0 : open_as(a, 0);
}

int tap_open(struct tap *t, int netns_fd, unsigned int index, uint32_t queue)
{
	struct open_args a = {.t = t, .index = index, .queue = queue};

	t->fd = -1;
	return ns_call(netns_fd, open_inside, &a);
}

void tap_close(struct tap *t)
{
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

int tap_read(struct tap *t, uint8_t *buf, uint32_t room)
{
	ssize_t n = read(t->fd, buf, room);

	return n < 0 ? -errno : (int)n;
}

int tap_writev(struct tap *t, const struct iovec *iov, int n)
{
	ssize_t r = writev(t->fd, iov, n);

	return r < 0 ? -errno : 0;
}
