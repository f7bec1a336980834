/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * shortcut - devices whose packets skip this host's stack on their way into a link: lan_in
 * (bpf/ipsec_lan.bpf.c) on what [underlay] shortcut names. Control thread only.
 */
#ifndef SHORTCUT_H
#define SHORTCUT_H

#include "links.h"

struct shortcut_dev {
	int ifindex;
	char name[IFNAMSIZ];
	int err; /* why lan_in is not on it: -EOPNOTSUPP, -EBUSY, ...; 0 = it is */
};

/** shortcut_refresh() - find the devices again, attach and detach; part of underlay_refresh(). Return: 0 or -errno of netlink */
int shortcut_refresh(struct daemon *d);

#endif
