// SPDX-License-Identifier: GPL-2.0-or-later
/* What comes in at one device leaves by another: bare.c's link. */
#include "kdefs.bpf.h"
#include <bpf/bpf_helpers.h>

const volatile __u32 to;

SEC("tc")
int forward(struct __sk_buff *skb)
{
	return (int)bpf_redirect(to, 0);
}

char LICENSE[] SEC("license") = "GPL";
