/* SPDX-License-Identifier: GPL-2.0-or-later */
/* In place of the kernel's types, for a BPF program that is compiled into a test: those of the UAPI headers. */
#ifndef USER_VMLINUX_H
#define USER_VMLINUX_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>

struct frag_hdr {
	__u8 nexthdr, reserved;
	__be16 frag_off;
	__be32 identification;
};

/* the C library's spelling */
#define in6_u	   __in6_u
#define u6_addr32  __u6_addr32
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))

#endif
