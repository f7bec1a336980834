/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "ns.h"
#include "tap.h"

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

struct open_args {
	struct tap *t;
	unsigned int index;
	uint32_t queue;
};

/* The device lands in the namespace of the thread that opens /dev/net/tun. */
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

static int open_inside(void *arg)
{
	const unsigned int base = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	struct open_args *a = arg;
	struct ifreq ifr = {0};
	int fd, err, sz = TAP_VNET_LEN;

	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ifr.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "tap%u", a->index);
	if (ioctl(fd, TUNSETIFF, &ifr) || ioctl(fd, TUNSETVNETHDRSZ, &sz))
		goto fail;
	a->t->uso = !ioctl(fd, TUNSETOFFLOAD, base | TUN_F_USO4 | TUN_F_USO6);
	if (!a->t->uso && ioctl(fd, TUNSETOFFLOAD, base))
		goto fail;
	a->t->fd = fd;
	err = set_up(a, ifr.ifr_name);
	if (err)
		close(fd);
	return err;
fail:
	err = -errno;
	close(fd);
	return err;
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
