/* SPDX-License-Identifier: (GPL-2.0-or-later OR BSD-2-Clause) */
/* The kernel's macros: BTF, hence vmlinux.h, carries types and enums only. */
#ifndef KDEFS_BPF_H
#define KDEFS_BPF_H

#define ETH_HLEN 14
#define ETH_ALEN 6
#define ETH_P_IP 0x0800
#define ETH_P_ARP 0x0806
#define ETH_P_8021Q 0x8100
#define ETH_P_IPV6 0x86DD
#define ETH_P_8021AD 0x88A8

#define IP_MF 0x2000
#define IP_OFFSET 0x1FFF
#define IP6_FRAG_OFFSET 0xFFF8
#define NEXTHDR_HOP 0
#define NEXTHDR_ROUTING 43
#define NEXTHDR_FRAGMENT 44
#define NEXTHDR_ICMP 58
#define NEXTHDR_DEST 60

#define TC_ACT_UNSPEC (-1) /* same number as TCX_NEXT: others may still have their say */
#define TC_ACT_SHOT 2
#define TC_ACT_REDIRECT 7

#define PACKET_HOST 0

#endif
