/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <arpa/inet.h>
#include "encap.h"
#include "load.h"
#include "log.h"

int encap_open(struct daemon *d)
{
	struct settings_ent set;
	int err;

	if (d->encap.udp_port)
		return 0;
	err = socks_open_kernel(&d->encap, d->underlay_fd);
	if (!err)
		err = load_settings_get(d->load, &set);
	if (!err) {
		set.kernel_port_be = htons(d->encap.udp_port);
		err = load_settings_set(d->load, &set);
	}
	if (err) {
		log_rl("a socket for the kernel's ESP in UDP: %s", strerror(-err));
		socks_close(&d->encap);
		return err;
	}
	log_debug("the kernel's ESP in UDP comes by port %u", d->encap.udp_port);
	d->protect_dirty = true; /* fragments show its number */
	if (d->on_socks)
		d->on_socks(d);
	return 0;
}

void encap_adopt(struct daemon *d)
{
	struct settings_ent set;

	if (!load_settings_get(d->load, &set) && set.kernel_port_be)
		encap_open(d);
}
