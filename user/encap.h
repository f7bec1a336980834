/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * encap - the way into the kernel's ESP for what comes in UDP (RFC 3948): a pair of sockets in the underlay namespace,
 * whose port sock_in (bpf/ipsec_sock.bpf.c) is told. One for all links and there from the first that needs it; like
 * the workers' sockets it is held by the guardian, too, so that states outlive us in UDP as well. Control thread only.
 */
#ifndef ENCAP_H
#define ENCAP_H

#include "links.h"

/** encap_open() - be sure that it is there. Return: 0 or -errno, told */
int encap_open(struct daemon *d);
/** encap_adopt() - a predecessor had one, and its states still want it: from here on ours takes its place */
void encap_adopt(struct daemon *d);

#endif
