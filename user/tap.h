/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tap - the GSO funnel: a TAP with virtio headers in the backend namespace. Super-packets come
 * out of it whole and go back in whole. One per worker; it dies with the daemon.
 */
#ifndef TAP_H
#define TAP_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct tap {
	int fd;
	int ifindex; /* in the backend namespace */
	bool uso;    /* the kernel takes and gives UDP super-packets (6.2) */
	bool gathers; /* where it does not: it makes them itself of datagrams that are written one after the other */
};

enum { TAP_VNET_LEN = sizeof(struct virtio_net_hdr), TAP_L2_LEN = 14, TAP_READ_MAX = TAP_VNET_LEN + TAP_L2_LEN + 65535 + 40 };

/**
 * tap_open() - create tap<index> in the namespace, up, with the given queue length
 * Any thread. Return: 0 or -errno.
 */
int tap_open(struct tap *t, int netns_fd, unsigned int index, uint32_t queue);
void tap_close(struct tap *t);

/** tap_read() - one frame: virtio header, Ethernet header, packet. Return: bytes, -EAGAIN, -errno */
int tap_read(struct tap *t, uint8_t *buf, uint32_t room);
/** tap_writev() - one frame, the virtio header first. Return: 0 or -errno */
int tap_writev(struct tap *t, const struct iovec *iov, int n);

#endif
