/* SPDX-License-Identifier: (GPL-2.0-or-later OR BSD-2-Clause) */
/*
 * The kernel's types and macros. Programs here touch nothing but UAPI structures, whose layout does not
 * change: no BTF is read when they are built, and none relocated when they are loaded (that took the
 * daemon 200 ms at every start).
 */
#ifndef KDEFS_BPF_H
#define KDEFS_BPF_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>

/* what the UAPI headers leave out, or cannot give without a C library behind them (linux/icmp.h) */
struct frag_hdr {
	__u8 nexthdr, reserved;
	__be16 frag_off;
	__be32 identification;
};

#define ICMP_CHECKSUM_OFF 2
#define IP_MF 0x2000
#define IP_OFFSET 0x1FFF
#define IP6_FRAG_OFFSET 0xFFF8
#define NEXTHDR_HOP 0
#define NEXTHDR_ROUTING 43
#define NEXTHDR_FRAGMENT 44
#define NEXTHDR_ICMP 58
#define NEXTHDR_DEST 60

#endif
